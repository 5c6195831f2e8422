"""The one thread that writes tables, so that commits never hold up the event loop."""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

SWITCH_INTERVAL_SECONDS = 0.0005
"""How long the writer's Python code may keep the interpreter while the event loop wants it. With
Python's 5 ms, each of the loop's many small steps would wait so long during a commit."""

T = TypeVar("T")


class Writer:
    """A part that runs calls one after the other in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tables")

    async def start(self) -> None:
        """Sets how threads share the interpreter; see `SWITCH_INTERVAL_SECONDS`."""
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)

    async def stop(self) -> None:
        """Waits for the calls under way."""
        self._thread.shutdown(wait=False)
        await asyncio.to_thread(self._thread.shutdown, wait=True)

    async def run(self, call: Callable[[], T]) -> T:
        """Returns what `call` returns, after all calls before it. Not undone by cancellation."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
