"""What the registry wants of a model, and what follows from it: what to load where, whom to ask."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ciclo_gateway.domain.packing import Version


class Placement(StrEnum):
    """Which Triton."""

    SERVING = "SERVING"
    """Answers callers."""

    SHADOW = "SHADOW"
    """Is asked again what callers asked; can neither slow nor crash the other."""


class Stage(StrEnum):
    """Where a rollout stands; ended ones are none."""

    SHADOW = "shadow"
    CANARY = "canary"
    BAKING = "baking"


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a model's requests a version answers.

    Attributes:
        version: Its number.
        variant: champion, challenger or previous.
        weight: In [0, 1]. 0: it may be named by a caller, and gets nothing of its own.
    """

    version: int
    variant: str
    weight: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout under way.

    Attributes:
        id: Its id.
        cycle_id: The cycle that it belongs to.
        challenger: Wants to become champion; is champion already while it bakes.
        stage: Where it stands.
        shadow_since_us: Requests from this event time on are asked again.
    """

    id: str
    cycle_id: str
    challenger: Version
    stage: Stage
    shadow_since_us: int


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is wanted: named by every event that follows from it.

    Attributes:
        event_id: `ce_id` of the event by which it came about; empty for a person's act.
        cycle_id: The cycle that it belongs to; empty for none.
    """

    event_id: str = ""
    cycle_id: str = ""


@dataclass(frozen=True, slots=True)
class Desired:
    """One model as the registry wants it.

    Attributes:
        model: Its name.
        generation: A higher one replaces this.
        loop_digest: Digest of the loop definition; empty for none.
        champion: Serves; None if nothing does yet.
        previous: Champion before it, kept loaded.
        rollout: Under way; None if there is none.
        shares: As the registry states them; empty: the model is not served.
        salt: Of the choice of a version.
        lease_expires: Wall time after which the champion has the whole weight; None: no lease.
        cause: Why the registry says so.
    """

    model: str
    generation: int
    loop_digest: str = ""
    champion: Version | None = None
    previous: Version | None = None
    rollout: Rollout | None = None
    shares: tuple[Share, ...] = ()
    salt: str = ""
    lease_expires: datetime | None = None
    cause: Cause = Cause()

    @property
    def incumbent(self) -> Version | None:
        """Returns whom the challenger is compared with."""
        if self.rollout and self.champion == self.rollout.challenger:
            return self.previous
        return self.champion

    def versions(self, placement: Placement) -> tuple[Version, ...]:
        """Returns the versions that a Triton must hold, each once, by number.

        A challenger is loaded for serving while it is only asked again, so that its canary starts
        warm. The incumbent is asked again from the canary on, where it no longer answers all.
        """
        challenger = self.rollout.challenger if self.rollout else None
        if placement is Placement.SERVING:
            wanted = [self.champion, self.previous, challenger]
        elif self.rollout is None:
            wanted = []
        elif self.rollout.stage is Stage.SHADOW:
            wanted = [challenger]
        else:
            wanted = [challenger, self.incumbent]
        return tuple(sorted({v for v in wanted if v}, key=lambda version: version.number))

    def has_expired(self, now: datetime) -> bool:
        """Tells whether a version other than the champion has weight that was not renewed."""
        champion = self.champion.number if self.champion else None
        return (
            self.lease_expires is not None
            and now >= self.lease_expires
            and any(s.weight > 0 and s.version != champion for s in self.shares)
        )

    def route(self, serving: Set[int], unable: Set[int], now: datetime) -> tuple[Share, ...] | None:
        """Returns the shares to put into force, in the order in which Envoy chooses.

        Args:
            serving: Versions that answer rightly.
            unable: Versions that never will, or could not be loaded again: the champion answers
                what they should, and the previous champion what the champion should.
            now: Wall time.

        Returns:
            Empty: the model is not served. None: leave what is in force, because a version that
            should answer is not ready yet and nothing that was champion can stand in for it.
        """
        weights = {share.version: share.weight for share in self.shares}
        if self.champion is None or not sum(weights.values()):
            return ()
        champion, unable = self.champion.number, unable - serving
        if self.has_expired(now) or unable & {v for v, w in weights.items() if w > 0}:
            weights = {champion: 1.0}
        stand_in = self.previous.number if self.previous and champion in unable else 0
        if stand_in in serving:
            weights = {stand_in: 1.0}
        if {version for version, weight in weights.items() if weight > 0} - serving:
            return None
        return tuple(
            Share(
                version, "champion" if version == stand_in else variant, weights.get(version, 0.0)
            )
            for version, variant in self._variants()
            if version in serving
        )

    def _variants(self) -> list[tuple[int, str]]:
        """Numbers of all versions with what they are: champion, challenger, previous, each once."""
        named = [
            (self.champion, "champion"),
            (self.rollout.challenger if self.rollout else None, "challenger"),
            (self.previous, "previous"),
        ]
        seen: dict[int, str] = {}
        for version, variant in named:
            if version:
                seen.setdefault(version.number, variant)
        return list(seen.items())
