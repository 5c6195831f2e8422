"""What an application or a source uses to talk to Ciclo: predictions, labels, features, history.

All of it is public: gRPC and Kafka messages as in protos/, which any language can send.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import grpc.aio
from aiokafka import AIOKafkaProducer
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import ArrayLike, NDArray

from ciclo.cloudevents import Envelope, encode
from ciclo.events.v1.feature_rows_observed_pb2 import FeatureRowsObserved
from ciclo.events.v1.labels_reported_pb2 import Label
from ciclo.features.v1 import feature_service_pb2 as features
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.serving.v1 import prediction_service_pb2 as serving
from ciclo.serving.v1.prediction_service_pb2_grpc import PredictionServiceStub
from ciclo.tensors import pack_column, unpack_column
from ciclo.topics import FEATURES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DEADLINE_SECONDS = 10.0
"""Of a prediction or a report."""

IMPORT_DEADLINE_SECONDS = 60.0
"""Of a chunk of history."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a caller got.

    Args:
        prediction_id: With a row's index it names the row for a label.
        outputs: By name, one value a row.
        version: Number of the version that answered.
        variant: champion, challenger or pinned.
        fallback_rows: Rows in which a feature was missing or too old, by its name.
    """

    prediction_id: str
    outputs: dict[str, NDArray[Any]]
    version: int
    variant: str
    fallback_rows: dict[str, int]


class Client:
    """Predictions and labels, on the one port for clients.

    Args:
        address: `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = PredictionServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Connects with the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def predict(
        self,
        model: str,
        columns: Mapping[str, ArrayLike],
        *,
        event_time_us: int | None = None,
        client_id: str = "",
    ) -> Prediction:
        """Predicts for rows named by their entities.

        Args:
            model: Name of the model.
            columns: Entities and request fields by name, one value a row each.
            event_time_us: When, in the world of the model; None: now.
            client_id: The caller's own id; echoed, never a key.

        Raises:
            grpc.aio.AioRpcError: Refused, with `google.rpc` details, or no answer.
        """
        request = serving.PredictRequest(
            model=model,
            columns=[pack_column(name, values) for name, values in columns.items()],
            client_id=client_id,
        )
        if event_time_us is not None:
            request.event_time.CopyFrom(stamp(event_time_us))
        answer = await self._stub.Predict(request, timeout=DEADLINE_SECONDS)
        return Prediction(
            prediction_id=answer.prediction_id,
            outputs={column.name: unpack_column(column) for column in answer.outputs},
            version=answer.version,
            variant=answer.variant,
            fallback_rows=dict(answer.fallback_rows),
        )

    async def report_labels(
        self, model: str, labels: Sequence[Label], *, request_id: str = ""
    ) -> int:
        """Reports the truth about rows; returns how many were stored.

        Args:
            model: Name of the model.
            labels: At most 10,000.
            request_id: Names the report, so that a repeat is stored once; empty: a new name.

        Raises:
            grpc.aio.AioRpcError: Refused, none of them stored, or no answer.
        """
        request = serving.ReportLabelsRequest(
            model=model, labels=labels, request_id=request_id or str(uuid.uuid4())
        )
        answer = await self._stub.ReportLabels(request, timeout=DEADLINE_SECONDS)
        return int(answer.accepted)


class Source:
    """Publishes rows of feature views, as a data pipeline would.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topic.
        name: Of the source; part of the events' source.
    """

    def __init__(self, bootstrap: str, env: str, name: str) -> None:
        self._bootstrap = bootstrap
        self._topic = FEATURES.name(env)
        self._source = f"/{env}/sources/{name}"

    async def __aenter__(self) -> Self:
        """Connects to Kafka."""
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Sends what waits, and closes the connection."""
        await self._producer.stop()

    async def publish(
        self,
        view: str,
        event_time_us: NDArray[Any],
        entities: Mapping[str, ArrayLike],
        fields: Mapping[str, ArrayLike],
        *,
        watermark_us: int | None = None,
    ) -> None:
        """Publishes rows that became known; returns once Kafka has them.

        Args:
            view: Name of the feature view.
            event_time_us: [n], when each row's values became true.
            entities: The view's entity keys by name, [n] each.
            fields: The values by name, [n] each; missing numbers are NaN.
            watermark_us: Every row up to this time has been sent; None: nothing is said.
        """
        message = FeatureRowsObserved(
            view=view,
            event_time_us=event_time_us.tolist(),
            entities=[pack_column(name, values) for name, values in entities.items()],
            fields=[pack_column(name, values) for name, values in fields.items()],
        )
        if watermark_us is not None:
            message.watermark_time.CopyFrom(stamp(watermark_us))
        envelope = Envelope(str(uuid.uuid4()), self._source, view, datetime.now(UTC))  # noqa: TID251 -- a program of its own
        record = encode(envelope, message)
        await self._producer.send_and_wait(
            self._topic, record.value, key=record.key, headers=list(record.headers)
        )


class Features:
    """The feature store as callers by tensor and sources see it.

    Args:
        address: `host:port` of the feature store.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: Any = FeatureServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Connects with the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def watermarks_us(self, feature_service: str) -> dict[str, int | None]:
        """Returns up to which event time each view is visible; None: nothing is known of it."""
        request = features.GetWatermarksRequest(feature_service=feature_service)
        answer = await self._stub.GetWatermarks(request, timeout=DEADLINE_SECONDS)
        return {
            w.view: microseconds(w.watermark_time) if w.HasField("watermark_time") else None
            for w in answer.watermarks
        }

    async def online(
        self, feature_service: str, entities: Mapping[str, ArrayLike], *, as_of_us: int
    ) -> dict[str, NDArray[Any]]:
        """Returns the newest values known at a time, one a row; missing numbers are NaN.

        Args:
            feature_service: Name of the feature service.
            entities: Entity keys by name, [n] each.
            as_of_us: What was known at this event time.
        """
        request = features.GetOnlineFeaturesRequest(
            feature_service=feature_service,
            entities=[pack_column(name, values) for name, values in entities.items()],
            as_of_time=stamp(as_of_us),
        )
        answer = await self._stub.GetOnlineFeatures(request, timeout=DEADLINE_SECONDS)
        return {column.name: unpack_column(column) for column in answer.features}

    async def import_observations(
        self,
        model: str,
        chunk_id: str,
        inputs: Mapping[str, ArrayLike],
        event_time_us: NDArray[Any],
        labels: NDArray[Any],
        label_time_us: NDArray[Any],
    ) -> int:
        """Stores labelled history; returns how many rows are new. A repeated chunk changes nothing.

        Args:
            model: Name of the model.
            chunk_id: Names the chunk.
            inputs: Entities and request fields by name, [n] each.
            event_time_us: [n].
            labels: [n]; NaN where never known.
            label_time_us: [n], when each label became known.
        """
        request = features.ImportObservationsRequest(
            model=model,
            chunk_id=chunk_id,
            inputs=[pack_column(name, values) for name, values in inputs.items()],
            event_time_us=event_time_us.tolist(),
            labels=labels.tolist(),
            label_time_us=label_time_us.tolist(),
        )
        answer = await self._stub.ImportObservations(request, timeout=IMPORT_DEADLINE_SECONDS)
        return int(answer.rows_stored)


def stamp(time_us: int) -> Timestamp:
    """Returns a protobuf timestamp of microseconds since the epoch."""
    found = Timestamp()
    found.FromDatetime(EPOCH + timedelta(microseconds=time_us))
    return found


def microseconds(found: Timestamp) -> int:
    """Returns microseconds since the epoch."""
    return (found.ToDatetime(UTC) - EPOCH) // timedelta(microseconds=1)
