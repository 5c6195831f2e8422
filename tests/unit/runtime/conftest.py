"""An in-memory database, a manual clock, records, and a stand-in for Kafka's consumer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError
from google.protobuf.message import Message
from sqlalchemy import Column, MetaData, String, Table

from ciclo.cloudevents import Envelope, encode
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.metrics import ServiceMetrics

METADATA = MetaData()
EFFECTS = Table("effects", METADATA, Column("episode_id", String, nullable=False))


def envelope(event_id: str = "1", correlation_id: str = "cycle-1") -> Envelope:
    return Envelope(
        event_id, "/ciclo/t/monitor", "flights", datetime(2013, 5, 1, tzinfo=UTC), correlation_id
    )


def record_of(
    message: Message, event_id: str = "1", offset: int = 0, topic: str = "t.ciclo.monitoring.v1"
) -> ConsumerRecord:
    packed = encode(envelope(event_id), message)
    return raw_record(packed.value, packed.headers, offset=offset, topic=topic)


def raw_record(
    value: bytes | None,
    headers: tuple[tuple[str, bytes], ...] = (),
    offset: int = 0,
    topic: str = "t.ciclo.monitoring.v1",
) -> ConsumerRecord:
    return ConsumerRecord(
        topic=topic,
        partition=0,
        offset=offset,
        timestamp=1_367_366_400_000,
        timestamp_type=0,
        key=b"flights",
        value=value,
        checksum=None,
        serialized_key_size=7,
        serialized_value_size=len(value or b""),
        headers=headers,
    )


def drift(episode_id: str, offset: int = 0, topic: str = "t.ciclo.monitoring.v1") -> ConsumerRecord:
    return record_of(DriftDetected(episode_id=episode_id), f"event-{episode_id}", offset, topic)


class FakeConsumer:
    """One partition a topic, all records there from the start; knows nothing of time."""

    def __init__(self, records: list[ConsumerRecord]) -> None:
        self.logs: dict[TopicPartition, list[ConsumerRecord]] = {}
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            self.logs.setdefault(place, []).append(record)
        self.positions = {place: log[0].offset for place, log in self.logs.items()}
        self.committed: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.fail_polls = 0
        self.stopped = 0

    async def start(self) -> None:
        self.paused.clear()

    async def stop(self) -> None:
        self.stopped += 1

    def assignment(self) -> set[TopicPartition]:
        return set(self.logs)

    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0)
        if self.fail_polls:
            self.fail_polls -= 1
            raise KafkaConnectionError("gone")
        found = {}
        for place, log in self.logs.items():
            if place in self.paused:
                continue
            found[place] = [one for one in log if one.offset >= self.positions[place]][:max_records]
            if found[place]:
                self.positions[place] = found[place][-1].offset + 1
        return {place: records for place, records in found.items() if records}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed |= offsets

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place] = offset

    def pause(self, place: TopicPartition) -> None:
        self.paused.add(place)

    def resume(self, place: TopicPartition) -> None:
        self.paused.discard(place)

    def highwater(self, place: TopicPartition) -> int:
        last: int = self.logs[place][-1].offset
        return last + 1

    async def position(self, place: TopicPartition) -> int:
        at: int = self.positions[place]
        return at

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.logs[place][0].offset for place in places}

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.highwater(place) for place in places}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics("trainer")


@pytest.fixture
async def database(clock: ManualClock) -> AsyncIterator[Database]:
    opened = Database(None, METADATA, service="trainer", env="t", clock=clock)
    await opened.start()
    yield opened
    await opened.stop()


async def turns(until: Callable[[], bool]) -> None:
    """Lets the event loop turn until something holds; the limit only ends a test that fails."""
    async with asyncio.timeout(10):
        while not until():  # noqa: ASYNC110 -- what is waited for knows of no event
            await asyncio.sleep(0)
