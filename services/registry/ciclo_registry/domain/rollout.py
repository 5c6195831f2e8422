"""The rollout: a value that moves, and the pure functions that move it.

`shadow → canary(w₁ … wₙ) → baking → completed`, and from each of them `rolled back`. A function
returns the rollout as it is afterwards; what changed is told by comparing the two.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ciclo_registry.domain.policy import EndReason, Judgement, RolloutPolicy, Stage, Verdict
from ciclo_registry.domain.versions import VersionRef


@dataclass(frozen=True, slots=True)
class End:
    """How a rollout was taken back.

    Attributes:
        reason: In one word.
        detail: For people, with the facts.
        from_stage: Where it stood.
        requested_by: Who asked; empty: nobody.
    """

    reason: EndReason
    detail: str
    from_stage: Stage
    requested_by: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A challenger on its way.

    Attributes:
        rollout_id: Also the id of the event that says that it started.
        cycle_id: The cycle that it belongs to.
        loop_digest: The definition whose policy it follows to its end.
        champion: Served when it began.
        challenger: Wants to serve.
        shadow_since: Requests from this event time on are asked again.
        create_time: Wall time at which it began.
        progress_time: Wall time of the last progress.
        stage: Where it stands.
        step: Index of the weight within the canary.
        weight: The challenger's share of the requests.
        since: Event time at which the present stage or step began; None: no request was seen yet.
        reached: Greatest event time known.
        exposed_rows: Rows that callers got from the challenger, as last judged.
        judgement: The last that was taken into account.
        blocks_before: Blocks that had been judged when the present stage or step began.
        is_forced: True once a person moved it without the evidence.
        end: How it was taken back.
    """

    rollout_id: str
    cycle_id: str
    loop_digest: str
    champion: VersionRef
    challenger: VersionRef
    shadow_since: datetime
    create_time: datetime
    progress_time: datetime
    stage: Stage = Stage.SHADOW
    step: int = 0
    weight: float = 0.0
    since: datetime | None = None
    reached: datetime | None = None
    exposed_rows: int = 0
    judgement: Judgement | None = None
    blocks_before: int = 0
    is_forced: bool = False
    end: End | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing can move it."""
        return self.stage in (Stage.COMPLETED, Stage.ROLLED_BACK)

    @property
    def is_proven(self) -> bool:
        """True if the challenger was last judged better, and nobody forced it."""
        return (
            self.judgement is not None
            and self.judgement.verdict is Verdict.BETTER
            and not self.is_forced
        )


def is_news(rollout: Rollout, judgement: Judgement) -> bool:
    """Tells whether a judgement is of this rollout's present stage, and newer than the last."""
    return (
        judgement.rollout_id == rollout.rollout_id
        and judgement.challenger == rollout.challenger.number
        and judgement.stage is rollout.stage
        and not rollout.is_over
        and (
            rollout.judgement is None
            or rollout.judgement.stage is not rollout.stage
            or judgement.order > rollout.judgement.order
        )
    )


def judge(
    rollout: Rollout,
    policy: RolloutPolicy,
    judgement: Judgement,
    *,
    now: datetime,
    may_advance: bool = True,
) -> Rollout:
    """Returns the rollout after a judgement; the same one if it is none of its business.

    Args:
        rollout: As it stands.
        policy: Of the definition that it began with.
        judgement: By the monitor, any rollout's, in any order.
        now: Wall time.
        may_advance: False while the loop is paused: it may be taken back, but not move on.
    """
    if not is_news(rollout, judgement):
        return rollout
    seen = replace(
        rollout,
        judgement=judgement,
        exposed_rows=max(rollout.exposed_rows, judgement.exposed_rows),
        since=rollout.since or judgement.watermark,
        reached=max(rollout.reached or judgement.watermark, judgement.watermark),
        progress_time=now,
    )
    ended = _reason_to_end(seen, policy, judgement)
    if ended:
        return take_back(seen, *ended)
    if may_advance and _has_earned_next(seen, policy, judgement):
        return _advance(seen, policy)
    return seen


def force(rollout: Rollout, policy: RolloutPolicy, *, now: datetime) -> Rollout:
    """Returns the rollout past its present stage; its exposure is limited from now on."""
    moved = replace(rollout, is_forced=True, progress_time=now)
    if rollout.stage is Stage.CANARY:
        moved = replace(moved, step=len(policy.weights) - 1)
    return _advance(moved, policy)


def take_back(rollout: Rollout, reason: EndReason, detail: str, *, by: str = "") -> Rollout:
    """Returns the rollout rolled back; the same one if it is over."""
    if rollout.is_over:
        return rollout
    return replace(
        rollout,
        stage=Stage.ROLLED_BACK,
        weight=0.0,
        end=End(reason, detail, from_stage=rollout.stage, requested_by=by),
    )


def observe(
    rollout: Rollout,
    policy: RolloutPolicy,
    *,
    watermark: datetime | None,
    watching_since: datetime,
    now: datetime,
) -> Rollout:
    """Returns the rollout after the model's watermark was heard of, or was not.

    Progress is a judgement, or event time that moves on towards the next one. Without progress
    for the wall limit the rollout is given up, except a proven challenger's bake: there the one
    that serves is the one that the evidence speaks for.

    Args:
        rollout: As it stands.
        policy: Of the definition that it began with.
        watermark: The model's, as last heard; None: never.
        watching_since: Wall time from which on progress would have been noticed.
        now: Wall time.
    """
    if watermark and (rollout.reached is None or watermark > rollout.reached):
        last = rollout.judgement.watermark if rollout.judgement else rollout.since
        is_overdue = last is not None and watermark >= last + policy.judged_within
        rollout = replace(
            rollout,
            reached=watermark,
            since=rollout.since or watermark,
            progress_time=rollout.progress_time if is_overdue else now,
        )
    is_stalled = now - max(rollout.progress_time, watching_since) >= policy.stall
    if not is_stalled or (rollout.stage is Stage.BAKING and rollout.is_proven):
        return rollout
    return take_back(
        rollout,
        EndReason.TIMEOUT,
        f"no judgement, and no event time towards one, for {policy.stall}",
    )


def _reason_to_end(
    rollout: Rollout, policy: RolloutPolicy, judgement: Judgement
) -> tuple[EndReason, str] | None:
    if judgement.verdict is Verdict.WORSE:
        return EndReason.WORSE, (
            f"gain {judgement.mean_gain:+.4f} over {judgement.rows} rows; by block "
            f"{judgement.limited_gain:+.4f} {_interval(judgement)} over {judgement.blocks} blocks"
        )
    if (
        rollout.stage is Stage.CANARY
        and not rollout.is_proven
        and rollout.exposed_rows >= policy.exposure_at_most
    ):
        return EndReason.EXPOSURE_LIMIT, (
            f"{rollout.exposed_rows} rows answered, at most {policy.exposure_at_most} are allowed "
            f"to a challenger that is {judgement.verdict.lower().replace('_', ' ')}"
        )
    if (
        rollout.stage is Stage.CANARY
        and judgement.blocks <= rollout.blocks_before
        and _lasted(rollout, policy.each + policy.shadow_at_most)
    ):
        return EndReason.TIMEOUT, "no block of this canary was judged: its shadow is not asked"
    if (
        rollout.stage is Stage.SHADOW
        and not _satisfies(judgement.verdict, policy.until)
        and _lasted(rollout, policy.shadow_at_most)
    ):
        return EndReason.NOT_BETTER, (
            f"{judgement.verdict.lower().replace('_', ' ')} after {policy.shadow_at_most} of "
            f"shadow, {policy.until.lower().replace('_', ' ')} is asked"
        )
    return None


def _has_earned_next(rollout: Rollout, policy: RolloutPolicy, judgement: Judgement) -> bool:
    if rollout.stage is Stage.SHADOW:
        return _satisfies(judgement.verdict, policy.until)
    if rollout.stage is Stage.BAKING:
        return _lasted(rollout, policy.bake)
    # One that was forced past its evidence has still to bring it before it answers more callers.
    is_due = not rollout.is_forced or _satisfies(judgement.verdict, Verdict.NOT_WORSE)
    return is_due and _lasted(rollout, policy.each) and judgement.blocks > rollout.blocks_before


def _interval(judgement: Judgement) -> str:
    if judgement.gain_low is None or judgement.gain_high is None:
        return "(no interval)"
    return f"[{judgement.gain_low:+.4f}, {judgement.gain_high:+.4f}]"


def _satisfies(verdict: Verdict, asked: Verdict) -> bool:
    return verdict is asked or verdict is Verdict.BETTER


def _lasted(rollout: Rollout, span: timedelta) -> bool:
    return (
        rollout.since is not None
        and rollout.reached is not None
        and rollout.reached >= rollout.since + span
    )


def _advance(rollout: Rollout, policy: RolloutPolicy) -> Rollout:
    step = rollout.step + 1 if rollout.stage is Stage.CANARY else 0
    if rollout.stage is Stage.BAKING:
        return replace(rollout, stage=Stage.COMPLETED)
    if step < len(policy.weights):
        stage, weight = Stage.CANARY, policy.weights[step]
    else:
        stage, weight = Stage.BAKING, 1.0
    judged = rollout.judgement.blocks if rollout.judgement else 0
    return replace(
        rollout,
        stage=stage,
        step=step,
        weight=weight,
        since=rollout.reached,
        blocks_before=judged,
    )
