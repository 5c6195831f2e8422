"""What was taken is committed before its offset, and nothing is dropped in silence."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from tests.unit.feature_store.examples import labels_event

from ciclo.cloudevents import Envelope
from ciclo.errors import Fatal, Reject
from ciclo_feature_store.adapters import state
from ciclo_feature_store.adapters.recording import MOST_FAILURES, Recording, Refused
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.streams import StreamBatch, StreamRecord

PLACE = TopicPartition("test.ciclo.labels.v1", 0)
NOW = datetime(2013, 1, 1, tzinfo=UTC)


def record(offset: int) -> StreamRecord:
    envelope = Envelope(f"e{offset}", "/test", "flight-delay", NOW)
    return StreamRecord(PLACE.topic, 0, offset, NOW, envelope, labels_event(("f", 1.0, offset)))


@dataclass
class FakeReader:
    """Hands out batches as a test asks for them."""

    queue: asyncio.Queue = field(default_factory=asyncio.Queue)
    began_at: dict = field(default_factory=dict)

    async def batches(self, offsets) -> AsyncIterator[StreamBatch]:
        self.began_at = dict(offsets)
        yield StreamBatch([], {}, is_caught_up=True)
        while True:
            yield await self.queue.get()

    def send(self, *offsets: int) -> None:
        ends = {PLACE: offsets[-1] + 1}
        self.queue.put_nowait(StreamBatch([record(o) for o in offsets], ends, is_caught_up=True))


@dataclass
class FakeSink:
    """Keeps offsets; refuses some when they are taken, some when they are written."""

    refused_at_once: Sequence[int] = ()
    refused_later: Sequence[int] = ()
    failures: int = 0
    taken: list = field(default_factory=list)
    written: list = field(default_factory=list)
    took: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, record: StreamRecord) -> int:
        if record.offset in self.refused_at_once:
            raise Reject("bad")
        self.taken.append(record)
        self.took.set()
        return 1

    def drain(self) -> "FakeFlush":
        taken, self.taken = self.taken, []
        return FakeFlush(self, taken)


@dataclass
class FakeFlush:
    sink: FakeSink
    records: list
    watermarks_us: dict = field(default_factory=lambda: {"weather": 5})

    def write(self) -> list[Refused]:
        if self.sink.failures:
            self.sink.failures -= 1
            raise OSError("disk full")
        late = [r for r in self.records if r.offset in self.sink.refused_later]
        self.sink.written += [r.offset for r in self.records if r not in late]
        return [Refused(r, Reject("bad later")) for r in late]


class Setup:
    def __init__(self, sink: FakeSink) -> None:
        self.clock = ManualClock()
        self.reader, self.sink, self.writer = FakeReader(), sink, Writer()
        reader: Any = self.reader
        self.database = Database(
            None, state.METADATA, service="feature-store", env="test", clock=self.clock
        )
        metrics = ServiceMetrics("feature-store")
        self.recording = Recording(
            "history",
            [PLACE.topic],
            reader,
            sink,
            database=self.database,
            writer=self.writer,
            dead_letters=DeadLetters(self.database, metrics=metrics, clock=self.clock),
            metrics=FeatureStoreMetrics(metrics),
            clock=self.clock,
            flush_interval=timedelta(seconds=1),
            flush_rows=1000,
        )

    async def __aenter__(self) -> "Setup":
        await self.database.start()
        await self.recording.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.recording.stop()
        await self.writer.stop()
        await self.database.stop()

    async def saved(self) -> dict[TopicPartition, int]:
        return await self.database.read(lambda c: state.positions(c, [PLACE.topic]))


async def test_what_was_taken_is_committed_with_position_and_watermarks() -> None:
    async with Setup(FakeSink()) as setup:
        setup.reader.send(0, 1, 2)
        await setup.recording.read_until({PLACE: 3})
        assert setup.sink.written == [0, 1, 2]
        assert await setup.saved() == {PLACE: 3}
        assert await setup.database.read(state.watermarks) == {"weather": 5}


async def test_bad_records_are_put_aside_whenever_they_are_found() -> None:
    async with Setup(FakeSink(refused_at_once=[1], refused_later=[2])) as setup:
        setup.reader.send(0, 1, 2, 3)
        await setup.recording.read_until({PLACE: 4})
        assert setup.sink.written == [0, 3]
        letters = await setup.database.outbox()
        assert [envelope.id for envelope, _ in letters] == ["e1", "e2"]


async def test_a_commit_that_fails_is_tried_again_with_the_same_rows() -> None:
    async with Setup(FakeSink(failures=2)) as setup:
        setup.reader.send(0, 1)
        waiting = asyncio.ensure_future(setup.recording.read_until({PLACE: 2}))
        while not waiting.done():
            await asyncio.sleep(0)
            setup.clock.advance(timedelta(minutes=1))
        await waiting
        assert setup.sink.written == [0, 1]


async def test_a_disk_that_stays_full_stops_the_service_and_keeps_the_position() -> None:
    setup = Setup(FakeSink())
    await setup.database.start()
    await setup.recording.start()
    setup.sink.failures = MOST_FAILURES
    setup.reader.send(0, 1)
    waiting = asyncio.ensure_future(setup.recording.read_until({PLACE: 2}))
    while not waiting.done():
        await asyncio.sleep(0)
        setup.clock.advance(timedelta(minutes=1))
    with pytest.raises(Fatal, match="disk full"):
        await waiting
    assert await setup.saved() == {}
    await setup.recording.stop()
    await setup.writer.stop()
    await setup.database.stop()


async def test_reading_begins_where_the_tables_end() -> None:
    setup = Setup(FakeSink())
    await setup.database.start()
    await setup.database.transaction(lambda tx: state.save(tx, {PLACE: 7}, {"weather": 9}))
    await setup.database.transaction(lambda tx: state.save(tx, {PLACE: 8}, {"weather": 4}))
    await setup.recording.start()
    assert setup.reader.began_at == {PLACE: 8}
    assert await setup.database.read(state.watermarks) == {"weather": 9}
    await setup.recording.stop()
    await setup.writer.stop()
    await setup.database.stop()


async def test_stopping_commits_what_was_taken() -> None:
    async with Setup(FakeSink()) as setup:
        setup.reader.send(0)
        await setup.sink.took.wait()
    assert setup.sink.written == [0]
