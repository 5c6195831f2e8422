"""What a plain Kafka consumer finds of a run; read by recompute.py.

Of Ciclo only the messages generated from `protos/` are used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from ciclo.events.v1.labels_reported_pb2 import LabelsReported
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo.events.v1.rollout_judged_pb2 import RolloutJudged
from ciclo.events.v1.version_registered_pb2 import VersionRegistered

MODEL: Final = "flight-delay"
CONTROL: Final = ("monitoring", "training", "registry", "deployment")


@dataclass(slots=True)
class Topics:
    """What was found.

    Args:
        ids: How often each prediction id, and each id that a caller gave, was recorded.
        rows: Answered rows by version.
        requests: Answered requests by version.
        labels: Business keys of the rows that have one.
        judged: Judgements by the id of their event.
        registered: Digest of each version.
        events: Id, type and cause of each control event, by topic and offset.
    """

    ids: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    labels: set[str] = field(default_factory=set)
    judged: dict[str, RolloutJudged] = field(default_factory=dict)
    registered: dict[int, str] = field(default_factory=dict)
    events: dict[tuple[str, int], tuple[str, str, str]] = field(default_factory=dict)


async def read_topics(stack: dict[str, Any]) -> Topics:
    """Reads every topic to its present end with a plain consumer."""
    found = Topics()
    domains = ("predictions", "labels", *CONTROL)
    topics = [TopicPartition(f"{stack['environment']}.ciclo.{d}.v1", 0) for d in domains]
    consumer = AIOKafkaConsumer(bootstrap_servers=stack["addresses"]["kafka"])
    try:
        await consumer.start()
        ends = await consumer.end_offsets(topics)
        consumer.assign([topic for topic in topics if ends[topic]])
        await consumer.seek_to_beginning()
        while any([await consumer.position(t) < ends[t] for t in consumer.assignment()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    _take(record, found)
    finally:
        await consumer.stop()
    return found


def _take(record: Any, found: Topics) -> None:
    headers = {name: value.decode() for name, value in record.headers}
    if headers.get("ce_subject") != MODEL:
        return
    kind = headers["ce_type"].rpartition(".")[2]
    if record.topic.split(".")[2] in CONTROL:
        event = (headers["ce_id"], kind, headers.get("ce_causationid", ""))
        found.events[record.topic, record.offset] = event
    if kind == "PredictionsServed":
        _take_answers(PredictionsServed.FromString(record.value), found)
    elif kind == "LabelsReported":
        found.labels.update(x.row_key for x in LabelsReported.FromString(record.value).labels)
    elif kind == "RolloutJudged":
        found.judged[headers["ce_id"]] = RolloutJudged.FromString(record.value)
    elif kind == "VersionRegistered":
        version = VersionRegistered.FromString(record.value).version
        found.registered[version.version] = version.bundle_digest


def _take_answers(batch: PredictionsServed, found: Topics) -> None:
    if batch.purpose != PURPOSE_SERVED:
        return
    number = str(batch.version.version)
    for ids in (batch.prediction_ids, batch.client_ids):
        found.ids.update(filter(None, ids))
    rows = [n for n, code in zip(batch.row_counts, batch.status_codes, strict=True) if not code]
    found.rows[number] += sum(rows)
    found.requests[number] += len(rows)
