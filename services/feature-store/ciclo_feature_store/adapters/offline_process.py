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

from ciclo.errors import Conflict, Retry
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

DEFINE_LIMIT = timedelta(minutes=2)
"""How long reading a features.py may take, Feast's import included."""

STOP_GRACE = timedelta(seconds=3)
"""How long the process may finish its task once its input is closed."""

MODULE = "ciclo_feature_store.adapters.offline"
"""What the process runs."""

_REQUEST = TypeAdapter(Request)
_A = TypeVar("_A", Definitions, SnapshotCut, SkewAudit)
_log = structlog.get_logger(__name__)


class OfflineTimeLimit(Conflict):
    """A task took longer than it may; the same would again."""

    reason = "OFFLINE_TIME_LIMIT"


class OfflineProcess:
    """A part that keeps the process and gives it one task at a time.

    Nobody waits for its start; a task waits until Feast is imported. If it dies, the task fails
    with `Retry` and the next task starts another. One that takes too long is killed with its
    process: no model waits for another's for ever. It ends when its input is closed, so it never
    outlives this process for long.

    Args:
        metrics: Show durations.
        clock: Measures them.
        at_start: Whether it is started with the service.
        limit: How long a cut or an audit may take.
        define_limit: How long reading a features.py may take.
    """

    def __init__(
        self,
        metrics: FeatureStoreMetrics,
        clock: Clock,
        *,
        at_start: bool = True,
        limit: timedelta = timedelta(minutes=15),
        define_limit: timedelta = DEFINE_LIMIT,
    ) -> None:
        self._at_start = at_start
        self._limits = {"define": define_limit, "snapshot": limit, "audit": limit}
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
            OfflineTimeLimit: It does not end.
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
            exchange = asyncio.create_task(self._exchange(task))
            # A caller that gives up must not leave an answer behind for the next task.
            answer = answers.validate_json(await asyncio.shield(exchange))
            if isinstance(answer, Failure):
                raise_failure(answer)
            outcome = "done"
            return answer
        finally:
            took = self._clock.monotonic() - started
            self._metrics.offline_tasks.labels(task.kind, outcome).observe(took)

    async def _exchange(self, task: Task) -> bytes:
        async with self._one_task:
            process, limit = await self._running(), self._limits[task.kind]
            try:
                async with asyncio.timeout(limit.total_seconds()):
                    answer = await _ask(process, _REQUEST.dump_json(Request(task)))
            except TimeoutError as error:
                await self._end(process, f"{task.kind} took longer than {limit}")
                raise OfflineTimeLimit(
                    _too_long(task, limit), metadata={"task": task.kind}
                ) from error
            except (OSError, ValueError) as error:
                answer, reason = b"", repr(error)
            else:
                reason = "it ended"
            if answer.endswith(b"\n"):
                return answer
            code = await self._end(process, reason)
            raise Retry(f"the offline process died ({reason}, code {code})", reason="OFFLINE_DIED")

    async def _end(self, process: asyncio.subprocess.Process, reason: str) -> int:
        """Makes sure that a process is gone; the next task starts another."""
        if self._process is process:
            self._process = None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
        _log.error("offline_process_died", code=code, reason=reason)
        return code

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


async def _ask(process: asyncio.subprocess.Process, request: bytes) -> bytes:
    assert process.stdin
    assert process.stdout
    process.stdin.write(request + b"\n")
    await process.stdin.drain()
    return await process.stdout.readline()


def _too_long(task: Task, limit: timedelta) -> str:
    if isinstance(task, DefineTask):
        what, advice = "reading features.py", "see whether it loops or waits for something"
    else:
        what = f"the {task.kind} of {task.join.model}"
        advice = "ask for less, or raise CICLO_OFFLINE_TIME_LIMIT"
    return f"{what} was not done within {limit}, and its process was replaced: {advice}"
