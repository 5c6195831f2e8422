"""A process that works off one run: kept warm, watched for its limits, ended with all it began."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from ciclo.loop import Limits
from ciclo_trainer.domain.runs import Failure
from ciclo_trainer.training.progress import newest_progress
from ciclo_trainer.training.request import REQUEST

WATCH_INTERVAL_SECONDS = 0.25
"""How often progress and memory of a process are looked at."""

MIB = 2**20
"""Bytes."""

_PR_SET_PDEATHSIG = 1


class Child:
    """A process, its imports done or under way, that waits for the folder of a run.

    Nothing that it writes makes it wait: progress and prints go to files.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, log: Path, threads: int) -> "Child":
        """Starts one.

        Args:
            log: Takes what is printed before there is a run.
            threads: Processor threads of the run.
        """
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-m", "ciclo_trainer.training", "--wait", str(threads)),
                stdin=asyncio.subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,  # what a recipe starts can be ended with it
                preexec_fn=_die_with_parent,
            )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it can be given a run."""
        return self._process.returncode is None

    async def work(
        self, folder: Path, limits: Limits, report: Callable[[str], None]
    ) -> int | Failure:
        """Gives it a run and returns its exit status, or the limit that it broke. Then `end` it.

        Args:
            folder: The run's, with request.json.
            limits: Of time and memory; they hold until the process has ended.
            report: Called with what the run does, for people.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder / REQUEST}\n".encode())
        self._process.stdin.close()
        now = asyncio.get_running_loop().time
        until = now() + limits.time.total_seconds()
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while not (await asyncio.wait((ended,), timeout=WATCH_INTERVAL_SECONDS))[0]:
                done = newest_progress(folder) or "no epoch done"
                report(done)
                if now() > until:
                    return _too_long(limits, done)
                if (held_bytes := _held_bytes(self._process.pid)) > limits.memory:
                    return _too_large(limits, held_bytes, done)
            return ended.result()
        finally:
            ended.cancel()

    async def end(self) -> None:
        """Kills it and what it started; returns once it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


def _too_long(limits: Limits, done: str) -> Failure:
    return Failure(
        "TIMEOUT",
        "TIME_LIMIT",
        f"not finished within retrain.limits.time, {limits.time} ({done}); allow more time, or let "
        "the recipe do less",
    )


def _too_large(limits: Limits, held_bytes: int, done: str) -> Failure:
    return Failure(
        "KILLED",
        "MEMORY_LIMIT",
        f"held {held_bytes // MIB} MiB, more than retrain.limits.memory, {limits.memory // MIB} MiB"
        f" ({done}); allow more, or let the recipe hold less, as by smaller batches",
    )


def _held_bytes(pid: int) -> int:
    """Returns the memory of a process and of those that it started, shared pages counted once."""
    try:
        process = psutil.Process(pid)
        others = process.children(recursive=True)
        return int(process.memory_info().rss) + sum(map(_own_bytes, others))
    except psutil.Error:  # it has just ended
        return 0


def _own_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def _die_with_parent() -> None:
    """Two processes must never write one run's folder: the child ends with a killed trainer."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(5)  # requests are answered first
