"""A run's own process: prepares its folder, starts it, watches its limits, stores its bundle."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ciclo.loop import LOOP_FILE, Loop
from ciclo_bundle import Field, read_bundle
from ciclo_trainer.adapters.blobs import Blobs
from ciclo_trainer.adapters.child import Child
from ciclo_trainer.adapters.dataset import missing_shares
from ciclo_trainer.domain.runs import Failure, Run, Trained
from ciclo_trainer.domain.triage import broken_inputs
from ciclo_trainer.ports import ProcessDied
from ciclo_trainer.training.progress import LOG
from ciclo_trainer.training.request import REQUEST, RESULT, Output, Request, encode_request

STEP_OF_REASON = {
    "DATASET_UNFIT": "DATASET",
    "BAD_REQUEST": "DATASET",
    "RECIPE_FAILED": "RECIPE",
    "NOT_FINITE": "RECIPE",
    "PARITY_FAILED": "PARITY",
    "BUNDLE_CORRUPT": "EVALUATION",
}
"""Where a run failed, by the reason that its process gave; BUNDLE for any other."""

TESTS = 2
"""The monitor spreads the false-alarm budget over two tests, performance and drift."""

MOST_ATTEMPTS = 5
"""A run whose process dies without a reason so often is given up: it kills what runs it."""

LOGGED = frozenset({"RECIPE_FAILED", "INTERNAL"})
"""Reasons whose traceback is in the run's log."""


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
        self._warm: Child | None = None

    async def start(self) -> None:
        """Starts a process that imports what a run needs, so that the first run need not wait."""
        self._runs.mkdir(parents=True, exist_ok=True)
        self._warm = await self._start()

    async def stop(self) -> None:
        """Ends the process that waits. One that runs ends with its task."""
        if self._warm:
            await self._warm.end()

    async def train(
        self,
        run: Run,
        champion_digest: str,
        begin: Callable[[], Awaitable[None]],
        report: Callable[[str], None],
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
        champion = await self._blobs.folder(champion_digest) if champion_digest else None
        request = await self._request(run, loop, dataset, champion)
        folder = request.out
        if not await asyncio.to_thread(self._is_done, request):
            if run.attempts >= MOST_ATTEMPTS:
                return _given_up(folder)
            await begin()
            failure = await self._work(folder, loop, report)
            if failure:
                return failure
        return await self._store(folder)

    async def _start(self) -> Child:
        return await Child.start(self._runs / LOG, self._threads)

    async def _request(self, run: Run, loop: Loop, dataset: Path, champion: Path | None) -> Request:
        definition = await self._blobs.folder(run.loop_digest)
        schema = json.loads((dataset / "schema.json").read_text())
        alarms = loop.monitor.false_alarms
        slices = {*loop.monitor.slices, *(by for g in loop.gates if (by := getattr(g, "by", None)))}
        return Request(
            model=run.model,
            dataset=dataset,
            recipe=str(definition / (run.recipe or loop.recipe)),
            out=self._runs / run.run_id,
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

    def _is_done(self, request: Request) -> bool:
        """Says whether an earlier attempt ended well, and only its bundle is yet to be stored.

        If not, the folder is made ready for the next attempt.
        """
        folder, content = request.out, encode_request(request)
        with contextlib.suppress(FileNotFoundError):
            is_same = (folder / REQUEST).read_bytes() == content
            if is_same and json.loads((folder / RESULT).read_text())["status"] == "succeeded":
                return True
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)  # what is there after the attempt is its own
        (folder / REQUEST).write_bytes(content)
        folder.touch()  # it may have waited for long, and is not among the oldest
        self._remove_oldest()
        return False

    async def _work(
        self, folder: Path, loop: Loop, report: Callable[[str], None]
    ) -> Failure | None:
        if self._warm is None or not self._warm.is_alive:
            self._warm = await self._start()
        child, self._warm = self._warm, None
        try:
            outcome = await child.work(folder, loop.retrain.limits, report)
        finally:
            await child.end()
            self._warm = await self._start()
        return outcome if isinstance(outcome, Failure) else _failure(folder, outcome)

    async def _store(self, folder: Path) -> Trained:
        bundle = read_bundle(folder / "bundle")
        digest = await self._blobs.put(bundle.path)
        result = json.loads((folder / RESULT).read_text())
        newest = datetime.fromtimestamp(0, UTC) + timedelta(
            microseconds=bundle.manifest.newest_event_time_us
        )
        metrics = _flat(result["metrics"])
        return Trained(digest, metrics, int(result["rows"]), newest)

    def _remove_oldest(self) -> None:
        found = (path for path in self._runs.iterdir() if path.is_dir())
        folders = sorted(found, key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: -self._kept - 1]:
            shutil.rmtree(folder, ignore_errors=True)


def _failure(folder: Path, status: int) -> Failure | None:
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    except FileNotFoundError:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise ProcessDied(
            f"a run's process died ({name}); it goes on from its checkpoint"
        ) from None
    if result["status"] == "succeeded":
        return None
    reason, message = result["reason"], result["message"]
    hint = f"; its traceback is in {_log_of(folder)}" if reason in LOGGED else ""
    return Failure(STEP_OF_REASON.get(reason, "BUNDLE"), reason, message + hint)


def _given_up(folder: Path) -> Failure:
    return Failure(
        "KILLED",
        "KILLED",
        f"its process died {MOST_ATTEMPTS} times and left no reason, as when the machine has no "
        f"memory left or native code crashes; see {_log_of(folder)}, then `ciclo train`",
    )


def _log_of(folder: Path) -> str:
    """Returns where people find a run's log, from the state folder on."""
    return "/".join(("trainer", *folder.parts[-2:], LOG))


def _flat(metrics: dict[str, Any]) -> dict[str, float]:
    flat = {name: found["value"] for name, found in metrics["model"].items()}
    for name, found in (metrics.get("champion") or {}).items():
        flat[f"champion:{name}"] = found["value"]
    return {name: float(value) for name, value in flat.items() if value is not None}


def _lock_digest() -> str:
    """Digest of the installed distributions and their versions: what a run's code stands on."""
    listed = sorted({f"{d.name.lower()}=={d.version}" for d in distributions()})
    return "sha256:" + hashlib.sha256("\n".join(listed).encode()).hexdigest()
