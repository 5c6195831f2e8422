"""Reading topics with offsets of one's own, and following a state."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from tests.integration.runtime.conftest import Broker
from tests.integration.runtime.ledger_service import METADATA
from tests.support.eventually import eventually

from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.episode_closed_pb2 import EpisodeClosed
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.topics import MONITORING, REGISTRY_STATE
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.lifecycle import Service
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.state_table import StateTable
from ciclo_runtime.streams import StreamBatch, StreamReader, StreamRecord, TopicRecreated


@pytest.fixture
async def reader(broker: Broker, tmp_path: Path) -> AsyncIterator[StreamReader]:
    clock, metrics = SystemClock(), ServiceMetrics("reader")
    database = Database(None, METADATA, service="reader", env=broker.env, clock=clock)
    async with Service("reader", [database]):
        yield StreamReader(
            broker.bootstrap,
            broker.env,
            [DriftDetected],
            dead_letters=DeadLetters(database, metrics=metrics, clock=clock),
            metrics=metrics,
            clock=clock,
        )


def episode(record: StreamRecord) -> str:
    assert isinstance(record.message, DriftDetected)
    return record.message.episode_id


async def until_caught_up(reader: StreamReader, offsets: dict[TopicPartition, int]) -> StreamBatch:
    records: list[StreamRecord] = []
    reached = dict(offsets)
    async with aclosing(reader.batches(offsets)) as batches:
        async for batch in batches:
            records += batch.records
            reached |= batch.next_offsets
            if batch.is_caught_up:
                return StreamBatch(records, reached, True)
    raise AssertionError("the stream ended")


async def test_a_reader_goes_on_from_the_offsets_that_it_is_given(
    broker: Broker, reader: StreamReader
) -> None:
    for number in range(3):
        await broker.publish(DriftDetected(episode_id=str(number)), event_id=f"d{number}")
        await broker.publish(EpisodeClosed(), event_id=f"c{number}")

    first = await until_caught_up(reader, {})
    await broker.publish(DriftDetected(episode_id="3"), event_id="d3")
    second = await until_caught_up(reader, dict(first.next_offsets))

    assert [episode(record) for record in first.records] == ["0", "1", "2"]
    assert [record.envelope.id for record in second.records] == ["d3"]
    place = TopicPartition(MONITORING.name(broker.env), 0)
    assert (first.next_offsets[place], second.next_offsets[place]) == (6, 7)


async def test_a_reader_refuses_a_topic_that_is_shorter_than_what_was_read(
    broker: Broker, reader: StreamReader
) -> None:
    place = TopicPartition(MONITORING.name(broker.env), 0)

    with pytest.raises(TopicRecreated, match="ends at 0"):
        await until_caught_up(reader, {place: 5})


async def test_a_state_table_keeps_the_newest_generation_and_forgets_what_is_removed(
    broker: Broker,
) -> None:
    def state(model: str, generation: int) -> RegistryState:
        return RegistryState(model=model, generation=generation)

    await broker.publish(state("a", 2), event_id="1", subject="a")
    await broker.publish(state("a", 1), event_id="2", subject="a")
    await broker.publish(state("b", 1), event_id="3", subject="b")
    table: StateTable[RegistryState] = StateTable(
        broker.bootstrap,
        broker.env,
        RegistryState,
        generation=lambda found: found.generation,
        decode_state=lambda message: message,
        metrics=ServiceMetrics("follower"),
        clock=SystemClock(),
    )

    async with Service("follower", [table]):
        await table.ready()
        assert dict(table.items()) == {"a": state("a", 2), "b": state("b", 1)}

        seen = table.version
        await broker.publish(state("a", 3), event_id="4", subject="a")
        assert await table.changed(seen) > seen
        assert table.get("a") == state("a", 3)

        await broker.publish_raw(REGISTRY_STATE, b"b", None, [])

        def b_is_gone() -> None:
            assert table.get("b") is None

        await eventually(b_is_gone)
