"""Runs jobs in a few processes and keeps what each found, so that a second run is quick."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

CACHE = Path("build/bench/drift")

OURS = (
    *(f"libs/drift/ciclo_drift/{folder}*.py" for folder in ("", "engine/", "joint/")),
    *(
        f"tests/benchmarks/drift/{name}.py"
        for name in ("streams", "arms", "budgets", "many", "vectors")
    ),
)
"""Files on which figures of ours depend: when one changes, they are measured anew."""

PEERS = (
    "tests/benchmarks/drift/streams.py",
    "tests/benchmarks/drift/peers/*.py",
    "tests/benchmarks/peers.lock",
)
"""The same for other libraries."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to measure in a process of its own.

    Args:
        name: What it is called on stderr; distinct.
        function: Module-level; returns what JSON can hold.
        arguments: What it is called with; numbers, text, ranges and mappings of these.
        sources: Globs of the files on which the answer depends; none: it is never kept.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]
    sources: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where its answer is kept."""
        told = [self.function.__qualname__, repr(self.arguments), _digest(self.sources)]
        key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
        return CACHE / f"{self.function.__name__}-{key}.json"


def measure(jobs: Sequence[Job], processes: int) -> dict[str, dict[str, Any]]:
    """Returns what each job found, by its name and in order: from the cache, else measured.

    A job's answer is written as soon as it is known; what is interrupted goes on from there.
    """
    kept = (job for job in jobs if job.sources and job.path.exists())
    found = {job.name: json.loads(job.path.read_text()) for job in kept}
    left = [job for job in jobs if job.name not in found]
    if left:
        _measure(left, processes, found, len(jobs))
    return {job.name: found[job.name] for job in jobs}


def _measure(
    left: Sequence[Job], processes: int, found: dict[str, dict[str, Any]], total: int
) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    # A process group each: Ctrl-C reaches us alone, and we end a worker with all that it started.
    pool = ProcessPoolExecutor(processes, initializer=os.setpgrp)
    try:
        # Where an answer is kept is settled now: the code may change while we measure.
        waiting = {pool.submit(job.function, *job.arguments): (job, job.path) for job in left}
        _gather(waiting, found, total)
    except BaseException:
        for worker in list(pool._processes or ()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker, signal.SIGKILL)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _gather(
    waiting: Mapping[Future[dict[str, Any]], tuple[Job, Path]],
    found: dict[str, dict[str, Any]],
    total: int,
) -> None:
    for future in as_completed(waiting):
        job, path = waiting[future]
        found[job.name] = future.result()
        print(f"{len(found)}/{total} {job.name}", file=sys.stderr, flush=True)  # noqa: T201
        if job.sources:
            unfinished = path.with_suffix(".part")
            unfinished.write_text(json.dumps(found[job.name]))
            unfinished.rename(path)


def _digest(globs: Sequence[str]) -> str:
    known = hashlib.sha256()
    for path in sorted(path for pattern in globs for path in Path().glob(pattern)):
        known.update(path.read_bytes())
    return known.hexdigest()
