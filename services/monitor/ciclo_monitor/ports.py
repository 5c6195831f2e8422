"""What the monitor's use cases need from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ciclo.loop import Loop
from ciclo_monitor.domain.findings import Episode, Finding, RolloutView, Version
from ciclo_monitor.domain.watch import Champion


@dataclass(frozen=True, slots=True)
class Registered:
    """What the registry says of a model.

    Args:
        loop_digest: The definition in force; empty before one was applied.
        champion: The version that serves; None for none.
        rollout: The rollout under way; None for none.
    """

    loop_digest: str
    champion: Version | None
    rollout: RolloutView | None


@dataclass(frozen=True, slots=True)
class Statement:
    """What the monitor holds true of a model: the content of `monitoring.state`."""

    model: str
    watermark_us: int
    version: Version | None
    episode: Episode | None


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier process stored.

    Args:
        models: State by model, with the digest of the definition that it was made under.
        offsets: Next offset by topic.
    """

    models: Mapping[str, tuple[str, bytes]]
    offsets: Mapping[str, int]


class Registry(Protocol):
    """The newest published states of the registry."""

    async def ready(self) -> None:
        """Returns once all that was published has been read."""

    def models(self) -> Mapping[str, Registered]:
        """Returns every model."""


class Definitions(Protocol):
    """Loops and bundles by digest."""

    async def loop(self, loop_digest: str) -> Loop:
        """Returns a definition. Raises `Retry` while it cannot be fetched."""

    async def champion(self, version: Version) -> Champion:
        """Returns a version with what its bundle promises. Raises `Retry`, `BundleCorrupt`."""


class Journal(Protocol):
    """The monitor's memory and voice."""

    async def load(self) -> Saved:
        """Returns what was stored last."""

    async def tell(self, model: str, findings: Sequence[Finding]) -> None:
        """Publishes findings; one that was published before is not published again."""

    async def state(self, statement: Statement) -> None:
        """Publishes what is held true now."""

    async def save(
        self, models: Mapping[str, tuple[str, bytes]], offsets: Mapping[str, int]
    ) -> None:
        """Stores state and offsets in one transaction."""
