"""Wall and monotonic time as an argument; the only module of Ciclo that asks the system for it."""

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What knows the time. Every part that needs it takes one of these."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC. May step back."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. Never goes back."""
        ...

    async def sleep(self, delay: timedelta) -> None:
        """Returns after `delay`; at once (but yielding) if it is not positive."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)  # noqa: TID251 -- this module is what the rule points to

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    async def sleep(self, delay: timedelta) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(max(delay.total_seconds(), 0.0))


class ManualClock:
    """A clock that stands still until a test advances it.

    Not thread-safe: `sleep` and `advance` belong to one event loop; `now` may be read anywhere.

    Args:
        now: The wall time it starts with. Aware.
    """

    def __init__(self, now: datetime = datetime(2013, 1, 1, tzinfo=UTC)) -> None:
        self._now = now
        self._elapsed = timedelta(0)
        self._sequence = itertools.count()
        self._sleepers: list[tuple[timedelta, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._now

    def monotonic(self) -> float:
        """See `Clock.monotonic`; starts at 0."""
        return self._elapsed.total_seconds()

    async def sleep(self, delay: timedelta) -> None:
        """Returns once `advance` has moved the clock past `delay` from now."""
        if delay <= timedelta(0):
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + delay, next(self._sequence), waiter))
        await waiter

    def advance(self, delta: timedelta) -> None:
        """Moves both times on and wakes the sleepers that are due, earliest first.

        Args:
            delta: Not negative.
        """
        if delta < timedelta(0):
            raise ValueError(f"a clock advances by zero or more, not by {delta}")
        self._now += delta
        self._elapsed += delta
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            waiter = heapq.heappop(self._sleepers)[2]
            if not waiter.done():
                waiter.set_result(None)
