"""The monitor's use cases: take in a record, follow the registry, save, state what is true.

Just over 300 lines: they take turns at one state.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from ciclo.errors import Conflict, Fatal, NotFound, Reject
from ciclo.loop import Loop
from ciclo_drift import DriftInputError
from ciclo_monitor.domain.backtest import Replayed, replay
from ciclo_monitor.domain.batches import Answers, Labels
from ciclo_monitor.domain.findings import Finding
from ciclo_monitor.domain.model import ModelMonitor
from ciclo_monitor.domain.snapshots import freeze, thaw
from ciclo_monitor.domain.watch import WatchPolicy, policy_of
from ciclo_monitor.metrics import MonitorMetrics
from ciclo_monitor.ports import Definitions, Journal, Registered, Registry, Statement
from ciclo_runtime.clock import Clock

_log = structlog.get_logger(__name__)

UNKNOWN_MODEL = "-"
"""What a loss names where the gateway cannot tell whose answers they were."""

STATE_SECONDS = 0.25
"""Least wall time between two statements that differ only in the watermark: each is a transaction
here, and work for everybody who follows."""


@dataclass(slots=True)
class Watched:
    """A model with the definition that it is watched under."""

    monitor: ModelMonitor
    loop: Loop
    loop_digest: str


class Monitor:
    """Everything the monitor does, behind its ports. Calls run one after the other.

    Args:
        registry: What the registry says.
        definitions: Loops and bundles.
        journal: Memory and voice.
        metrics: Counts rows, shows evidence.
        clock: Spaces statements of state.
        most_rows: Rows kept for a model.
    """

    def __init__(
        self,
        registry: Registry,
        definitions: Definitions,
        journal: Journal,
        *,
        metrics: MonitorMetrics,
        clock: Clock,
        most_rows: int,
    ) -> None:
        self._clock = clock
        self._stated: dict[str, float] = {}
        self._registry = registry
        self._definitions = definitions
        self._journal = journal
        self._metrics = metrics
        self._most_rows = most_rows
        self._watched: dict[str, Watched] = {}
        self._offsets: dict[str, int] = {}
        self._untold: deque[tuple[str, Finding]] = deque()
        self._turn = asyncio.Lock()

    async def begin(self) -> None:
        """Goes on from what an earlier process stored."""
        await self._registry.ready()
        saved = await self._journal.load()
        for model, (loop_digest, content) in saved.models.items():
            loop = await self._definitions.loop(loop_digest)
            monitor = _thawed(model, policy_of(loop, self._most_rows), content)
            self._watched[model] = Watched(monitor, loop, loop_digest)
        self._offsets = dict(saved.offsets)

    async def follow_registry(self) -> None:
        """Makes champions and rollouts those of the registry, and saves what that changed."""
        async with self._turn:
            for model, registered in self._registry.models().items():
                if registered.loop_digest:
                    await self._follow(model, registered)

    async def loop_of(self, model: str) -> Loop:
        """Returns the definition under which a model's records are read.

        Raises:
            NotFound: The registry knows no such model.
        """
        watched = self._watched.get(model)
        if watched is None or watched.monitor.champion is None:
            await self.follow_registry()  # rows can come before the registry's news
        if model not in self._watched:
            raise NotFound(f"the registry knows no model {model!r}", field="model")
        return self._watched[model].loop

    @property
    def offsets(self) -> Mapping[str, int]:
        """The next offset of each topic that is not in the state yet."""
        return self._offsets

    def is_known(self, topic: str, offset: int) -> bool:
        """Says whether the state holds a record already."""
        return offset < self._offsets.get(topic, 0)

    async def passed(self, topic: str, offset: int) -> None:
        """Notes that a record was dealt with without changing a model."""
        async with self._turn:
            self._offsets[topic] = offset + 1

    async def take_answers(self, topic: str, offset: int, model: str, answers: Answers) -> None:
        """Takes in rows that callers got, or that were asked again.

        Raises:
            Reject: The champion's rows lack a stream of its reference, or hold another type.
        """
        kind = "shadow" if answers.rollout else "served"
        try:
            await self._take(topic, offset, model, lambda monitor: monitor.fold_answers(answers))
        except DriftInputError as error:
            raise Reject(str(error), reason="BAD_ROWS", field=error.what) from error
        self._metrics.rows.labels(model, kind).inc(len(answers.keys))

    async def take_labels(self, topic: str, offset: int, model: str, labels: Labels) -> None:
        """Takes in labels."""
        await self._take(topic, offset, model, lambda monitor: monitor.fold_labels(labels))
        self._metrics.rows.labels(model, "label").inc(len(labels.keys))

    async def take_lost(self, topic: str, offset: int, model: str, count: int) -> None:
        """Takes in that answers will never be captured; of no known model: it may be any's."""
        async with self._turn:
            for name, watched in self._watched.items():
                if model in (name, UNKNOWN_MODEL):
                    watched.monitor.fold_lost(count)
            self._offsets[topic] = offset + 1

    async def save(self) -> None:
        """Stores the state of all models with the offsets up to which it is true."""
        async with self._turn:
            await self._save()

    async def state_all(self) -> None:
        """Publishes what is held true of every model."""
        for model in list(self._watched):
            await self._journal.state(self.statement(model))
            self._show(model)

    async def dismiss(self, model: str, requested_by: str, reason: str) -> Statement:
        """Ends the open episode because a person says so.

        Raises:
            NotFound: No such model.
            Conflict: No episode is open.
            Reject: No reason.
        """
        if not reason:
            raise Reject("reason is empty, expected why the episode is dismissed", field="reason")
        async with self._turn:
            monitor = self.watched(model)
            findings = monitor.close_episode("DISMISSED")
            if not findings:
                raise Conflict(f"{model} has no open episode", field="model")
            _log.info("episode_dismissed", model=model, requested_by=requested_by, reason=reason)
            self._note(model, findings)
            await self._save()
        return self.statement(model)

    def watched(self, model: str) -> ModelMonitor:
        """Returns a model under watch.

        Raises:
            NotFound: No such model.
        """
        if model not in self._watched:
            raise NotFound(f"no model {model!r} is watched", field="model")
        return self._watched[model].monitor

    def backtest(
        self, model: str, version: int, *, tolerance: float, budget_blocks: float
    ) -> list[Replayed]:
        """Returns what another policy would have said of the champion's recorded losses.

        Args:
            model: The model.
            version: Of whom; 0 for the champion, whose promise is at hand.
            tolerance: Rise that is not degraded. Unit of the loss.
            budget_blocks: Blocks between false alarms.

        Raises:
            NotFound: No such model, or no champion, or the version is not the champion.
            Reject: The policy is out of range.
        """
        monitor = self.watched(model)
        champion = monitor.champion
        if champion is None or version not in (0, champion.version.number):
            raise NotFound(f"{model}: version {version or ''} is not the champion", field="version")
        last = monitor.last_closed_block
        losses = [
            loss
            for loss in monitor.losses.with_kept(monitor.rows.kept)
            if loss.is_served and loss.version == champion.version.number and loss.block <= last
        ]
        try:
            return list(
                replay(losses, champion.held_out, tolerance=tolerance, budget_blocks=budget_blocks)
            )
        except DriftInputError as error:
            raise Reject(str(error), field=error.what) from error

    def statement(self, model: str) -> Statement:
        """Returns what is held true of a model."""
        monitor = self.watched(model)
        version = monitor.champion.version if monitor.champion else None
        return Statement(model, monitor.watermark_us, version, monitor.episode)

    async def _take(
        self,
        topic: str,
        offset: int,
        model: str,
        fold: Callable[[ModelMonitor], Sequence[Finding]],
    ) -> None:
        async with self._turn:
            monitor = self._watched[model].monitor
            before_us = monitor.watermark_us
            if not self.is_known(topic, offset):  # else it was taken, and what it said is untold
                self._note(model, fold(monitor))
                self._offsets[topic] = offset + 1
            has_news = bool(self._untold)
            await self._tell()
            is_later = monitor.watermark_us > before_us
        now = self._clock.monotonic()
        if has_news or (is_later and now - self._stated.get(model, -1e9) >= STATE_SECONDS):
            self._stated[model] = now
            await self._journal.state(self.statement(model))

    async def _follow(self, model: str, registered: Registered) -> None:
        watched = self._watched.get(model)
        if watched and _is_followed(watched, registered):
            return
        # What was read before the news stays before it: a process that replaces this one would
        # otherwise judge the rollout from rows that came earlier.
        await self._save()
        if watched is None or watched.loop_digest != registered.loop_digest:
            watched = await self._define(model, watched, registered.loop_digest)
        monitor, version = watched.monitor, registered.champion
        if version != (monitor.champion.version if monitor.champion else None):
            champion = await self._definitions.champion(version) if version else None
            self._note(model, monitor.set_champion(champion))
        if registered.rollout != monitor.rollout:
            self._note(model, monitor.set_rollout(registered.rollout))
        await self._save()
        await self._journal.state(self.statement(model))

    async def _define(self, model: str, watched: Watched | None, loop_digest: str) -> Watched:
        loop = await self._definitions.loop(loop_digest)
        policy = policy_of(loop, self._most_rows)
        if watched and watched.monitor.policy.calendar == policy.calendar:
            # Another definition: the rows stay, and are tested anew under the new policy.
            monitor = thaw(model, policy, freeze(watched.monitor))
            monitor.begin_performance()
        else:
            monitor = ModelMonitor(model, policy)
        self._watched[model] = Watched(monitor, loop, loop_digest)
        return self._watched[model]

    def _note(self, model: str, findings: Sequence[Finding]) -> None:
        self._untold.extend((model, finding) for finding in findings)

    async def _tell(self) -> None:
        """Publishes what was found; what cannot be published now stays to be."""
        while self._untold:
            model, finding = self._untold[0]
            await self._journal.tell(model, [finding])
            self._untold.popleft()

    async def _save(self) -> None:
        await self._tell()  # a state that holds a finding must not outlive its event
        frozen = {m: (w.loop_digest, freeze(w.monitor)) for m, w in self._watched.items()}
        await self._journal.save(frozen, self._offsets)

    def _show(self, model: str) -> None:
        monitor = self.watched(model)
        if monitor.performance:
            rise = monitor.performance.rise
            ratio = rise.evidence / rise.threshold
            self._metrics.evidence.labels(model, "performance").set(ratio)
            loss = monitor.performance.newest_loss
            if loss is not None:
                self._metrics.loss.labels(model, str(monitor.performance.version)).set(loss)
        if monitor.drift:
            now = monitor.drift.now
            self._metrics.evidence.labels(model, "drift").set(now.evidence / now.threshold)
        self._metrics.rows_kept.labels(model).set(len(monitor.rows.kept))
        self._metrics.captured.labels(model).set(monitor.captured)
        self._metrics.episode_open.labels(model).set(monitor.episode is not None)


def _thawed(model: str, policy: WatchPolicy, content: bytes) -> ModelMonitor:
    try:
        return thaw(model, policy, content)
    except (DriftInputError, KeyError, TypeError, ValueError) as error:
        raise Fatal(
            f"the stored state of {model} is of another version of the monitor ({error!r}): begin "
            "with an empty state folder, or go back to the version that wrote it",
            reason="STATE_OF_ANOTHER_VERSION",
        ) from error


def _is_followed(watched: Watched, registered: Registered) -> bool:
    monitor = watched.monitor
    version = monitor.champion.version if monitor.champion else None
    known = Registered(watched.loop_digest, version, monitor.rollout)
    return known == registered
