"""What became of answers that callers got: on the topic, in the table, or counted as lost."""

from collections import Counter
from dataclasses import dataclass

import grpc
from deltalake import DeltaTable

from ciclo.cli.connection import Connection
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo.features.v1 import feature_service_pb2 as features
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.history import RecordedEvent, read_events
from ciclo.topics import PREDICTIONS

UNKNOWN_MODEL = "-"
"""Subject of a loss where nobody can tell whose answers they were."""


@dataclass(frozen=True)
class Captured:
    """Answers to a model's callers, by prediction id and by the id that the caller gave.

    Args:
        kafka: How often the topic tells each.
        delta: How many rows of each the table holds.
        lost: Answers that were counted as lost.
    """

    kafka: Counter[str]
    delta: Counter[str]
    lost: int


async def captured(system: Connection, model: str) -> Captured:
    """Reads all of it as an outsider does, to its present end."""
    events = await read_events(system.addresses["kafka"], system.env, [PREDICTIONS])
    mine = [event for event in events if event.envelope.subject in (model, UNKNOWN_MODEL)]
    return Captured(_on_the_topic(mine), _at_rest(system, model), lost(mine))


def lost(events: list[RecordedEvent]) -> int:
    """Returns how many answers some events count as lost."""
    return sum(event.message.count for event in events if event.name == "PredictionsLost")


def _on_the_topic(events: list[RecordedEvent]) -> Counter[str]:
    told: Counter[str] = Counter()
    for event in events:
        batch = event.message
        if isinstance(batch, PredictionsServed) and batch.purpose == PURPOSE_SERVED:
            each = zip(batch.prediction_ids, batch.client_ids, batch.status_codes, strict=True)
            told.update(name for *ids, code in each if not code for name in filter(None, ids))
    return told


def _at_rest(system: Connection, model: str) -> Counter[str]:
    with grpc.insecure_channel(system.addresses["feature-store"]) as channel:
        request = features.GetHistoryStatusRequest(model=model)
        url = FeatureServiceStub(channel).GetHistoryStatus(request).table_urls["predictions"]
    columns = ["prediction_id", "client_id", "purpose", "status_code"]
    rows = DeltaTable(url).to_pyarrow_table(columns=columns).to_pylist()
    return Counter(
        name
        for row in rows
        if row["purpose"] == "served" and not row["status_code"]
        for name in filter(None, (row["prediction_id"], row["client_id"]))
    )
