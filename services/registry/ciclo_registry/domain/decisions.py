"""Every decision about a model.

Each function takes the model as it stands and returns an `Outcome`: the model afterwards, and the
facts that were made. It is called in one transaction, which writes all of it or nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ciclo_registry.domain import rollout as rollouts
from ciclo_registry.domain.facts import (
    Fact,
    LoopApplied,
    LoopPaused,
    LoopResumed,
    ModelPromoted,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutRolledBack,
    RolloutStarted,
)
from ciclo_registry.domain.model import Model, weights
from ciclo_registry.domain.policy import EndReason, Judgement, RolloutPolicy, Stage
from ciclo_registry.domain.rollout import End, Rollout
from ciclo_registry.domain.versions import Version

CICLO = "ciclo"
"""Who decides where no person does."""

FAILED_CYCLES = 3
"""So many failed cycles in a row pause a loop: a fourth would only fail again, at the same cost."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision came to.

    Attributes:
        model: Afterwards.
        facts: What happened, in order. Empty: nothing worth telling.
        rollout: The rollout as it stands or as it ended; None: untouched.
    """

    model: Model
    facts: tuple[Fact, ...] = ()
    rollout: Rollout | None = None


def apply_loop(model: Model | None, name: str, digest: str, *, by: str) -> Outcome:
    """Puts a definition into force. A rollout under way keeps the policy that it began with."""
    if model and model.loop_digest == digest:
        return Outcome(model)
    after = replace(model, loop_digest=digest) if model else Model(name, digest, salt=name)
    return Outcome(after, (LoopApplied(name, digest, by),))


def pause(model: Model, reason: str, *, by: str) -> Outcome:
    """Stops a loop from acting by itself; one that is paused stays as it is."""
    if model.is_paused:
        return Outcome(model)
    return Outcome(replace(model, is_paused=True), (LoopPaused(model.name, reason, by),))


def resume(model: Model, reason: str, *, by: str) -> Outcome:
    """Lets a loop act by itself again, and forgets its failed cycles."""
    if not model.is_paused:
        return Outcome(model)
    after = replace(model, is_paused=False, failed_cycles=0)
    return Outcome(after, (LoopResumed(model.name, reason, by),))


def fail_cycle(model: Model, what: str) -> Outcome:
    """Counts a cycle that came to nothing; pauses the loop after `FAILED_CYCLES` in a row."""
    after = replace(model, failed_cycles=model.failed_cycles + 1)
    if after.failed_cycles < FAILED_CYCLES:
        return Outcome(after)
    return pause(after, f"{after.failed_cycles} failed cycles in a row, the last: {what}", by=CICLO)


def start(
    model: Model,
    version: Version,
    *,
    rollout_id: str,
    now: datetime,
    since: datetime | None = None,
) -> Outcome:
    """Starts a version's rollout; without a champion it serves at once.

    Args:
        model: Without a rollout.
        version: Not the champion.
        rollout_id: A new id.
        now: Wall time.
        since: Event time from which on the two are compared. None: since the version's data were
            cut.
    """
    assert model.rollout is None, "at most one rollout a model"
    if model.champion is None:
        after = replace(model, champion=version.ref)
        return Outcome(after, (ModelPromoted(version.ref, None, "", model.watermark),))
    rollout = Rollout(
        rollout_id=rollout_id,
        cycle_id=version.cycle_id,
        loop_digest=model.loop_digest,
        champion=model.champion,
        challenger=version.ref,
        shadow_since=since or version.as_of_time,
        create_time=now,
        progress_time=now,
        since=model.watermark,
        reached=model.watermark,
    )
    fact = RolloutStarted(
        rollout_id, model.champion, version.ref, rollout.stage, rollout.shadow_since
    )
    return Outcome(replace(model, rollout=rollout, salt=rollout_id), (fact,), rollout)


def judge(model: Model, policy: RolloutPolicy, judgement: Judgement, *, now: datetime) -> Outcome:
    """Takes a judgement into account. One of another rollout or stage changes nothing."""
    if model.rollout is None or not rollouts.is_news(model.rollout, judgement):
        return Outcome(model)
    after = rollouts.judge(
        model.rollout, policy, judgement, now=now, may_advance=not model.is_paused
    )
    if _has_expired(model, now) and not after.is_over:
        return _lapse(model)
    return _moved(_seen(model, judgement.watermark), after, policy.lease, now)


def force(model: Model, policy: RolloutPolicy, *, by: str, reason: str, now: datetime) -> Outcome:
    """Moves the rollout past its present stage without the evidence; the facts say who and why."""
    assert model.rollout is not None, "no rollout to force"
    after = rollouts.force(model.rollout, policy, now=now)
    outcome = _moved(model, after, policy.lease, now)
    facts = tuple(
        replace(fact, forced_by=by, forced_reason=reason)
        if isinstance(fact, RolloutAdvanced)
        else fact
        for fact in outcome.facts
    )
    return replace(outcome, facts=facts)


def take_back(model: Model, reason: EndReason, detail: str, *, by: str = "") -> Outcome:
    """Takes the rollout back, or, where none is under way, returns to the previous champion."""
    if model.rollout:
        return _taken_back(model, rollouts.take_back(model.rollout, reason, detail, by=by))
    assert model.champion is not None, "nothing serves"
    assert model.previous is not None, "nothing to return to"
    fact = RolloutRolledBack(
        rollout_id=model.promoted_by,
        champion=model.previous,
        challenger=model.champion,
        end=End(reason, detail, Stage.COMPLETED, by),
        exposed_rows=0,
        event_time=model.watermark,
    )
    return Outcome(replace(model, champion=model.previous, previous=None, promoted_by=""), (fact,))


def expire_lease(model: Model, rollout_id: str, *, now: datetime) -> Outcome:
    """Takes a canary back whose lease ran out, unless it was renewed meanwhile."""
    rollout = model.rollout
    if rollout is None or rollout.rollout_id != rollout_id or not _has_expired(model, now):
        return Outcome(model)
    return _lapse(model)


def observe(
    model: Model,
    policy: RolloutPolicy | None,
    *,
    watermark: datetime | None,
    heartbeat: datetime | None,
    watching_since: datetime,
    now: datetime,
) -> Outcome:
    """Takes the monitor's heartbeat, or its silence, into account.

    Args:
        model: As it stands.
        policy: Of its rollout; None: it has none.
        watermark: The model's, as last heard.
        heartbeat: Wall time at which the monitor last spoke; None: never.
        watching_since: Wall time from which on progress would have been noticed.
        now: Wall time.
    """
    model = _seen(model, watermark)
    if model.rollout is None or policy is None:
        return Outcome(model)
    if _has_expired(model, now):
        return _lapse(model)
    after = rollouts.observe(
        model.rollout, policy, watermark=watermark, watching_since=watching_since, now=now
    )
    outcome = _moved(model, after, policy.lease, now)
    lives = heartbeat is not None and now - heartbeat < policy.lease
    until = outcome.model.lease_expire_time
    # Renewed when a third is used up: two renewals may fail before the canary does.
    if lives and until is not None and now >= until - policy.lease * 2 / 3:
        renewed = replace(outcome.model, lease_expire_time=now + policy.lease)
        return replace(outcome, model=renewed)
    return outcome


def _has_expired(model: Model, now: datetime) -> bool:
    return model.lease_expire_time is not None and now >= model.lease_expire_time


def _lapse(model: Model) -> Outcome:
    """Takes a canary back. Its route returned when its lease ran out: nothing renews it since."""
    assert model.lease_expire_time is not None
    until = model.lease_expire_time.isoformat()
    return take_back(model, EndReason.LEASE_EXPIRED, f"not renewed by {until}")


def _seen(model: Model, watermark: datetime | None) -> Model:
    if watermark is None or (model.watermark is not None and watermark <= model.watermark):
        return model
    return replace(model, watermark=watermark)


def _moved(model: Model, after: Rollout, lease: timedelta, now: datetime) -> Outcome:
    """Draws the consequences of a rollout's move for its model."""
    before = model.rollout
    assert before is not None
    if after == before:
        return Outcome(model)
    if (after.stage, after.step) == (before.stage, before.step):
        return Outcome(replace(model, rollout=after), (), after)
    match after.stage:
        case Stage.COMPLETED:
            done = replace(model, rollout=None, failed_cycles=0)
            return Outcome(
                done,
                (RolloutCompleted(after.rollout_id, after.challenger, model.watermark),),
                after,
            )
        case Stage.ROLLED_BACK:
            return _taken_back(model, after)
        case _:
            return _advanced(model, before, after, lease, now)


def _advanced(
    model: Model, before: Rollout, after: Rollout, lease: timedelta, now: datetime
) -> Outcome:
    is_canary = after.stage is Stage.CANARY
    moved = replace(model, rollout=after, lease_expire_time=now + lease if is_canary else None)
    promoted: tuple[Fact, ...] = ()
    if after.stage is Stage.BAKING:
        moved = replace(
            moved,
            champion=after.challenger,
            previous=after.champion,
            promoted_by=after.rollout_id,
        )
        promoted = (
            ModelPromoted(after.challenger, after.champion, after.rollout_id, model.watermark),
        )
    advanced = RolloutAdvanced(
        rollout_id=after.rollout_id,
        model=model.name,
        from_stage=before.stage,
        to_stage=after.stage,
        weights=weights(moved),
        event_time=model.watermark,
    )
    return Outcome(moved, (advanced, *promoted), after)


def _taken_back(model: Model, after: Rollout) -> Outcome:
    assert after.end is not None
    back = replace(model, rollout=None, lease_expire_time=None, champion=after.champion)
    if after.end.from_stage is Stage.BAKING:
        back = replace(back, previous=None, promoted_by="")
    fact = RolloutRolledBack(
        rollout_id=after.rollout_id,
        champion=after.champion,
        challenger=after.challenger,
        end=after.end,
        exposed_rows=after.exposed_rows,
        event_time=model.watermark,
    )
    if after.end.requested_by:
        return Outcome(back, (fact,), after)
    failed = fail_cycle(back, f"rollout taken back, {after.end.reason}")
    return Outcome(failed.model, (fact, *failed.facts), after)
