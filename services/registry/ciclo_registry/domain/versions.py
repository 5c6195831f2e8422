"""A version of a model with what is known about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ciclo_registry.domain.gates import Evidence, GateResult


@dataclass(frozen=True, slots=True)
class VersionRef:
    """Names one immutable version.

    Attributes:
        model: The model's name.
        number: From 1, in order of registration.
        bundle_digest: Its address in the blob store.
        signature_digest: Versions of equal digests can be asked the same request.
    """

    model: str
    number: int
    bundle_digest: str
    signature_digest: str


class Status(StrEnum):
    """What has become of a version."""

    REGISTERED = "REGISTERED"
    GATED = "GATED"
    REFUSED = "REFUSED"
    IN_ROLLOUT = "IN_ROLLOUT"
    CHAMPION = "CHAMPION"
    RETIRED = "RETIRED"
    ROLLED_BACK = "ROLLED_BACK"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bundle that wants to become a version.

    Attributes:
        model: The model's name.
        bundle_digest: Its address in the blob store.
        run_id: The run that made it; empty: brought in from outside.
        as_of_time: Event time of the dataset's cut; None: take the bundle's word.
        cycle_id: The cycle that made it; empty: registering it begins one.
    """

    model: str
    bundle_digest: str
    run_id: str = ""
    as_of_time: datetime | None = None
    cycle_id: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a bundle says of itself, every digest verified.

    Attributes:
        model: The model that it was trained for.
        signature_digest: What it takes and gives.
        dataset_digest: What it was trained on.
        as_of_time: Newest event time of its dataset, held-out rows included.
        newest_event_time: Newest event time among the rows that it learned from.
        evidence: What its gates are judged by.
    """

    model: str
    signature_digest: str
    dataset_digest: str
    as_of_time: datetime
    newest_event_time: datetime
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Version:
    """A version with its evidence.

    Attributes:
        ref: Its name.
        run_id: The run that made it; empty: brought in from outside.
        cycle_id: The cycle that made it.
        dataset_digest: What it was trained on.
        as_of_time: Event time of its dataset's cut: its shadow begins here.
        newest_event_time: Newest event time among the rows that it learned from.
        create_time: Wall time of registration.
        evidence: What its gates are judged by.
        status: What has become of it.
        gates: What the gates said.
    """

    ref: VersionRef
    run_id: str
    cycle_id: str
    dataset_digest: str
    as_of_time: datetime
    newest_event_time: datetime
    create_time: datetime
    evidence: Evidence
    status: Status = Status.REGISTERED
    gates: tuple[GateResult, ...] = ()

    @property
    def has_passed_gates(self) -> bool:
        """True once all gates were evaluated and passed."""
        return self.status is not Status.REGISTERED and all(gate.passed for gate in self.gates)

    @property
    def may_start_by_itself(self) -> bool:
        """True if no person is needed: it passed, and was never refused, tried or taken back."""
        return self.status is Status.GATED
