import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, func, insert, select
from tests.unit.runtime.conftest import EFFECTS, METADATA, envelope

from ciclo.errors import Fatal
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.topics import TOPICS
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.ledger import pending
from ciclo_runtime.transaction import MAX_EVENT_BYTES, EventTooLarge, Tx


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(EFFECTS)).scalar_one()


async def test_state_and_events_are_written_together_or_not_at_all(database: Database) -> None:
    def half(tx: Tx) -> None:
        tx.connection.execute(insert(EFFECTS).values(episode_id="a"))
        tx.emit(DriftDetected(), subject="flights")
        tx.after_commit(lambda: pytest.fail("it was not committed"))
        raise KeyError("half-way")

    with pytest.raises(KeyError, match="half-way"):
        await database.transaction(half)
    await asyncio.sleep(0)

    assert await database.read(count) == 0
    assert await database.outbox() == []


async def test_an_event_names_its_cause_and_belongs_to_its_cycle(database: Database) -> None:
    await database.transaction(
        lambda tx: tx.emit(DriftDetected(episode_id="e"), subject="flights", event_id="mine"),
        cause=envelope("cause-1", "cycle-9"),
    )

    ((written, message),) = await database.outbox()

    assert (written.id, written.causation_id, written.correlation_id) == (
        "mine",
        "cause-1",
        "cycle-9",
    )
    assert (written.source, written.subject) == ("/ciclo/t/trainer", "flights")
    assert message == DriftDetected(episode_id="e")


async def test_an_event_without_a_cause_begins_a_cycle_unless_told_otherwise(
    database: Database,
) -> None:
    first = await database.transaction(lambda tx: tx.emit(DriftDetected(), subject="a"))
    await database.transaction(lambda tx: tx.emit(DriftDetected(), subject="a", correlation_id=""))

    begun, without = [written for written, _ in await database.outbox()]

    assert begun.correlation_id == begun.id == first
    assert without.correlation_id == ""


async def test_an_event_too_large_for_kafka_is_refused_before_it_is_committed(
    database: Database,
) -> None:
    vast = DriftDetected(episode_id="x" * MAX_EVENT_BYTES)

    with pytest.raises(EventTooLarge, match="split it"):
        await database.transaction(lambda tx: tx.emit(vast, subject="a"))

    assert await database.outbox() == []


async def test_only_a_state_can_be_removed(database: Database) -> None:
    await database.transaction(lambda tx: tx.emit_tombstone(RegistryState, subject="flights"))
    with pytest.raises(ValueError, match="not compacted"):
        await database.transaction(lambda tx: tx.emit_tombstone(DriftDetected, subject="flights"))

    (row,) = await database.read(lambda connection: pending(connection, 10))

    assert (row.topic, row.key, row.value) == ("t.ciclo.registry.state.v1", b"flights", None)
    assert row.topic in {topic.name("t") for topic in TOPICS}


async def test_what_waits_for_the_commit_is_called_on_the_event_loop(database: Database) -> None:
    called = asyncio.Event()

    await database.transaction(lambda tx: tx.after_commit(called.set))

    await called.wait()


async def test_transactions_run_one_after_the_other_in_the_order_asked_for(
    database: Database,
) -> None:
    order: list[int] = []

    def note(number: int) -> Callable[[Tx], None]:
        return lambda _: order.append(number)

    await asyncio.gather(*(database.transaction(note(number)) for number in range(9)))

    assert order == list(range(9))


async def test_a_database_that_is_not_started_says_so(clock: ManualClock) -> None:
    closed = Database(None, METADATA, service="trainer", env="t", clock=clock)

    with pytest.raises(Fatal, match="before start"):
        await closed.transaction(lambda tx: None)
