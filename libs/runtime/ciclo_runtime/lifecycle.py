"""How a service starts, runs and stops; `__main__` calls `run`, `app.build` makes a `Service`."""

import asyncio
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import NoReturn, Protocol, Self, runtime_checkable

import structlog

from ciclo.errors import Fatal
from ciclo_runtime import log, settings
from ciclo_runtime.settings import S, SettingsError

EXIT_DIED, EXIT_SETTINGS = 1, 2
"""Exit codes: a part died or would not start or stop; the environment cannot be used."""

LAST_GRACE = timedelta(seconds=1)
"""What each part still gets once the drain timeout is used up: a database that is not closed at
all is worse than a second of delay."""

_log = structlog.get_logger(__name__)


class Part(Protocol):
    """Something a service is made of."""

    async def start(self) -> None:
        """Opens what it needs; returns when it works. Called once."""
        ...

    async def stop(self) -> None:
        """Finishes or abandons work in flight and closes everything; safe after a failed start."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A part that can die while it runs."""

    async def wait(self) -> None:
        """Raises what the part died of; never returns while it lives."""
        ...


@runtime_checkable
class Announcing(Protocol):
    """A part that tells the outside whether the service serves."""

    async def set_serving(self, is_serving: bool) -> None:
        """Called with True once all parts have started, with False when draining begins."""
        ...


class Background(ABC):
    """A part that is one task.

    Args:
        name: For the task and its log lines.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """The work. Cancelled by `stop`; if it returns or raises before, the service stops."""

    async def start(self) -> None:
        """Begins `run`."""
        self._task = asyncio.create_task(self.run(), name=self.name)

    async def stop(self) -> None:
        """Cancels `run` and waits until it has cleaned up. What it raised is told by `wait`."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def wait(self) -> None:
        """Raises what `run` raised, or `Fatal` if it ended by itself."""
        assert self._task, "wait() before start()"
        await asyncio.shield(self._task)
        raise Fatal(f"{self.name} ended by itself; it should run until it is stopped")


class Service:
    """Parts that live together: started in order, stopped in reverse.

    If one dies, all are stopped and `run` raises what it died of. If one does not start, those
    before it are stopped. `async with service` does the same for tests, without watching.

    Args:
        name: For log lines.
        parts: In the order in which they need each other.
        drain_timeout: How long stopping may take in all.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        *,
        drain_timeout: timedelta = timedelta(seconds=25),
    ) -> None:
        self.name = name
        self.stop_failures: list[Exception] = []
        self._parts = list(parts)
        self._started: list[Part] = []
        self._drain_timeout = drain_timeout

    async def run(self, stopping: asyncio.Event) -> None:
        """Starts, serves until `stopping` is set (also while starting) or a part dies, stops.

        Raises:
            Exception: What a part died of, or what kept it from starting or stopping.
        """
        serving = asyncio.create_task(self._serve(), name=self.name)
        asked = asyncio.create_task(stopping.wait(), name=f"{self.name} asked to stop")
        try:
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            serving.cancel()
            await asyncio.wait({serving})
        if not serving.cancelled():
            serving.result()

    async def __aenter__(self) -> Self:
        """Starts every part, then announces the service."""
        try:
            for part in self._parts:
                self._started.append(part)
                await part.start()
            await self._announce(is_serving=True)
        except BaseException:
            await self._stop()
            raise
        _log.info("service_serving", parts=len(self._parts))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Announces the end and stops every part."""
        await self._stop()
        if self.stop_failures and (error is None or isinstance(error, asyncio.CancelledError)):
            raise Fatal(
                f"{len(self.stop_failures)} part(s) of {self.name} did not stop; "
                f"the first said {self.stop_failures[0]!r}",
                reason="UNCLEAN_STOP",
            ) from self.stop_failures[0]

    async def _serve(self) -> None:
        async with self:
            # A service none of whose parts can die waits for its cancellation.
            watched = [part.wait() for part in self._parts if isinstance(part, Watched)]
            await _first(watched or [asyncio.Event().wait()])

    async def _announce(self, *, is_serving: bool) -> None:
        for part in self._started:
            if isinstance(part, Announcing):
                await part.set_serving(is_serving)

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_timeout.total_seconds()
        await self._attempt(self._announce(is_serving=False), "announcement", LAST_GRACE)
        while self._started:
            part = self._started.pop()
            left = max(timedelta(seconds=deadline - loop.time()), LAST_GRACE)
            await self._attempt(part.stop(), getattr(part, "name", type(part).__name__), left)
        _log.info("service_stopped")

    async def _attempt(self, stop: Awaitable[None], what: str, within: timedelta) -> None:
        try:
            async with asyncio.timeout(within.total_seconds()):
                await stop
        except Exception as error:  # noqa: BLE001 -- the other parts must be stopped too; `__aexit__` raises
            _log.exception("part_not_stopped", part=what)
            self.stop_failures.append(error)


def run(build: Callable[[S], Service], settings_type: type[S]) -> NoReturn:
    """What `__main__` does: settings, logging, signals, service, exit code.

    SIGTERM or SIGINT drains; a second one ends the process at once with 128 + its number.

    Args:
        build: The composition root; called inside the event loop, opens nothing by itself.
        settings_type: Read from the environment.
    """
    try:
        loaded = settings.load(settings_type)
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EXIT_SETTINGS)
    log.configure(loaded.log_level, loaded.log_format)
    sys.exit(asyncio.run(_main(build, loaded)))


async def _main(build: Callable[[S], Service], loaded: S) -> int:
    stopping = asyncio.Event()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        _log.info("service_stopping", signal=signal.Signals(number).name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    service = build(loaded)
    structlog.contextvars.bind_contextvars(service=service.name)
    try:
        await service.run(stopping)
    except Exception:  # noqa: BLE001 -- logged whole, and told by the exit code
        _log.critical("service_died", exc_info=True)
        if service.stop_failures:
            # A thread that would not stop would also keep the interpreter from ending.
            os._exit(EXIT_DIED)
        return EXIT_DIED
    return 0


async def _first(waits: Sequence[Awaitable[object]]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
