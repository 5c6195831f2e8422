"""Waiting for something to become true, without guessing how long it takes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

PAUSE_SECONDS = 0.05


async def eventually(
    assertion: Callable[[], None] | Callable[[], Awaitable[None]],
    within: timedelta = timedelta(seconds=10),
) -> None:
    """Calls `assertion` until it raises nothing; raises its last AssertionError after `within`.

    An error of another kind is raised at once: it would not go away.
    """
    deadline = time.monotonic() + within.total_seconds()
    while True:
        try:
            outcome = assertion()
            if inspect.isawaitable(outcome):
                await outcome
        except AssertionError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
