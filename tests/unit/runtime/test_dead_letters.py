from datetime import timedelta

import pytest
from tests.unit.runtime.conftest import drift

from ciclo.errors import Fatal, Reject, Retry
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetterLimit, DeadLetters
from ciclo_runtime.ledger import backlog
from ciclo_runtime.metrics import ServiceMetrics


@pytest.fixture
def letters(database: Database, metrics: ServiceMetrics, clock: ManualClock) -> DeadLetters:
    limit = DeadLetterLimit(per_minute=3, of_last_100=5)
    return DeadLetters(database, metrics=metrics, clock=clock, limit=limit)


async def put(letters: DeadLetters, *offsets: int) -> None:
    for offset in offsets:
        await letters.put(drift("a", offset), Reject("bad"), attempts=1)


async def test_a_place_is_put_aside_once(letters: DeadLetters, database: Database) -> None:
    await put(letters, 7, 7)

    assert await database.read(backlog) == 1


async def test_many_in_a_minute_are_an_outage_and_the_last_one_stays_where_it_is(
    letters: DeadLetters, database: Database
) -> None:
    await put(letters, 1, 2, 3)

    with pytest.raises(Fatal, match="4 dead letters in a minute"):
        await put(letters, 4)

    assert await database.read(backlog) == 3


async def test_one_that_is_tried_again_is_one(
    letters: DeadLetters, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(database, "transaction", locked)
        for _ in range(9):
            with pytest.raises(Retry):
                await put(letters, 1)

    await put(letters, 1, 1, 1, 2, 3)

    assert await database.read(backlog) == 3
    with pytest.raises(Fatal, match="4 dead letters in a minute"):
        await put(letters, 4)


async def locked(_: object) -> bool:
    raise Retry("database is locked")


async def test_few_in_a_minute_are_no_outage_unless_they_are_most_of_what_comes(
    letters: DeadLetters, clock: ManualClock
) -> None:
    for offset in range(5):
        await put(letters, offset)
        clock.advance(timedelta(minutes=2))

    with pytest.raises(Fatal, match="6 of the last 6 messages"):
        await put(letters, 6)


async def test_a_few_bad_ones_among_many_good_ones_never_stop_a_service(
    letters: DeadLetters, clock: ManualClock
) -> None:
    for offset in range(20):
        await put(letters, offset)
        for _ in range(30):
            letters.passed()
        clock.advance(timedelta(minutes=1))
