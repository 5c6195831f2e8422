"""Protobuf ↔ domain, both ways; the only module that knows the messages."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from ciclo.common.v1.tensor_pb2 import Column, DoubleValues, StringValues
from ciclo.common.v1.version_pb2 import Variant
from ciclo.errors import Reject
from ciclo.events.v1.feature_rows_observed_pb2 import FeatureRowsObserved
from ciclo.events.v1.labels_reported_pb2 import LabelsReported
from ciclo.events.v1.predictions_served_pb2 import PredictionsServed, Purpose
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.features.v1 import feature_service_pb2 as rpc
from ciclo.tensors import unpack_column, unpack_tensor
from ciclo_feature_store.domain.answers import Answers
from ciclo_feature_store.domain.definitions import FeatureService, LoopState
from ciclo_feature_store.domain.feature_rows import FeatureRows, feature_rows
from ciclo_feature_store.domain.history import (
    HistoryColumn,
    HistoryStatus,
    Observations,
    Piece,
    constant,
    texts,
)
from ciclo_feature_store.domain.online import ViewValues
from ciclo_feature_store.domain.tasks import SkewAudit, Snapshot

FEATURE_EVENTS: tuple[type[Message], ...] = (FeatureRowsObserved,)
"""What becomes readable online at once."""

HISTORY_EVENTS: tuple[type[Message], ...] = (PredictionsServed, LabelsReported)
"""What is only kept."""

STATE_EVENT: type[Message] = RegistryState
"""Which loops are in force."""


_TEXTS = {
    "prediction_id": "prediction_ids",
    "client_id": "client_ids",
    "routing_key": "routing_keys",
    "omission": "omissions",
}
_INTEGERS = {
    "event_time": "event_time_us",
    "receive_time": "receive_time_us",
    "duration_us": "duration_us",
}

MOST_ROW = 2**31 - 1
"""Greatest `row` of a label; no request has as many rows."""

VALID_SECONDS = range(-62_135_596_800, 253_402_300_800)
"""What a `Timestamp` may say: from year 1 to year 9999."""

MODEL_NAME = r"[a-z][a-z0-9-]{0,62}"
"""Of a model; also a folder's."""


def time_us(time: Timestamp) -> int:
    """Returns microseconds since the epoch."""
    return time.seconds * 1_000_000 + time.nanos // 1_000


def timestamp(microseconds: int) -> Timestamp:
    """Returns a time from microseconds since the epoch."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def optional_us(message: Message, field: str) -> int | None:
    """Returns a time field in microseconds, None where it is absent.

    Raises:
        Reject: It lies outside the years 1 to 9999, as no valid `Timestamp` does.
    """
    if not message.HasField(field):
        return None
    time = getattr(message, field)
    if time.seconds not in VALID_SECONDS:
        raise Reject(f"{field} is {time.seconds} s, expected a year from 1 to 9999", field=field)
    return time_us(time)


def required_us(message: Message, field: str) -> int:
    """Returns a time field in microseconds.

    Raises:
        Reject: It is absent.
    """
    microseconds = optional_us(message, field)
    if microseconds is None:
        raise Reject(f"{field} is missing", field=field)
    return microseconds


def loop_state(message: RegistryState) -> LoopState:
    """Reads which loop is in force."""
    return LoopState(message.model, message.generation, message.loop_digest)


def observed_rows(message: Any) -> FeatureRows:
    """Reads a batch of feature rows.

    Raises:
        Reject: See `feature_rows`, `unpack_column`.
    """
    return feature_rows(
        message.view,
        np.array(message.event_time_us, dtype=np.int64),
        unpack_columns(message.entities),
        unpack_columns(message.fields),
        optional_us(message, "watermark_time"),
    )


def unpack_columns(columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    """Reads columns by name.

    Raises:
        Reject: A name occurs twice, or a column is malformed.
    """
    found = {column.name: unpack_column(column) for column in columns}
    if len(found) < len(columns):
        raise Reject("a column occurs twice", reason="MALFORMED_COLUMN", field="name")
    return found


def unpack_lists(columns: Sequence[Column]) -> dict[str, list[Any]]:
    """Reads columns by name as lists: for few rows, which NumPy would only slow down.

    Raises:
        Reject: A column has no values.
    """
    found = {}
    for column in columns:
        kind = column.WhichOneof("values")
        if kind is None:
            raise Reject(f"column {column.name!r} has no values", field=column.name)
        found[column.name] = list(getattr(column, kind).values)
    return found


def is_labels(message: Message) -> bool:
    """Tells labels from answers."""
    return isinstance(message, LabelsReported)


def history_rows(message: Any) -> int:
    """Returns how many rows a record has, near enough for deciding when to flush.

    Raises:
        Reject: The model has no name that a folder could have.
    """
    model = message.model if is_labels(message) else message.version.model
    if not re.fullmatch(MODEL_NAME, model):
        raise Reject(f"{model!r} is no name of a model", field="model")
    return len(message.labels) if is_labels(message) else sum(message.row_counts)


def answers(message: PredictionsServed) -> Answers:
    """Reads a batch of answers.

    Raises:
        Reject: A tensor is torn.
    """
    version = message.version
    return Answers(
        model=version.model,
        version=version.version,
        variant=_word(Variant.Name(message.variant)),
        purpose=_word(Purpose.Name(message.purpose)),
        bundle_digest=version.bundle_digest,
        batch_id=message.batch_id,
        row_counts=np.array(message.row_counts, dtype=np.int64),
        status_codes=np.array(message.status_codes, dtype=np.int64),
        texts={name: list(getattr(message, field)) for name, field in _TEXTS.items()},
        integers={
            name: np.array(getattr(message, field), dtype=np.int64)
            for name, field in _INTEGERS.items()
        },
        inputs={tensor.name: unpack_tensor(tensor) for tensor in message.inputs},
        outputs={tensor.name: unpack_tensor(tensor) for tensor in message.outputs},
    )


def label_piece(message: Any, offset: int, refuse: Callable[[int, str], None]) -> Piece:
    """Reads labels as rows of the table `labels`.

    Args:
        message: The report.
        offset: Of its record.
        refuse: Is told the index of each label that is left out, and why in UPPER_SNAKE_CASE.
    """
    reasons = [_why_refused(label) for label in message.labels]
    for index, reason in enumerate(reasons):
        if reason:
            refuse(index, reason)
    good = [label for label, reason in zip(message.labels, reasons, strict=True) if not reason]
    times = np.array([label.event_time_us for label in good], dtype=np.int64)
    columns = {
        "row_key": texts([label.row_key for label in good]),
        "prediction_id": texts([label.prediction_id for label in good]),
        "row": HistoryColumn("int32", np.array([label.row for label in good], dtype=np.int32)),
        "value": HistoryColumn("float64", np.array([label.value for label in good])),
        "event_time": HistoryColumn("timestamp", times),
        "_offset": constant("int64", offset, len(good)),
        "_index": HistoryColumn("int64", np.arange(len(good), dtype=np.int64)),
    }
    return Piece(message.model, "labels", columns)


def _why_refused(label: Any) -> str:
    if not np.isfinite(label.value):
        return "LABEL_NOT_FINITE"
    if not label.row_key and not label.prediction_id:
        return "LABEL_NAMES_NO_ROW"
    return "ROW_OUT_OF_RANGE" if label.row > MOST_ROW else ""


def observations(request: rpc.ImportObservationsRequest) -> Observations:
    """Reads a chunk of observations."""
    return Observations(
        request.model,
        request.chunk_id,
        unpack_columns(request.inputs),
        np.array(request.event_time_us, dtype=np.int64),
        np.array(request.labels, dtype=np.float64),
        np.array(request.label_time_us, dtype=np.int64),
    )


def online_answer(
    service: FeatureService, values: Sequence[ViewValues]
) -> rpc.GetOnlineFeaturesResponse:
    """Writes the values of a service's views."""
    response = rpc.GetOnlineFeaturesResponse(definitions_digest=service.digest)
    for view, found in zip(service.views, values, strict=True):
        for feature, column in zip(view.features, found.columns, strict=True):
            if feature.datatype == "string":
                strings = StringValues(values=column)
                response.features.append(Column(name=feature.name, strings=strings))
            else:
                doubles = DoubleValues(values=column)
                response.features.append(Column(name=feature.name, doubles=doubles))
        response.view_times.add(view=view.name, event_time_us=found.event_times_us)
    return response


def watermarks_answer(watermarks: Mapping[str, int | None]) -> rpc.GetWatermarksResponse:
    """Writes how far views are known."""
    return rpc.GetWatermarksResponse(
        watermarks=[
            rpc.ViewWatermark(
                view=view,
                watermark_time=None if microseconds is None else timestamp(microseconds),
            )
            for view, microseconds in watermarks.items()
        ]
    )


def snapshot_answer(snapshot: Snapshot) -> rpc.CreateSnapshotResponse:
    """Writes where a dataset is."""
    return rpc.CreateSnapshotResponse(
        dataset_digest=snapshot.digest,
        rows=snapshot.cut.rows,
        newest_event_time=timestamp(snapshot.cut.newest_event_time_us),
        unlabelled_rows=snapshot.cut.unlabelled_rows,
        table_versions=snapshot.cut.table_versions,
    )


def audit_answer(audit: SkewAudit) -> rpc.AuditSkewResponse:
    """Writes how rows differ."""
    return rpc.AuditSkewResponse(
        rows_audited=audit.rows_audited,
        rows_different=audit.rows_different,
        different_by_feature=audit.different_by_feature,
        examples=audit.examples,
    )


def status_answer(status: HistoryStatus) -> rpc.GetHistoryStatusResponse:
    """Writes how far history is stored."""
    return rpc.GetHistoryStatusResponse(
        rows=status.rows, next_offsets=status.next_offsets, table_urls=status.table_urls
    )


def _word(name: str) -> str:
    """PURPOSE_SERVED is `served`."""
    return name.partition("_")[2].lower()
