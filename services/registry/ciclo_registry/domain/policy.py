"""What a rollout must show to move: stages, verdicts, limits, and the evidence it is shown."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ciclo.loop import Loop


class Stage(StrEnum):
    """Where a rollout stands."""

    SHADOW = "SHADOW"
    CANARY = "CANARY"
    BAKING = "BAKING"
    COMPLETED = "COMPLETED"
    ROLLED_BACK = "ROLLED_BACK"


class Verdict(StrEnum):
    """What is known about a challenger against the champion."""

    UNDECIDED = "UNDECIDED"
    BETTER = "BETTER"
    NOT_WORSE = "NOT_WORSE"
    WORSE = "WORSE"


class EndReason(StrEnum):
    """Why a rollout was taken back."""

    WORSE = "WORSE"
    EXPOSURE_LIMIT = "EXPOSURE_LIMIT"
    TIMEOUT = "TIMEOUT"
    NOT_BETTER = "NOT_BETTER"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    LOAD_FAILED = "LOAD_FAILED"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """What a rollout must show, and the limits within which it moves.

    Attributes:
        until: The verdict that ends the shadow.
        shadow_at_most: Event time after which a shadow without that verdict is given up.
        weights: The challenger's shares, growing, each in (0, 1).
        each: Event time that each share lasts.
        exposure_at_most: Rows that an unproven challenger may answer in the canary.
        bake: Event time for which the old champion stays warm.
        judged_within: Event time within which the next judgement must come: block, label, slack.
        stall: Wall time without progress after which a rollout is given up.
        lease: Wall time for which a canary holds unless it is renewed.
    """

    until: Verdict
    shadow_at_most: timedelta
    weights: tuple[float, ...]
    each: timedelta
    exposure_at_most: int
    bake: timedelta
    judged_within: timedelta
    stall: timedelta
    lease: timedelta


def policy_of(loop: Loop, *, stall: timedelta, lease: timedelta) -> RolloutPolicy:
    """Returns the policy that a loop.yaml declares, with this installation's wall limits."""
    rollout = loop.rollout
    return RolloutPolicy(
        until=Verdict[rollout.shadow.until.upper()],
        shadow_at_most=rollout.shadow.at_most,
        weights=rollout.canary.weights,
        each=rollout.canary.each,
        exposure_at_most=rollout.canary.exposure_at_most,
        bake=rollout.bake.for_,
        # A block is judged once it is closed and its labels have matured; one more for slack.
        judged_within=2 * loop.quality.correlated_within + loop.label.never_after,
        stall=stall,
        lease=lease,
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The evidence of a rollout after one more closed block of time.

    Attributes:
        rollout_id: The rollout that was judged.
        stage: The stage that was judged.
        challenger: Number of the version that was judged.
        verdict: What can be said.
        watermark: Event-time watermark of the model.
        exposed_rows: Rows that callers got from the challenger so far.
        blocks: Closed blocks in which both were compared.
        rows: Rows compared.
        mean_gain: Champion's loss less challenger's, over rows.
        limited_gain: The same over blocks, each limited: what the verdict rests on.
        gain_low: Lower end of its confidence sequence; None while the blocks are too few.
        gain_high: Upper end; None likewise.
    """

    rollout_id: str
    stage: Stage
    challenger: int
    verdict: Verdict
    watermark: datetime
    exposed_rows: int = 0
    blocks: int = 0
    rows: int = 0
    mean_gain: float = 0.0
    limited_gain: float = 0.0
    gain_low: float | None = None
    gain_high: float | None = None

    @property
    def order(self) -> tuple[datetime, int, int, int]:
        """Grows from one judgement of a stage to the next, if only because more rows answered."""
        return (self.watermark, self.blocks, self.rows, self.exposed_rows)
