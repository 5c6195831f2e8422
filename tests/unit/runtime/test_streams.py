import asyncio
from contextlib import aclosing

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.conftest import FakeConsumer, drift, raw_record, record_of, turns

from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.episode_closed_pb2 import EpisodeClosed
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo_runtime import kafka
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.ledger import backlog
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.state_table import StateTable
from ciclo_runtime.streams import StreamReader, StreamRecord, TopicRecreated


def episode(record: StreamRecord) -> str:
    assert isinstance(record.message, DriftDetected)
    return record.message.episode_id


PLACE = TopicPartition("t.ciclo.monitoring.v1", 0)
STATE_TOPIC = "t.ciclo.registry.state.v1"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    fake = FakeConsumer(
        [
            drift("a", 5),
            record_of(EpisodeClosed(), "c", 6),
            raw_record(b"\xff", (("ce_type", b"ciclo.events.v1.DriftDetected"),), 7),
            drift("b", 8),
        ]
    )
    monkeypatch.setattr(kafka, "position_consumer", lambda *_: fake)
    return fake


@pytest.fixture
def reader(database: Database, metrics: ServiceMetrics, clock: ManualClock) -> StreamReader:
    letters = DeadLetters(database, metrics=metrics, clock=clock)
    return StreamReader(
        "nowhere:1",
        "t",
        [DriftDetected],
        dead_letters=letters,
        metrics=metrics,
        clock=clock,
        max_records=3,
    )


async def test_offsets_cover_what_was_skipped_and_what_was_put_aside(
    log: FakeConsumer, reader: StreamReader, database: Database
) -> None:
    async with aclosing(reader.batches({PLACE: 5})) as batches:
        first = await anext(batches)
        second = await anext(batches)

    assert [episode(record) for record in first.records] == ["a"]
    assert first.next_offsets == {PLACE: 8}
    assert not first.is_caught_up
    assert [record.offset for record in second.records] == [8]
    assert second.is_caught_up
    assert await database.read(backlog) == 1
    assert log.stopped == 1


async def test_a_lost_connection_neither_repeats_nor_skips_a_record(
    log: FakeConsumer, reader: StreamReader, clock: ManualClock
) -> None:
    async with aclosing(reader.batches({})) as batches:
        first = await anext(batches)
        log.fail_polls = 1
        log.positions[PLACE] = 5  # a new connection begins where it is told to
        second = asyncio.ensure_future(anext(batches))
        await turns(lambda: log.stopped == 1)
        await asyncio.sleep(0)
        clock.advance(kafka.RECONNECT.cap)
        batch = await second

    assert [record.offset for record in [*first.records, *batch.records]] == [5, 8]


async def test_records_that_retention_took_are_passed_over_and_a_shorter_topic_is_refused(
    log: FakeConsumer, reader: StreamReader
) -> None:
    async with aclosing(reader.batches({PLACE: 2})) as batches:
        assert (await anext(batches)).records[0].offset == 5
    with pytest.raises(TopicRecreated, match="ends at 9"):
        await anext(reader.batches({PLACE: 10}))


@given(generations=st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_a_state_table_never_goes_back(generations: list[int]) -> None:
    async def follow() -> int:
        records = [
            record_of(
                RegistryState(model="a", generation=generation), str(offset), offset, STATE_TOPIC
            )
            for offset, generation in enumerate(generations)
        ]
        table: StateTable[RegistryState] = StateTable(
            "nowhere:1",
            "t",
            RegistryState,
            generation=lambda state: state.generation,
            decode_state=lambda message: message,
            metrics=ServiceMetrics("gateway"),
            clock=ManualClock(),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kafka, "position_consumer", lambda *_: FakeConsumer(records))
            await table.start()
            await table.ready()
            await table.stop()
        found = table.get("flights")
        return found.generation if found else -1

    assert asyncio.run(follow()) == max(generations)
