"""What was taken is committed before its offset, and nothing is dropped in silence."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from tests.unit.feature_store.examples import kafka_record, labels_event

from ciclo.errors import Fatal, Reject, Retry
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo_feature_store import wire
from ciclo_feature_store.adapters import state
from ciclo_feature_store.adapters.events import Event
from ciclo_feature_store.adapters.recording import MOST_FAILURES, Recording, Refused
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime import ledger
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.streams import Fetched, Offsets

PLACE = TopicPartition("test.ciclo.labels.v1", 0)


def record(offset: int) -> ConsumerRecord:
    return kafka_record(offset, labels_event(("f", 1.0, offset)), PLACE.topic)


@dataclass
class FakeReader:
    """Hands out records as a test asks for them."""

    queue: asyncio.Queue = field(default_factory=asyncio.Queue)
    began_at: dict = field(default_factory=dict)

    async def follow(self, offsets: Offsets) -> AsyncGenerator[Fetched, None]:
        self.began_at = dict(offsets)
        yield Fetched([], is_caught_up=True)
        while True:
            yield await self.queue.get()

    def send(self, *records: int | ConsumerRecord) -> None:
        whole = [record(one) if isinstance(one, int) else one for one in records]
        self.queue.put_nowait(Fetched(whole, is_caught_up=True))


@dataclass
class FakeSink:
    """Keeps offsets; refuses some when they are taken, some when they are written."""

    refused_at_once: Sequence[int] = ()
    refused_later: Sequence[int] = ()
    unforeseen: Sequence[int] = ()
    failures: int = 0
    taken: list = field(default_factory=list)
    written: list = field(default_factory=list)
    took: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: Event) -> int:
        if event.offset in self.refused_at_once:
            raise Reject("bad")
        if event.offset in self.unforeseen:
            raise OverflowError("out of bounds for int32")
        self.taken.append(event)
        self.took.set()
        return 1

    def drain(self) -> "FakeFlush":
        taken, self.taken = self.taken, []
        return FakeFlush(self, taken)


@dataclass
class FakeFlush:
    sink: FakeSink
    events: list
    watermarks_us: dict = field(default_factory=lambda: {"weather": 5})

    def write(self) -> list[Refused]:
        if self.sink.failures:
            self.sink.failures -= 1
            raise OSError("disk full")
        late = [e for e in self.events if e.offset in self.sink.refused_later]
        self.sink.written += [e.offset for e in self.events if e not in late]
        return [Refused(e, Reject("bad later")) for e in late]


class Setup:
    def __init__(self, sink: FakeSink) -> None:
        self.clock = ManualClock()
        self.reader, self.sink, self.writer = FakeReader(), sink, Writer()
        self.database = Database(
            None, state.METADATA, service="feature-store", env="test", clock=self.clock
        )
        metrics = ServiceMetrics("feature-store")
        self.dead_letters = DeadLetters(self.database, metrics=metrics, clock=self.clock)
        self.recording = Recording(
            "history",
            [PLACE.topic],
            wire.HISTORY_EVENTS,
            self.reader.follow,
            sink,
            database=self.database,
            writer=self.writer,
            dead_letters=self.dead_letters,
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


async def test_what_is_put_aside_has_the_bytes_that_came_and_the_reason() -> None:
    odd = [("ce_type", b"ciclo.events.v1.LabelsReported"), ("odd", b"\xff\x00")]
    garbage = replace(record(0), value=b"\xff\xff", headers=odd)
    # Two fields of one message, in an order in which nobody would write them again.
    whole = record(1)
    swapped = replace(whole, value=LabelsReported(labels=[Label(value=1.0)]).SerializeToString())
    swapped = replace(swapped, value=swapped.value + LabelsReported(model="m").SerializeToString())
    swapped = replace(swapped, headers=(*whole.headers, ("odd", b"kept")))
    for place in ("unforeseen", "refused_later"):
        async with Setup(FakeSink(**{place: [1]})) as setup:
            setup.reader.send(garbage, swapped, 2)
            async with asyncio.timeout(30):
                await setup.recording.read_until({PLACE: 3})
            assert setup.sink.written == [2]
            letters = await setup.database.read(lambda tx: ledger.pending(tx, 10))
            assert [(one.key, one.value) for one in letters] == [
                (garbage.key, garbage.value),
                (swapped.key, swapped.value),
            ]
            for sent, letter in zip((garbage, swapped), letters, strict=True):
                assert letter.headers[: len(sent.headers)] == tuple(sent.headers)
            reasons = [dict(letter.headers)["dl_reason"] for letter in letters]
            assert reasons[0] == b"MALFORMED_EVENT"
            wanted = b"UNSTORABLE_RECORD" if place == "unforeseen" else b"INVALID_ARGUMENT"
            assert reasons[1] == wanted


async def test_events_of_other_types_on_the_same_topics_are_passed_over() -> None:
    async with Setup(FakeSink()) as setup:
        other = kafka_record(0, DriftDetected(episode_id="a"), PLACE.topic)
        setup.reader.send(other, 1)
        await setup.recording.read_until({PLACE: 2})
        assert setup.sink.written == [1]
        assert await setup.database.outbox() == []


async def test_a_letter_that_cannot_be_written_now_is_written_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Setup(FakeSink(refused_at_once=[0])) as setup:
        put, failures = setup.dead_letters.put, iter([Retry("database is locked")])

        async def put_later(*args: Any, **kwargs: Any) -> None:
            for failure in failures:
                raise failure
            await put(*args, **kwargs)

        monkeypatch.setattr(setup.dead_letters, "put", put_later)
        setup.reader.send(0, 1)
        waiting = asyncio.ensure_future(setup.recording.read_until({PLACE: 2}))
        while not waiting.done():
            await asyncio.sleep(0)
            setup.clock.advance(timedelta(minutes=1))
        await waiting
        assert len(await setup.database.outbox()) == 1
        assert setup.sink.written == [1]


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
