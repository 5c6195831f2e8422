"""What the monitor has to tell: each finding becomes one event."""

from dataclasses import dataclass
from enum import StrEnum

from ciclo_drift import Comparison, Rise
from ciclo_monitor.domain.drift import Moved


class Stage(StrEnum):
    """Where a rollout stands."""

    SHADOW = "shadow"
    CANARY = "canary"
    BAKING = "baking"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model, as the registry names it."""

    number: int
    bundle_digest: str
    signature_digest: str


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as the registry published it.

    Args:
        rollout_id: Identifies it.
        cycle_id: The cycle that it belongs to.
        cause_event_id: `ce_id` of the event that started it.
        champion: The version that served when it began.
        challenger: The version that wants to.
        stage: Where it stands.
        shadow_since_us: Requests from this event time on are asked again.
    """

    rollout_id: str
    cycle_id: str
    cause_event_id: str
    champion: Version
    challenger: Version
    stage: Stage
    shadow_since_us: int


@dataclass(frozen=True, slots=True)
class Episode:
    """A span in which a champion does not fit the world.

    Args:
        episode_id: Identifies it and the cycle that it causes.
        cause_event_id: `ce_id` of the event that opened it.
        is_drifted: Drift was detected by a reference that can promise the budget.
        is_degraded: Degraded performance was detected.
        open_us: Event time of the model when it was opened.
    """

    episode_id: str
    cause_event_id: str
    is_drifted: bool
    is_degraded: bool
    open_us: int


@dataclass(frozen=True, slots=True)
class Drifted:
    """The champion's streams left their reference.

    Without a reference that can promise the budget (`limitation`) it is told, and starts nothing.
    """

    episode_id: str
    event_id: str
    version: Version
    moved: Moved
    detect_us: int
    budget: str
    limitation: str


@dataclass(frozen=True, slots=True)
class Degraded:
    """The champion became worse than promised."""

    episode_id: str
    event_id: str
    cause_event_id: str
    version: Version
    rise: Rise
    reference: float
    observed: float
    start_us: int
    detect_us: int
    budget: str


@dataclass(frozen=True, slots=True)
class Closed:
    """An episode ended."""

    episode: Episode
    event_id: str
    reason: str
    close_us: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A rollout's evidence after one more block."""

    rollout: RolloutView
    event_id: str
    comparison: Comparison
    exposed_rows: int
    watermark_us: int
    captured: float


Finding = Drifted | Degraded | Closed | Judged
