"""Whether an open episode starts a run now: composable rules, each with the fact behind it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ciclo_trainer.domain.runs import Trigger


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """What the loop's owner declared.

    Args:
        mode: observe: report; propose: ask a person; act: train.
        triggers: Reasons that suffice.
        cooldown: Event time from one cut to the next.
        most_runs: How many runs are started by themselves within `per_time`.
        per_time: Event time that `most_runs` is spread over.
    """

    mode: Literal["observe", "propose", "act"]
    triggers: frozenset[Trigger]
    cooldown: timedelta
    most_runs: int
    per_time: timedelta


@dataclass(frozen=True, slots=True)
class Situation:
    """What is true of a model now.

    Args:
        episode_id: The open episode.
        is_drifted: Drift was detected in it, by a reference that can promise the budget.
        is_degraded: Degraded performance was detected in it.
        watermark: Event time of the model. UTC.
        is_paused: The loop does not act.
        has_run: A run of this model is under way, or the registry has yet to take up its bundle.
        has_rollout: A rollout of this model is under way.
        earlier_cuts: Event times of the cuts of earlier runs, any order.
    """

    episode_id: str
    is_drifted: bool
    is_degraded: bool
    watermark: datetime
    is_paused: bool
    has_run: bool
    has_rollout: bool
    earlier_cuts: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """A run is due."""

    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Skip:
    """No run is due now, for a reason that people are told once."""

    reason: str
    detail: str


def decide(policy: RetrainPolicy, now: Situation) -> Start | Skip | None:
    """Returns what follows from an open episode; None while its own run is under way.

    Asked again whenever a run, a cooldown, a rollout or an episode changes: no decision depends on
    seeing one event once.
    """
    if now.has_run:
        return None
    trigger = _trigger(policy, now)
    if trigger is None:
        found = " and ".join(sorted(_found(now))) or "drift that cannot be held to a budget"
        wanted = ", ".join(sorted(policy.triggers))
        return Skip("NOT_A_TRIGGER", f"the episode has {found}; the policy trains for {wanted}")
    return _held_back(policy, now) or Start(trigger)


def _held_back(policy: RetrainPolicy, now: Situation) -> Skip | None:
    if now.is_paused:
        return Skip("PAUSED", "the loop is paused; `ciclo resume` lets it act again")
    if policy.mode == "observe":
        return Skip("OBSERVE_ONLY", "the loop's mode is observe; nothing is trained by itself")
    if policy.mode == "propose":
        return Skip("AWAITING_PERSON", "the loop's mode is propose; `ciclo train` agrees")
    if now.has_rollout:
        return Skip("ROLLOUT_IN_PROGRESS", "another version is on its way")
    if now.earlier_cuts and now.watermark - max(now.earlier_cuts) < policy.cooldown:
        until = max(now.earlier_cuts) + policy.cooldown
        return Skip(
            "COOLDOWN", f"the next cut is allowed from {until:%Y-%m-%d %H:%M} event time on"
        )
    recent = [cut for cut in now.earlier_cuts if cut > now.watermark - policy.per_time]
    if len(recent) >= policy.most_runs:
        return Skip(
            "BUDGET_SPENT", f"{len(recent)} runs within {policy.per_time.days} d of event time"
        )
    return None


def _found(now: Situation) -> set[Trigger]:
    pairs = ((now.is_degraded, Trigger.DEGRADED), (now.is_drifted, Trigger.DRIFT))
    return {trigger for is_found, trigger in pairs if is_found}


def _trigger(policy: RetrainPolicy, now: Situation) -> Trigger | None:
    return min(_found(now) & policy.triggers, default=None)
