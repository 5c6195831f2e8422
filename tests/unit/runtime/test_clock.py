import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ciclo_runtime.clock import ManualClock, SystemClock


async def test_a_manual_clock_wakes_only_the_sleepers_that_are_due() -> None:
    clock = ManualClock()
    woken: list[int] = []

    async def sleeper(seconds: int) -> None:
        await clock.sleep(timedelta(seconds=seconds))
        woken.append(seconds)

    sleepers = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2)]
    await asyncio.sleep(0)
    clock.advance(timedelta(seconds=2))
    await asyncio.wait(sleepers[1:])

    assert woken == [1, 2]
    assert not sleepers[0].done()
    assert clock.monotonic() == 2
    assert clock.now() == datetime(2013, 1, 1, 0, 0, 2, tzinfo=UTC)
    sleepers[0].cancel()


def test_a_manual_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="zero or more"):
        ManualClock().advance(timedelta(seconds=-1))


def test_the_system_clock_is_aware_and_in_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
