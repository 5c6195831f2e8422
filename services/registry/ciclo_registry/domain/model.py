"""A model as it stands: what serves, what wants to, and who gets which share of the requests."""

from dataclasses import dataclass
from datetime import datetime

from ciclo_registry.domain.facts import Variant, Weight
from ciclo_registry.domain.policy import Stage
from ciclo_registry.domain.rollout import Rollout
from ciclo_registry.domain.versions import VersionRef


@dataclass(frozen=True, slots=True)
class Model:
    """What is true of a model now.

    Attributes:
        name: Its name.
        generation: Grows with every statement of its state.
        loop_digest: The definition in force.
        is_paused: Nothing is trained, advanced or promoted by itself.
        champion: Serves; None: nothing does.
        previous: The champion before; kept warm, so that one may return to it.
        promoted_by: The rollout that made the champion; empty: it was the first version.
        rollout: Under way; None: none is.
        salt: Of the choice of a version: each rollout falls on other callers.
        lease_expire_time: Wall time after which a canary's weight returns; None: no canary.
        watermark: Event time of the model; None: no request was seen yet.
        failed_cycles: How many in a row.
        last_run_id: Newest run whose bundle was taken up; empty: none was.
    """

    name: str
    loop_digest: str
    generation: int = 0
    is_paused: bool = False
    champion: VersionRef | None = None
    previous: VersionRef | None = None
    promoted_by: str = ""
    rollout: Rollout | None = None
    salt: str = ""
    lease_expire_time: datetime | None = None
    watermark: datetime | None = None
    failed_cycles: int = 0
    last_run_id: str = ""


def weights(model: Model) -> tuple[Weight, ...]:
    """Returns the shares: champion, challenger, previous. They add up to 1, or there are none."""
    if model.champion is None:
        return ()
    canary = model.rollout if model.rollout and model.rollout.stage is Stage.CANARY else None
    share = canary.weight if canary else 0.0
    found = [Weight(model.champion.number, Variant.CHAMPION, 1.0 - share)]
    if canary:
        found.append(Weight(canary.challenger.number, Variant.CHALLENGER, share))
    if model.previous:
        # It answers nobody but those who name it: Envoy calls that pinned.
        found.append(Weight(model.previous.number, Variant.PINNED, 0.0))
    return tuple(found)


def is_said_alike(one: Model | None, other: Model) -> bool:
    """Tells whether two models need no two statements: nothing that others act on differs."""
    return one is not None and _said(one) == _said(other)


def _said(model: Model) -> tuple[object, ...]:
    rollout = model.rollout
    return (
        model.loop_digest,
        model.is_paused,
        model.champion,
        model.previous,
        model.salt,
        model.lease_expire_time,
        model.last_run_id,
        weights(model),
        rollout and (rollout.rollout_id, rollout.stage, rollout.exposed_rows),
    )


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the monitor last said of a model.

    Attributes:
        generation: Grows with each statement.
        create_time: Wall time of the statement.
        watermark: Event time of the model; None: no request was seen yet.
    """

    generation: int
    create_time: datetime
    watermark: datetime | None
