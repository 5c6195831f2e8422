"""What the registry says has happened: published as events, and written into the audit chain."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ciclo_registry.domain.gates import GateResult
from ciclo_registry.domain.policy import EndReason, Stage
from ciclo_registry.domain.rollout import End
from ciclo_registry.domain.versions import Status, VersionRef


class Variant(StrEnum):
    """What a version is to the callers of its model."""

    CHAMPION = "CHAMPION"
    CHALLENGER = "CHALLENGER"
    PINNED = "PINNED"


@dataclass(frozen=True, slots=True)
class Weight:
    """A version's share of the requests.

    Attributes:
        version: Its number.
        variant: What it is to the callers.
        share: In [0, 1].
    """

    version: int
    variant: Variant
    share: float


@dataclass(frozen=True, slots=True)
class LoopApplied:
    """A loop definition is in force."""

    model: str
    loop_digest: str
    applied_by: str


@dataclass(frozen=True, slots=True)
class LoopPaused:
    """A loop stopped acting by itself."""

    model: str
    reason: str
    requested_by: str


@dataclass(frozen=True, slots=True)
class LoopResumed:
    """A paused loop acts by itself again."""

    model: str
    reason: str
    requested_by: str


@dataclass(frozen=True, slots=True)
class VersionRegistered:
    """A bundle became a version."""

    version: VersionRef
    run_id: str
    dataset_digest: str


@dataclass(frozen=True, slots=True)
class GatesEvaluated:
    """The gates judged a version's evidence."""

    version: VersionRef
    passed: bool
    results: tuple[GateResult, ...]


@dataclass(frozen=True, slots=True)
class RolloutStarted:
    """A challenger begins its way."""

    rollout_id: str
    champion: VersionRef
    challenger: VersionRef
    stage: Stage
    shadow_since: datetime


@dataclass(frozen=True, slots=True)
class RolloutAdvanced:
    """A rollout moved on to another stage or weight."""

    rollout_id: str
    model: str
    from_stage: Stage
    to_stage: Stage
    weights: tuple[Weight, ...]
    event_time: datetime | None
    forced_reason: str = ""
    forced_by: str = ""


@dataclass(frozen=True, slots=True)
class ModelPromoted:
    """A version became champion."""

    version: VersionRef
    previous: VersionRef | None
    rollout_id: str
    event_time: datetime | None


@dataclass(frozen=True, slots=True)
class RolloutCompleted:
    """The bake is over."""

    rollout_id: str
    version: VersionRef
    event_time: datetime | None


@dataclass(frozen=True, slots=True)
class RolloutRolledBack:
    """The old champion has the whole weight again."""

    rollout_id: str
    champion: VersionRef
    challenger: VersionRef
    end: End
    exposed_rows: int
    event_time: datetime | None


Fact = (
    LoopApplied
    | LoopPaused
    | LoopResumed
    | VersionRegistered
    | GatesEvaluated
    | RolloutStarted
    | RolloutAdvanced
    | ModelPromoted
    | RolloutCompleted
    | RolloutRolledBack
)
"""Any of them."""


def statuses(fact: Fact) -> dict[int, Status]:
    """Returns what a fact makes of versions, by number."""
    match fact:
        case GatesEvaluated(version=version, passed=passed):
            return {version.number: Status.GATED if passed else Status.REFUSED}
        case RolloutStarted(challenger=challenger):
            return {challenger.number: Status.IN_ROLLOUT}
        case ModelPromoted(version=version, previous=previous):
            retired = {previous.number: Status.RETIRED} if previous else {}
            return {**retired, version.number: Status.CHAMPION}
        case RolloutRolledBack(champion=champion, challenger=challenger, end=end):
            is_broken = end.reason is EndReason.LOAD_FAILED
            taken_back = Status.QUARANTINED if is_broken else Status.ROLLED_BACK
            return {challenger.number: taken_back, champion.number: Status.CHAMPION}
        case _:
            return {}


def describe(fact: Fact) -> str:
    """Returns a fact's substance in one line, for the audit chain."""
    match fact:
        case LoopApplied(loop_digest=digest):
            return f"definition {digest}"
        case LoopPaused(reason=reason) | LoopResumed(reason=reason):
            return reason
        case VersionRegistered(version=version):
            return f"version {version.number} is {version.bundle_digest}"
        case GatesEvaluated(version=version, results=results):
            refused = [f"{gate.rule}: {gate.detail}" for gate in results if not gate.passed]
            return f"version {version.number}: {'; '.join(refused) or 'every gate passed'}"
        case RolloutStarted(champion=champion, challenger=challenger):
            return f"version {challenger.number} against {champion.number}"
        case RolloutAdvanced():
            shares = ", ".join(f"{w.version}: {w.share:g}" for w in fact.weights)
            moved = f"{fact.from_stage} to {fact.to_stage}, weights {shares}"
            return f"forced: {fact.forced_reason}; {moved}" if fact.forced_by else moved
        case ModelPromoted(version=version, previous=previous):
            return f"version {version.number} after {previous.number if previous else 'none'}"
        case RolloutCompleted(version=version):
            return f"version {version.number}"
        case RolloutRolledBack(end=end, challenger=challenger):
            return f"version {challenger.number}, {end.from_stage}: {end.reason}: {end.detail}"


def actor(fact: Fact) -> str:
    """Returns the person whom a fact names; empty: nobody."""
    match fact:
        case LoopPaused(requested_by=person) | LoopResumed(requested_by=person):
            return person
        case LoopApplied(applied_by=person) | RolloutAdvanced(forced_by=person):
            return person
        case RolloutRolledBack(end=end):
            return end.requested_by
        case _:
            return ""
