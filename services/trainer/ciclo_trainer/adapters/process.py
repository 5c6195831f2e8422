"""A run's own process: prepares its folder, starts it, watches its limits, stores its bundle."""

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil

from ciclo.errors import Retry
from ciclo.loop import LOOP_FILE, Loop
from ciclo_bundle import Field, read_bundle
from ciclo_trainer.adapters.blobs import Blobs
from ciclo_trainer.adapters.dataset import missing_shares
from ciclo_trainer.domain.runs import Failure, Run, Trained
from ciclo_trainer.domain.triage import broken_inputs
from ciclo_trainer.training.request import Output, Request, encode_request

STEP_OF_REASON = {
    "DATASET_UNFIT": "DATASET",
    "BAD_REQUEST": "DATASET",
    "RECIPE_FAILED": "RECIPE",
    "NOT_FINITE": "RECIPE",
    "PARITY_FAILED": "PARITY",
    "BUNDLE_CORRUPT": "EVALUATION",
}
"""Where a run failed, by the reason that its process gave; BUNDLE for any other."""

WATCH_INTERVAL_SECONDS = 0.25
"""How often the memory of a process is looked at."""

TESTS = 2
"""The monitor spreads the false-alarm budget over two tests, performance and drift."""

MOST_ATTEMPTS = 5
"""A run whose process dies without a reason so often is given up: it kills what runs it."""

_PR_SET_PDEATHSIG = 1


class TrainingProcess:
    """A part that turns a dataset into a bundle in a process of its own, kept warm.

    Satisfies `ports.Training`.

    Args:
        runs: Folder of all runs.
        blobs: Datasets, definitions and bundles.
        threads: Processor threads of a run.
        kept: Ended runs whose folders are kept.
    """

    def __init__(self, runs: Path, blobs: Blobs, *, threads: int, kept: int) -> None:
        self._runs = runs
        self._blobs = blobs
        self._threads = threads
        self._kept = kept
        self._lock_digest = _lock_digest()
        self._warm: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts a process that imports what a run needs, so that the first run need not wait."""
        self._runs.mkdir(parents=True, exist_ok=True)
        self._warm = await self._start()

    async def stop(self) -> None:
        """Ends the process that waits. One that runs ends with its task."""
        if self._warm:
            await _end(self._warm)

    async def train(
        self, run: Run, champion_digest: str, report: Callable[[str], None]
    ) -> Trained | Failure:
        """Runs the process to its end; after a kill it goes on from the last checkpoint."""
        loop = await self._blobs.get(run.loop_digest)
        dataset = await self._blobs.folder(run.dataset_digest)
        broken = broken_inputs(await asyncio.to_thread(missing_shares, dataset))
        if broken:
            return Failure(
                "DATASET",
                "BROKEN_INPUT",
                f"{', '.join(broken)}: missing in the newest rows, as they were not before; "
                "repair the source, then `ciclo train`",
            )
        if run.attempts > MOST_ATTEMPTS:
            return Failure("KILLED", "KILLED", f"its process died {MOST_ATTEMPTS} times")
        champion = await self._blobs.folder(champion_digest) if champion_digest else None
        folder = await self._prepare(run, loop, dataset, champion)
        failure = await self._watch(folder, loop, report)
        return failure or await self._store(folder)

    async def _start(self) -> asyncio.subprocess.Process:
        with (self._runs / "log.txt").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ciclo_trainer.training", "--wait", str(self._threads)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    async def _prepare(self, run: Run, loop: Loop, dataset: Path, champion: Path | None) -> Path:
        folder = self._runs / run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        definition = await self._blobs.folder(run.loop_digest)
        schema = json.loads((dataset / "schema.json").read_text())
        alarms = loop.monitor.false_alarms
        slices = {*loop.monitor.slices, *(by for g in loop.gates if (by := getattr(g, "by", None)))}
        request = Request(
            model=run.model,
            dataset=dataset,
            recipe=str(definition / (run.recipe or loop.recipe)),
            out=folder,
            inputs=tuple(Field(**field) for field in schema["inputs"]),
            output=Output(loop.output.name, loop.output.type),
            holdout_days=loop.retrain.data.holdout.days,
            seed=run.seed,
            champion=champion,
            slices=tuple(sorted(slices)),
            dataset_digest=run.dataset_digest,
            block_us=loop.quality.correlated_within // timedelta(microseconds=1),
            threads=self._threads,
            lock_digest=self._lock_digest,
            policy=definition / LOOP_FILE,
            budget_blocks=TESTS * (alarms.per / loop.quality.correlated_within) / alarms.at_most,
        )
        (folder / "request.json").write_bytes(encode_request(request))
        await asyncio.to_thread(self._remove_oldest)
        return folder

    async def _watch(
        self, folder: Path, loop: Loop, report: Callable[[str], None]
    ) -> Failure | None:
        limits = loop.retrain.limits
        if self._warm is None or self._warm.returncode is not None:
            self._warm = await self._start()
        process, self._warm = self._warm, None
        assert process.stdin is not None
        process.stdin.write(f"{folder / 'request.json'}\n".encode())
        process.stdin.close()
        followed = asyncio.ensure_future(_follow(process, report))
        grown = asyncio.ensure_future(_has_grown_beyond(process.pid, limits.memory))
        try:
            await asyncio.wait(
                (followed, grown),
                timeout=limits.time.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if grown.done() and grown.result():
                detail = f"more than retrain.limits.memory, {limits.memory} bytes"
                return Failure("KILLED", "MEMORY_LIMIT", detail)
            if not followed.done():
                detail = f"longer than retrain.limits.time, {limits.time}"
                return Failure("TIMEOUT", "TIME_LIMIT", detail)
            await process.wait()
        finally:
            followed.cancel()
            grown.cancel()
            await _end(process)
            self._warm = await self._start()
        return _failure(folder, process.returncode or 0)

    async def _store(self, folder: Path) -> Trained:
        bundle = read_bundle(folder / "bundle")
        digest = await self._blobs.put(bundle.path)
        result = json.loads((folder / "result.json").read_text())
        newest = datetime.fromtimestamp(0, UTC) + timedelta(
            microseconds=bundle.manifest.newest_event_time_us
        )
        metrics = _flat(result["metrics"])
        return Trained(digest, metrics, int(result["metrics"]["holdout"]["rows"]), newest)

    def _remove_oldest(self) -> None:
        found = (path for path in self._runs.iterdir() if path.is_dir())
        folders = sorted(found, key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: -self._kept - 1]:
            shutil.rmtree(folder, ignore_errors=True)


async def _follow(process: asyncio.subprocess.Process, report: Callable[[str], None]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "epoch":
            report(f"epoch {event['epoch']} of {event['of']}")
        elif event["event"] == "step":
            report(f"{event['step']} done")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def _has_grown_beyond(pid: int, limit_bytes: int) -> bool:
    """Returns True once a process holds more memory than allowed; waits as long as it does not."""
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).memory_info().rss > limit_bytes:
                return True
        await asyncio.sleep(WATCH_INTERVAL_SECONDS)


def _failure(folder: Path, status: int) -> Failure | None:
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except FileNotFoundError:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise Retry(f"a run's process died ({name}); it goes on from its checkpoint") from None
    if result["status"] == "succeeded":
        return None
    step = STEP_OF_REASON.get(result["reason"], "BUNDLE")
    return Failure(step, result["reason"], result["message"])


def _flat(metrics: dict[str, Any]) -> dict[str, float]:
    flat = {name: found["value"] for name, found in metrics["model"].items()}
    for name, found in (metrics.get("champion") or {}).items():
        flat[f"champion:{name}"] = found["value"]
    return {name: float(value) for name, value in flat.items() if value is not None}


def _lock_digest() -> str:
    """Digest of the installed distributions and their versions: what a run's code stands on."""
    listed = sorted({f"{d.name.lower()}=={d.version}" for d in distributions()})
    return "sha256:" + hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _die_with_parent() -> None:
    """Two processes must never write one run's folder: the child ends with a killed trainer."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(5)  # requests are answered first
