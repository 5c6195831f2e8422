"""The messages of `PredictionService` and `FeatureService`, to and from domain values."""

from collections.abc import Mapping, Sequence
from datetime import UTC

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.errors import Reject
from ciclo.features.v1.feature_service_pb2 import (
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
)
from ciclo.serving.v1.prediction_service_pb2 import (
    PredictRequest,
    PredictResponse,
    ReportLabelsRequest,
    ReportLabelsResponse,
)
from ciclo.tensors import MalformedColumn, pack_column, unpack_column
from ciclo_gateway.domain.labels import Truth
from ciclo_gateway.domain.questions import BadColumns, Columns, Features
from ciclo_gateway.ports.serving import Answered


def columns_of(request: PredictRequest) -> Columns:
    """Returns the columns of a request.

    Raises:
        BadColumns: One has no values, or two have the same name.
    """
    columns = {}
    for index, column in enumerate(request.columns):
        if column.name in columns:
            raise BadColumns(
                f"column {column.name!r} occurs twice", field=f"columns[{column.name}]"
            )
        try:
            columns[column.name] = unpack_column(column)
        except MalformedColumn as error:
            raise BadColumns(error.message, field=f"columns[{column.name or index}]") from error
    return columns


def event_time_us(request: PredictRequest) -> int | None:
    """Returns the event time that a caller gave, or None.

    Raises:
        Reject: It is no time.
    """
    if not request.HasField("event_time"):
        return None
    try:
        request.event_time.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise Reject(f"event_time is no time: {error}", field="event_time") from error
    return int(request.event_time.ToMicroseconds())


def predict_response(
    answered: Answered, *, fingerprint: str, fallback_rows: Mapping[str, int], client_id: str
) -> PredictResponse:
    """Returns an answer to a caller; outputs have one value a row."""
    return PredictResponse(
        prediction_id=answered.prediction_id,
        outputs=[
            pack_column(name, values.reshape(len(values), -1)[:, 0])
            for name, values in answered.outputs.items()
        ],
        version=answered.version,
        variant=answered.variant,
        feature_fingerprint=fingerprint,
        client_id=client_id,
        fallback_rows=fallback_rows,
    )


def truths_of(request: ReportLabelsRequest) -> Sequence[Truth]:
    """Returns the labels of a report."""
    return [
        Truth(
            row_key=label.row_key,
            prediction_id=label.prediction_id,
            row=label.row,
            value=label.value,
            event_time_us=label.event_time_us,
        )
        for label in request.labels
    ]


def labels_response(accepted: int) -> ReportLabelsResponse:
    """Returns how many labels were stored."""
    return ReportLabelsResponse(accepted=accepted)


def features_request(service: str, entities: Columns, as_of_us: int) -> GetOnlineFeaturesRequest:
    """Returns the question what was known of some rows."""
    as_of = Timestamp()
    as_of.FromMicroseconds(as_of_us)
    return GetOnlineFeaturesRequest(
        feature_service=service,
        entities=[pack_column(name, values) for name, values in entities.items()],
        as_of_time=as_of,
    )


def features_of(response: GetOnlineFeaturesResponse) -> Features:
    """Returns what was known."""
    return Features(
        values={column.name: unpack_column(column) for column in response.features},
        view_times_us={
            times.view: np.array(times.event_time_us, dtype=np.int64)
            for times in response.view_times
        },
    )
