"""Brings unfinished runs to their end, one after the other; none stands in another's way."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import structlog

from ciclo.errors import Fatal, Reject, Retry
from ciclo_runtime.clock import Clock
from ciclo_trainer.domain.patience import Patience
from ciclo_trainer.domain.runs import Failure, Run, RunState, Trained
from ciclo_trainer.metrics import TrainerMetrics
from ciclo_trainer.ports import Faulty, Models, ProcessDied, Runs, Snapshots, Training

STEP_OF_STATE = {RunState.CUTTING: "DATASET", RunState.TRAINING: "BUNDLE"}
"""Where a run failed that waited in vain: for its dataset, or for blobs."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Runner:
    """Cuts, trains, ends.

    Args:
        models: What registry and monitor say.
        runs: The trainer's memory.
        snapshots: Cuts datasets.
        training: Trains.
        wait_limit: Wall time for which a run waits for others. A restart begins it anew.
        clock: Wall time.
        metrics: Counts runs.
    """

    def __init__(
        self,
        models: Models,
        runs: Runs,
        snapshots: Snapshots,
        training: Training,
        *,
        wait_limit: timedelta,
        clock: Clock,
        metrics: TrainerMetrics,
    ) -> None:
        self._models = models
        self._runs = runs
        self._snapshots = snapshots
        self._training = training
        self._wait_limit = wait_limit
        self._clock = clock
        self._metrics = metrics
        self._progress: dict[str, str] = {}
        self._waits: dict[str, Patience] = {}

    async def advance_all(self) -> None:
        """Brings every unfinished run to its end, oldest first.

        Raises:
            Retry: One has to wait; the others were brought on nevertheless.
        """
        unfinished = await self._runs.unfinished()
        self._metrics.runs_under_way.set(len(unfinished))
        await for_each(unfinished, self._advance)
        self._metrics.runs_under_way.set(0)

    def progress(self, run: Run) -> str:
        """Returns what a run is doing, for people."""
        state = str(run.state)
        return state if run.state.is_over else self._progress.get(run.run_id, state)

    async def _advance(self, run: Run) -> None:
        outcome: Trained | Failure
        try:
            if run.state is RunState.CUTTING:
                run = await self._cut(run)
            outcome = await self._train(run)
        except (Fatal, ProcessDied):
            raise
        except Retry as error:
            outcome = self._wait(run, error)
        except Reject as error:
            outcome = Failure("DATASET", error.reason, error.message)
        except Exception as error:  # noqa: BLE001 -- logged; tried again, but not for ever
            _log.exception("run_stumbled", run_id=run.run_id, model=run.model)
            outcome = self._wait(run, Faulty(f"the trainer: {error!r}; its log has more"))
        await self._end(run, outcome)

    async def _cut(self, run: Run) -> Run:
        self._progress[run.run_id] = f"cutting the dataset as of {run.as_of:%Y-%m-%d %H:%M}"
        snapshot = await self._snapshots.cut(run.model, run.as_of, run.loop_digest)
        return await self._runs.mark_cut(run, snapshot)

    async def _train(self, run: Run) -> Trained | Failure:
        async def begin() -> None:
            self._waits.pop(run.run_id, None)
            await self._runs.mark_attempt(run)

        state = self._models.state(run.model)
        return await self._training.train(
            run,
            state.champion_digest if state else "",
            begin,
            lambda text: self._progress.__setitem__(run.run_id, text),
        )

    def _wait(self, run: Run, error: Retry) -> Failure:
        """Returns why the run fails, if it has waited for long enough; if not, raises the error."""
        now = self._clock.monotonic()
        wait = self._waits.get(run.run_id) or Patience(now)
        wait = replace(wait, faults=wait.faults + isinstance(error, Faulty))
        self._waits[run.run_id] = wait
        self._progress[run.run_id] = f"waits: {error.message}"
        if not wait.is_lost(now, self._wait_limit):
            raise error
        spent = timedelta(seconds=round(now - wait.since_seconds))
        how = f"failed {wait.faults} times" if wait.faults else f"waited for {spent} in vain"
        detail = f"{how}: {error.message}. Once that is repaired: `ciclo train`"
        return Failure(STEP_OF_STATE[run.state], error.reason, detail)

    async def _end(self, run: Run, outcome: Trained | Failure) -> None:
        if isinstance(outcome, Failure):
            await self._runs.fail(run, outcome)
        else:
            await self._runs.succeed(run, outcome)
        self._progress.pop(run.run_id, None)
        self._waits.pop(run.run_id, None)
        word = "failed" if isinstance(outcome, Failure) else "succeeded"
        self._metrics.runs.labels(run.model, word).inc()
        seconds = (self._clock.now() - run.create_time).total_seconds()
        self._metrics.run_duration.labels(run.model).observe(seconds)
        _log.info("run_ended", run_id=run.run_id, model=run.model, outcome=word, seconds=seconds)


async def for_each(things: Iterable[T], step: Callable[[T], Awaitable[None]]) -> None:
    """Does a step with each thing, also where the step fails with another.

    Raises:
        Exception: The first that a step raised, in the end; `Fatal` at once.
    """
    errors = []
    for thing in things:
        try:
            await step(thing)
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 -- the first one is raised below
            errors.append(error)
    if errors:
        raise errors[0]
