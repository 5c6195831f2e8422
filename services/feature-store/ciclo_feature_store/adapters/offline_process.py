"""The other end of the process in which Feast works; see `offline/__main__.py`.

Importing Feast takes 6 to 20 s and hundreds of megabytes, and joins would hold up online reads.
"""

import asyncio
import contextlib
import os
import sys
from datetime import timedelta
from typing import TypeVar

import structlog
from pydantic import TypeAdapter

from ciclo.errors import Retry
from ciclo_feature_store.adapters.offline.protocol import Failure, Request, raise_failure
from ciclo_feature_store.domain.definitions import Definitions
from ciclo_feature_store.domain.tasks import (
    AuditTask,
    DefineTask,
    SkewAudit,
    SnapshotCut,
    SnapshotTask,
    Task,
)
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.clock import Clock

STOP_GRACE = timedelta(seconds=3)
"""How long the process may finish its task once its input is closed."""

MODULE = "ciclo_feature_store.adapters.offline"
"""What the process runs."""

_REQUEST = TypeAdapter(Request)
_A = TypeVar("_A", Definitions, SnapshotCut, SkewAudit)
_log = structlog.get_logger(__name__)


class OfflineProcess:
    """A part that keeps the process and gives it one task at a time.

    Nobody waits for its start; a task waits until Feast is imported. If it dies, the task fails
    with `Retry` and the next task starts another. It ends when its input is closed, so it never
    outlives this process for long.

    Args:
        metrics: Show durations.
        clock: Measures them.
        at_start: Whether it is started with the service.
    """

    def __init__(
        self, metrics: FeatureStoreMetrics, clock: Clock, *, at_start: bool = True
    ) -> None:
        self._at_start = at_start
        self._metrics = metrics
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._one_task = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Number of the process, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the process, or leaves that to the first task."""
        if self._at_start:
            await self._running()

    async def stop(self) -> None:
        """Lets the task under way finish shortly, then kills."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_GRACE.total_seconds()):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def define(self, task: DefineTask) -> Definitions:
        """Reads features.py.

        Raises:
            Reject: It does not define what Ciclo can use.
            Retry: The process died.
        """
        return await self._do(task, TypeAdapter(Definitions | Failure))

    async def snapshot(self, task: SnapshotTask) -> SnapshotCut:
        """See `ports.Offline`."""
        return await self._do(task, TypeAdapter(SnapshotCut | Failure))

    async def audit(self, task: AuditTask) -> SkewAudit:
        """See `ports.Offline`."""
        return await self._do(task, TypeAdapter(SkewAudit | Failure))

    async def _do(self, task: Task, answers: TypeAdapter[_A | Failure]) -> _A:
        started, outcome = self._clock.monotonic(), "failed"
        try:
            exchange = asyncio.create_task(self._exchange(_REQUEST.dump_json(Request(task))))
            # A caller that gives up must not leave an answer behind for the next task.
            answer = answers.validate_json(await asyncio.shield(exchange))
            if isinstance(answer, Failure):
                raise_failure(answer)
            outcome = "done"
            return answer
        finally:
            took = self._clock.monotonic() - started
            self._metrics.offline_tasks.labels(task.kind, outcome).observe(took)

    async def _exchange(self, line: bytes) -> bytes:
        async with self._one_task:
            process = await self._running()
            assert process.stdin
            assert process.stdout
            reason, answer = "it ended", b""
            try:
                process.stdin.write(line + b"\n")
                await process.stdin.drain()
                answer = await process.stdout.readline()
            except (OSError, ValueError) as error:
                reason = repr(error)
            if answer.endswith(b"\n"):
                return answer
            if self._process is process:
                self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
            _log.error("offline_process_died", code=code, reason=reason)
            raise Retry(f"the offline process died ({reason}, code {code})", reason="OFFLINE_DIED")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULE,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=64 * 2**20,
                # The service's own variables are none of its business; Feast must not call home.
                env=os.environ | {"FEAST_USAGE": "False", "OMP_NUM_THREADS": "1"},
            )
        return self._process
