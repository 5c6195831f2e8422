"""The trainer's use cases: consider an episode, start by hand, tell of runs."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from ciclo.errors import Conflict, NotFound, Reject
from ciclo.loop import Loop
from ciclo_runtime.clock import Clock
from ciclo_trainer.domain.policy import RetrainPolicy, Situation, Start, decide
from ciclo_trainer.domain.runs import Run, RunState, Trigger
from ciclo_trainer.metrics import TrainerMetrics
from ciclo_trainer.ports import Loops, Models, ModelState, Runs, Watch
from ciclo_trainer.runner import for_each

_log = structlog.get_logger(__name__)

RUNS_REMEMBERED = 1000
"""Runs of a model that cooldown and budget look back on."""


class Trainer:
    """What the trainer decides and answers; `Runner` does the work.

    Args:
        models: What registry and monitor say.
        loops: Definitions.
        runs: The trainer's memory.
        progress: Says what a run is doing.
        clock: Wall time.
        metrics: Counts skips.
        wake: Called when a run was begun.
    """

    def __init__(
        self,
        models: Models,
        loops: Loops,
        runs: Runs,
        progress: Callable[[Run], str],
        *,
        clock: Clock,
        metrics: TrainerMetrics,
        wake: Callable[[], None],
    ) -> None:
        self._models = models
        self._loops = loops
        self._runs = runs
        self._progress = progress
        self._clock = clock
        self._metrics = metrics
        self._wake = wake

    async def consider_all(self) -> None:
        """Starts a run for every open episode whose policy says so. Right however often it runs."""
        await for_each(self._models.names(), self._consider)

    async def start_by_hand(
        self,
        model: str,
        request_id: str,
        requested_by: str,
        *,
        as_of: datetime | None = None,
        recipe: str = "",
        seed: int | None = None,
    ) -> Run:
        """Starts a run because somebody asks; the same request starts one run.

        Raises:
            NotFound: No such model.
            Reject: No `as_of`, and no request was seen that would say which time it is.
            Conflict: A run of the model is under way.
        """
        state = self._models.state(model)
        if state is None or not state.loop_digest:
            raise NotFound(f"no model {model!r}: `ciclo apply` makes one", field="model")
        as_of = as_of or self._models.watch(model).watermark
        if as_of is None:
            raise Reject(
                f"{model} has seen no request yet, so its event time is unknown: say as_of_time",
                field="as_of_time",
            )
        if not request_id:
            raise Reject(
                "request_id is empty, expected a name for this request", field="request_id"
            )
        run_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{model}/{request_id}"))
        run = await self._runs.begin(
            Run(
                run_id=run_id,
                model=model,
                cycle_id=run_id,
                trigger=Trigger.MANUAL,
                request_id=request_id,
                requested_by=requested_by,
                as_of=as_of,
                loop_digest=state.loop_digest,
                recipe=recipe,
                seed=seed,
                started_event_id=_event_id(run_id, "started"),
                create_time=self._clock.now(),
            )
        )
        self._wake()
        return run

    async def get(self, run_id: str) -> tuple[Run, str]:
        """Returns a run and what it is doing, for people.

        Raises:
            NotFound: No such run.
        """
        run = await self._runs.get(run_id)
        if run is None:
            raise NotFound(f"no run {run_id!r}", field="run_id")
        return run, self.progress(run)

    def progress(self, run: Run) -> str:
        """Returns what a run is doing, for people."""
        return self._progress(run)

    async def list(self, model: str, most: int) -> "list[Run]":
        """Returns a model's runs, newest first."""
        return list(await self._runs.list(model, most))

    async def _consider(self, model: str) -> None:
        watch, state = self._models.watch(model), self._models.state(model)
        if state and state.loop_digest and watch.episode_id and watch.watermark:
            await self._decide(model, state, watch, watch.watermark)

    async def _decide(
        self, model: str, state: ModelState, watch: Watch, watermark: datetime
    ) -> None:
        loop = await self._loops.get(state.loop_digest)
        earlier = await self._runs.list(model, RUNS_REMEMBERED)
        situation = Situation(
            episode_id=watch.episode_id,
            is_drifted=watch.is_drifted,
            is_degraded=watch.is_degraded,
            watermark=watermark,
            is_paused=state.is_paused,
            has_run=any(not run.state.is_over for run in earlier) or _is_awaited(earlier, state),
            has_rollout=state.has_rollout,
            earlier_cuts=tuple(r.as_of for r in earlier if r.trigger is not Trigger.MANUAL),
        )
        decision = decide(policy_of(loop), situation)
        if isinstance(decision, Start):
            tries = sum(run.episode_id == watch.episode_id for run in earlier)
            await self._begin(model, state, watch, watermark, decision.trigger, tries)
        elif decision and await self._runs.skip(
            model, watch.episode_id, watch.cause_event_id, decision
        ):
            self._metrics.skips.labels(model, decision.reason).inc()

    async def _begin(
        self,
        model: str,
        state: ModelState,
        watch: Watch,
        watermark: datetime,
        trigger: Trigger,
        tries: int,
    ) -> None:
        cycle_id = watch.episode_id if tries == 0 else f"{watch.episode_id}.{tries + 1}"
        run_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{model}/{cycle_id}"))
        try:
            await self._runs.begin(
                Run(
                    run_id=run_id,
                    model=model,
                    cycle_id=cycle_id,
                    cause_event_id=watch.cause_event_id,
                    trigger=trigger,
                    episode_id=watch.episode_id,
                    as_of=watermark,
                    loop_digest=state.loop_digest,
                    started_event_id=_event_id(run_id, "started"),
                    create_time=self._clock.now(),
                )
            )
        except Conflict:
            _log.info("run_already_under_way", model=model)
            return
        self._wake()


def policy_of(loop: Loop) -> RetrainPolicy:
    """Returns what a definition says about retraining."""
    return RetrainPolicy(
        mode=loop.mode,
        triggers=frozenset(map(Trigger, loop.retrain.when.any)),
        cooldown=loop.retrain.limits.cooldown,
        most_runs=loop.retrain.limits.most_runs,
        per_time=loop.retrain.limits.per_time,
    )


def _is_awaited(newest_first: Sequence[Run], state: ModelState) -> bool:
    """Says whether the registry has yet to take up the newest bundle."""
    made = (run.run_id for run in newest_first if run.state is RunState.SUCCEEDED)
    newest = next(made, state.last_run_id)
    return newest != state.last_run_id


def _event_id(run_id: str, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id}/{what}"))
