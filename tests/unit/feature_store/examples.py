"""A small loop about flights, and events about it, for the tests of the feature store."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from aiokafka import ConsumerRecord
from google.protobuf.message import Message

from ciclo.cloudevents import Envelope, encode
from ciclo.common.v1.version_pb2 import Variant, VersionRef
from ciclo.events.v1.feature_rows_observed_pb2 import FeatureRowsObserved
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo.events.v1.predictions_served_pb2 import PredictionsServed, Purpose
from ciclo.loop import Loop, parse_loop
from ciclo.tensors import pack_column, pack_tensor
from ciclo_bundle import Field, Signature
from ciclo_feature_store import wire
from ciclo_feature_store.adapters.events import Event
from ciclo_feature_store.domain.definitions import (
    AppliedLoop,
    Definitions,
    Feature,
    FeatureService,
    View,
    apply_loop,
)

MODEL = "flight-delay"
HOUR_US = 3_600_000_000
START_US = 1_356_998_400_000_000  # 2013-01-01T00:00:00Z

LOOP_YAML = """
schema: ciclo.loop/v1
model: flight-delay
owner: flight-ops
recipe: recipe.py:FlightDelay
features: flight_delay
knowledge_lag: 1h
input:
  id: flight
  entities: [origin, carrier]
  request: {flight: string, distance: float32, departure: timestamp}
  fallback: {airport_delays: {older_than: 6h}}
output: {name: late}
label: {name: late, expected_within: 12h, never_after: 3d}
privacy: {never_store: [tailnum]}
quality: {metric: log_loss, correlated_within: 1d}
monitor: {false_alarms: {per: 365d}, degraded_if: {log_loss: {above_reference_by: 0.03}}}
retrain: {data: {last: 90d, holdout: 10d}}
rollout:
  shadow: {at_most: 35d}
  canary: {weights: [0.05], each: 5d, exposure_at_most: 1500}
  bake: {for: 7d}
"""

FEATURES_PY = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float32, String

origin = Entity(name="origin", value_type=ValueType.STRING)
carrier = Entity(name="carrier", value_type=ValueType.STRING)
weather = FeatureView(
    name="weather",
    entities=[origin],
    ttl=timedelta(hours=48),
    schema=[
        Field(name="humid", dtype=Float32, description="%"),
        Field(name="sky", dtype=String),
    ],
)
airport_delays = FeatureView(
    name="airport_delays", entities=[origin], schema=[Field(name="delay_1h", dtype=Float32)]
)
carrier_delays = FeatureView(
    name="carrier_delays", entities=[carrier], schema=[Field(name="delay_3h", dtype=Float32)]
)
flight_delay = FeatureService(
    name="flight_delay", features=[weather, airport_delays, carrier_delays]
)
"""

WEATHER = View(
    "weather",
    ("origin",),
    (Feature("humid", "float32", "%"), Feature("sky", "string")),
    48 * HOUR_US,
)
AIRPORT_DELAYS = View("airport_delays", ("origin",), (Feature("delay_1h", "float32"),))
CARRIER_DELAYS = View("carrier_delays", ("carrier",), (Feature("delay_3h", "float32"),))
VIEWS = (WEATHER, AIRPORT_DELAYS, CARRIER_DELAYS)
SERVICE = FeatureService("flight_delay", VIEWS, tuple(view.digest for view in VIEWS))
DEFINITIONS = Definitions({view.name: view for view in VIEWS}, {"flight_delay": SERVICE})

SIGNATURE = Signature(
    (
        Field("flight", "string", "id"),
        Field("origin", "string", "entity"),
        Field("carrier", "string", "entity"),
        Field("distance", "float32", "request"),
        Field("departure", "timestamp", "request"),
        Field("humid", "float32", "feature", view="weather"),
        Field("sky", "string", "feature", view="weather"),
        Field("delay_1h", "float32", "feature", view="airport_delays"),
        Field("delay_3h", "float32", "feature", view="carrier_delays"),
    ),
    (Field("late", "float32", "output"),),
)


def flights_loop(**changes: Any) -> Loop:
    return parse_loop(LOOP_YAML).model_copy(update=changes)


def applied_loop(digest: str = "sha256:" + "0" * 64, **changes: Any) -> AppliedLoop:
    return apply_loop(digest, flights_loop(**changes), DEFINITIONS)


def feature_rows_event(
    view: str,
    times_us: Sequence[int],
    entities: Mapping[str, Sequence[Any]],
    fields: Mapping[str, Any],
    watermark_us: int | None = None,
) -> FeatureRowsObserved:
    return FeatureRowsObserved(
        view=view,
        event_time_us=times_us,
        entities=[pack_column(name, np.asarray(v, dtype=object)) for name, v in entities.items()],
        fields=[pack_column(name, np.asarray(values)) for name, values in fields.items()],
        watermark_time=None if watermark_us is None else wire.timestamp(watermark_us),
    )


def predictions_event(
    ids: Sequence[str],
    row_counts: Sequence[int],
    times_us: Sequence[int],
    inputs: Mapping[str, Sequence[Any]],
    late: Sequence[float],
    *,
    bundle_digest: str = "",
    version: int = 1,
    purpose: str = "PURPOSE_SERVED",
    status: Sequence[int] | None = None,
    batch_id: str = "",
) -> PredictionsServed:
    """Inputs are by name, of all rows of requests with rows, one after the other."""
    kinds = {field.name: field.triton for field in SIGNATURE.inputs}
    dtypes = {"BYTES": object, "FP32": np.float32, "INT64": np.int64}
    count = len(ids)
    return PredictionsServed(
        version=VersionRef(model=MODEL, version=version, bundle_digest=bundle_digest),
        variant=Variant.VARIANT_CHAMPION,
        purpose=Purpose.Value(purpose),
        batch_id=batch_id,
        prediction_ids=ids,
        row_counts=row_counts,
        event_time_us=times_us,
        receive_time_us=times_us,
        duration_us=[900] * count,
        status_codes=status or [0] * count,
        routing_keys=[""] * count,
        client_ids=[""] * count,
        omissions=["" if rows else "REQUEST_TOO_LARGE" for rows in row_counts],
        inputs=[
            pack_tensor(name, np.array(values, dtype=dtypes[kinds[name]]))
            for name, values in inputs.items()
        ],
        outputs=[pack_tensor("late", np.array(late, dtype=np.float32))],
    )


def labels_event(*labels: tuple[str, float, int]) -> LabelsReported:
    """Each label: business key, value, event time."""
    return LabelsReported(
        model=MODEL,
        labels=[Label(row_key=key, value=value, event_time_us=at) for key, value, at in labels],
    )


def kafka_record(offset: int, message: Message, topic: str = "t") -> ConsumerRecord:
    """An event as Kafka gives it."""
    now = datetime(2013, 1, 1, tzinfo=UTC)
    sent = encode(Envelope(f"e{offset}", "/test", MODEL, now), message)
    sizes, time_ms = (len(sent.key), len(sent.value)), int(now.timestamp() * 1000)
    return ConsumerRecord(
        topic, 0, offset, time_ms, 0, sent.key, sent.value, None, *sizes, sent.headers
    )


def event(offset: int, message: Message, topic: str = "t") -> Event:
    """An event as a sink takes it."""
    record = kafka_record(offset, message, topic)
    return Event(
        record, Envelope(f"e{offset}", "/test", MODEL, datetime(2013, 1, 1, tzinfo=UTC)), message
    )
