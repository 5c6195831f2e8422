"""The story that the demo plays: what is done from outside; the loop does the rest by itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from flights import DAY_US, HOUR_US, World, read_restated, read_world
from plans import Plan, at
from player import MODEL, Played, Player
from screen import Screen, View
from system import Services, System, TritonCounts, Watch
from worlds import with_shuffled_days, without_labels

from ciclo.cli.telling import told
from ciclo.events.v1.rollout_judged_pb2 import STAGE_CANARY, STAGE_SHADOW

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from ciclo.history import RecordedEvent

KNOWLEDGE_LAG_US: Final = 2 * HOUR_US
"""As loop.yaml declares it; the player waits for features up to it."""

QUIET_EVENTS: Final = ("RolloutJudged", "VersionLoaded", "RoutesApplied")
"""Too many, or of no interest, for the screen; `ciclo why` shows them."""

FORCED_FOR: Final = "demo: to see the canary take a bad model back"


@dataclass(slots=True)
class Told:
    """What the run left behind besides the system itself. Times in seconds of wall time.

    Args:
        seconds: By part of the run.
        skew: Rows audited, and rows that differ.
        evidence: The monitor's evidence, about once an event day.
        health: The monitor's last word.
        triton_requests: By version, as the serving Triton counted them.
        triton_ready: Versions that the serving Triton had ready, at each look.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    skew: list[int] = field(default_factory=lambda: [0, 0])
    evidence: list[dict[str, Any]] = field(default_factory=list)
    health: Any = None
    triton_requests: Counter[int] = field(default_factory=Counter)
    triton_ready: list[dict[str, Any]] = field(default_factory=list)


class Story:
    """One run.

    Args:
        plan: When what is done.
        system: Not started yet.
        loop: Folder of the loop's definition.
        cache: Folder of the prepared flights.
        screen: Told what happens.
    """

    def __init__(self, plan: Plan, system: System, loop: Path, cache: Path, screen: Screen) -> None:
        self.told = Told()
        self.played = Played()
        self.events: list[RecordedEvent] = []
        self._plan = plan
        self._system = system
        self._loop = loop
        self._cache = cache
        self._screen = screen
        self._stage = ""
        self._now_us = plan.start
        self._is_over = False
        self._ticked = asyncio.Event()
        self._restated_us: int | None = None

    async def run(self) -> None:
        """Plays the story to its end; the system is left running."""
        begun = time.perf_counter()
        self._enter("starting Kafka, Triton, Envoy and the five services")
        world, _ = await asyncio.gather(asyncio.to_thread(self._world), self._system.up())
        self.told.seconds["up"] = time.perf_counter() - begun
        addresses, env = self._system.addresses, self._system.env
        async with (
            Services(addresses) as services,
            TritonCounts(addresses["triton-serving"]) as counts,
            Watch(addresses["kafka"], env, self._note) as watch,
            Player(addresses, env, KNOWLEDGE_LAG_US) as player,
        ):
            self.events, self.played = watch.events, player.played
            await self._bootstrap(world, player, watch)
            self.told.seconds["bootstrap"] = time.perf_counter() - begun - self.told.seconds["up"]
            self.told.triton_requests, self.told.triton_ready = counts.requests, counts.ready
            await self._play(world, player, watch, services, counts)
            await counts.look()
            self.told.health = await services.health()

    def _world(self) -> World:
        world = read_world(self._cache)
        if self._plan.control == "no-labels":
            # History is labelled; nobody learns how the flights of the played days ended.
            before = world.labels["known_time_us"] < self._plan.start
            silent = without_labels(world)
            return World(silent.requests, world.labels[before], silent.features)
        if self._plan.control == "permuted":
            season = (at("2013-01-01 08:00"), at("2013-05-15 08:00"))
            return with_shuffled_days(world, 0, *season)
        return world

    async def _bootstrap(self, world: World, player: Player, watch: Watch) -> None:
        self._enter("bootstrap: definitions, history, version 1")
        await self._system.command("apply", str(self._loop))
        stored = await player.send_history(world, self._plan.start)
        self._screen.note(f"history: {stored} flights, {len(world.features)} feature views")
        await self._system.command("train", MODEL, "--as-of", _text(self._plan.first_cut))
        await watch.wait("RoutesApplied", within_s=60)

    async def _play(
        self,
        world: World,
        player: Player,
        watch: Watch,
        services: Services,
        counts: TritonCounts,
    ) -> None:
        self._enter("traffic")
        begun = time.perf_counter()
        helpers = [asyncio.create_task(self._sample(services, player))]
        helpers += [asyncio.create_task(counts.follow())]
        helpers += [asyncio.create_task(act) for act in self._acts(player, watch, services)]
        try:
            await player.play(
                world,
                self._plan.start,
                self._plan.end,
                self._plan.days_per_second,
                on_hour=self._tick,
                is_over=lambda: self._is_over or any(_has_failed(task) for task in helpers),
            )
            await self._audit(services, self._restated_us or self._plan.start, self._now_us)
        finally:
            for task in helpers:
                task.cancel()
            ended = await asyncio.gather(*helpers, return_exceptions=True)
            self.told.seconds["play"] = time.perf_counter() - begun
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def _acts(
        self, player: Player, watch: Watch, services: Services
    ) -> list[Coroutine[Any, Any, None]]:
        if self._plan.backfill:
            return [self._bad_challenger(player, watch, services)]
        if self._plan.again:
            return [self._equal_challenger()]
        return []

    async def _bad_challenger(self, player: Player, watch: Watch, services: Services) -> None:
        """A backfill goes wrong, somebody trains on it, the shadow stops it, somebody insists."""
        await watch.wait("RolloutCompleted", within_s=300)
        await self._reach(self._plan.backfill or 0)
        self._enter("a bad challenger: a backfill stamps delays too early")
        self._restated_us = self._now_us
        await self._audit(services, self._plan.start, self._now_us)
        restated = await asyncio.to_thread(read_restated, self._cache)
        # What is served from then on stays honest: a request asks for two hours ago.
        await player.restate(restated, 0, self._restated_us - 6 * HOUR_US)
        await self._system.command("train", MODEL, "--as-of", _text(self._restated_us))
        stopped = await watch.wait(
            "RolloutRolledBack", lambda m: m.from_stage == STAGE_SHADOW, within_s=120
        )
        version = stopped.message.challenger.version  # type: ignore[attr-defined]
        self._enter(f"somebody forces version {version} past the shadow")
        await self._system.command(
            *("rollout", "force", MODEL, "--version", str(version), "--reason", FORCED_FOR)
        )
        await watch.wait("RolloutRolledBack", lambda m: m.from_stage == STAGE_CANARY, within_s=120)
        self._enter("taken back")
        await self._reach(self._now_us + DAY_US)
        self._is_over = True

    async def _equal_challenger(self) -> None:
        """Somebody trains the same recipe from another seed: neither better nor worse."""
        await self._reach(self._plan.again or 0)
        self._enter("an equal challenger: another seed on the same data")
        cut = _text(self._plan.first_cut)
        again = ("--recipe", "recipe.py:FlightDelayAgain", "--as-of", cut)
        await self._system.command("train", MODEL, *again)

    async def _reach(self, time_us: int) -> None:
        while self._now_us < time_us:
            await self._ticked.wait()

    async def _audit(self, services: Services, first_us: int, last_us: int) -> None:
        if last_us <= first_us:
            return
        span = (datetime.fromtimestamp(us / 1e6, UTC) for us in (first_us, last_us))
        audited, different = await services.audit_skew(*span)
        self.told.skew[0] += audited
        self.told.skew[1] += different

    async def _sample(self, services: Services, player: Player) -> None:
        sampled_us = 0
        while True:
            await asyncio.sleep(0.5)
            if self._now_us - sampled_us < DAY_US:
                continue
            sampled_us = self._now_us
            with suppress(grpc.aio.AioRpcError):
                self._show(await services.health(), await services.state(), player.played)

    def _show(self, health: Any, state: Any, played: Played) -> None:
        now = datetime.fromtimestamp(self._now_us / 1e6, UTC)
        self.told.evidence.append(
            {
                "event_time": now.isoformat(),
                "performance": health.performance.value,
                "threshold": health.performance.threshold,
                "drift": health.drift.value,
                "drift_threshold": health.drift.threshold,
                "version": health.state.version.version,
            }
        )
        challenger = state.rollout.challenger.version if state.HasField("rollout") else 0
        wall = max(time.perf_counter() - self._begun, 1e-9)
        self._screen.show(
            View(
                event_time=now,
                rate_days_per_s=(self._now_us - self._plan.start) / DAY_US / wall,
                rows_answered=played.rows_answered,
                failed=len(played.failed),
                waited_s=played.waited_s,
                champion_loss=_newest_loss(health, state.champion.version),
                challenger_loss=_newest_loss(health, challenger),
                evidence=health.performance.value,
                threshold=health.performance.threshold,
                moved=[change.stream for change in health.streams[:3]],
                weights={w.version: w.weight for w in state.weights},
                stage=self._stage,
            )
        )

    def _tick(self, now_us: int) -> None:
        if now_us == self._plan.start:
            self._begun = time.perf_counter()
        self._now_us = now_us
        self._ticked.set()  # wakes those who wait now
        self._ticked.clear()

    def _enter(self, stage: str) -> None:
        self._stage = stage
        self._screen.stage(stage)

    def _note(self, event: RecordedEvent) -> None:
        if event.name not in QUIET_EVENTS:
            when = f"{event.event_time:%Y-%m-%d}" if event.event_time else " " * 10
            self._screen.note(f"{when} {event.name} {told(event.message)}")


def _text(time_us: int) -> str:
    """Returns a time as RFC 3339."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat().replace("+00:00", "Z")


def _newest_loss(health: Any, version: int) -> float | None:
    losses = [x.loss for x in health.losses if x.version == version and x.closed]
    return float(losses[-1]) if losses else None


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None
