"""Brings the world to a desired state by repeating one step until it is true."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from ciclo.errors import Fatal, Retry
from ciclo_runtime.backoff import DEFAULT_BACKOFF, Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.lifecycle import Background
from ciclo_runtime.metrics import ServiceMetrics

_log = structlog.get_logger(__name__)


class Reconciler(Background):
    """A part that runs a step at start, when woken, and every interval; never two at once.

    The step compares what should be with what is and does something about it; it must be right
    however often it runs. A step that fails is logged, counted and repeated after a back-off;
    `Fatal` stops the service.

    Args:
        name: For log lines and the metric's label.
        step: What to repeat.
        interval: Longest time between two steps that go well.
        metrics: Counts steps by outcome.
        clock: Times interval and back-off.
        backoff: Waits after a step that failed; a wake does not shorten them.
        rng: Jitter.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[None]],
        *,
        interval: timedelta,
        metrics: ServiceMetrics,
        clock: Clock,
        backoff: Backoff = DEFAULT_BACKOFF,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(name)
        self._step = step
        self._interval = interval
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff
        self._rng = rng or random.Random()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Asks for a step soon; one that is running is followed by another. Event loop only."""
        self._woken.set()

    async def run(self) -> None:
        """Repeats the step until stopped."""
        failures = 0
        while True:
            self._woken.clear()
            failures = 0 if await self._is_done() else failures + 1
            if failures:
                await self._clock.sleep(self._backoff.delay(failures, self._rng))
            else:
                await self._rest()

    async def _is_done(self) -> bool:
        try:
            await self._step()
        except Fatal:
            raise
        except Retry as waiting:
            self._count("retried")
            _log.warning("reconcile_waits", name=self.name, error=repr(waiting))
            return False
        except Exception:  # noqa: BLE001 -- logged and counted; the state still has to become true
            self._count("failed")
            _log.exception("reconcile_failed", name=self.name)
            return False
        self._count("done")
        return True

    async def _rest(self) -> None:
        waits = [
            asyncio.ensure_future(self._woken.wait()),
            asyncio.ensure_future(self._clock.sleep(self._interval)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _count(self, outcome: str) -> None:
        self._metrics.reconcile_steps.labels(self.name, outcome).inc()
