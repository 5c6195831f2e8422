"""What happened, from recorded events alone: reads control topics, finds cycles and causes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.cloudevents import Envelope, MalformedEvent, decode
from ciclo.topics import CONTROL_TOPICS, Topic

EVENT_TIME_FIELDS = (
    "event_time",
    "detect_time",
    "close_time",
    "watermark_time",
    "as_of_time",
    "shadow_since_time",
)
"""Where a control event says its event time; the first that is present counts."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event with the place that it was read from.

    Args:
        envelope: Id, source, subject, wall time, cycle and cause.
        message: The protobuf message.
        topic: Name of the topic.
        partition: Partition of the topic.
        offset: Offset in the partition.
    """

    envelope: Envelope
    message: Message
    topic: str
    partition: int
    offset: int

    @property
    def name(self) -> str:
        """The event's short name, such as `DriftDetected`."""
        return str(self.message.DESCRIPTOR.name)

    @property
    def event_time(self) -> datetime | None:
        """When it happened in the world of the model; None where the event does not say."""
        for field in EVENT_TIME_FIELDS:
            if field in self.message.DESCRIPTOR.fields_by_name and self.message.HasField(field):
                stamp = getattr(self.message, field)
                assert isinstance(stamp, Timestamp)
                return stamp.ToDatetime(UTC)
        return None


async def read_events(
    bootstrap: str, env: str, topics: Sequence[Topic] = CONTROL_TOPICS
) -> list[RecordedEvent]:
    """Returns the events of some topics from their beginning to their present end, by wall time.

    Records that are no events of ours are left out; services have parked them as dead letters.

    Raises:
        aiokafka.errors.KafkaError: Kafka does not answer.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    events: list[RecordedEvent] = []
    try:
        partitions = [TopicPartition(topic.name(env), 0) for topic in topics]
        ends = await consumer.end_offsets(partitions)
        consumer.assign([p for p in partitions if ends[p] > 0])
        await consumer.seek_to_beginning()
        while any([await consumer.position(p) < ends[p] for p in consumer.assignment()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                events.extend(event for event in map(_recorded, records) if event is not None)
    finally:
        await consumer.stop()
    return sorted(events, key=lambda event: event.envelope.time)


def _recorded(record: object) -> RecordedEvent | None:
    value, headers = getattr(record, "value", None), getattr(record, "headers", ())
    try:
        envelope, message = decode(value, headers)
    except MalformedEvent:
        return None
    place = (
        getattr(record, "topic", ""),
        getattr(record, "partition", 0),
        getattr(record, "offset", 0),
    )
    return RecordedEvent(envelope, message, *place)


def cycles(events: Iterable[RecordedEvent]) -> dict[str, list[RecordedEvent]]:
    """Returns the events of each cycle by its id, oldest cycle first."""
    found: dict[str, list[RecordedEvent]] = defaultdict(list)
    for event in events:
        if event.envelope.correlation_id:
            found[event.envelope.correlation_id].append(event)
    return dict(found)


@dataclass(frozen=True, slots=True)
class Cause:
    """An event in the chain of causes, with what it caused."""

    event: RecordedEvent
    effects: tuple["Cause", ...]


def causes(events: Sequence[RecordedEvent]) -> tuple[Cause, ...]:
    """Returns the events as trees: each under the event that caused it, roots first by time."""
    ids = {event.envelope.id for event in events}
    effects: dict[str, list[RecordedEvent]] = defaultdict(list)
    roots = []
    for event in events:
        cause = event.envelope.causation_id
        if cause in ids and cause != event.envelope.id:
            effects[cause].append(event)
        else:
            roots.append(event)

    def tree(event: RecordedEvent) -> Cause:
        return Cause(event, tuple(tree(effect) for effect in effects[event.envelope.id]))

    return tuple(tree(root) for root in roots)
