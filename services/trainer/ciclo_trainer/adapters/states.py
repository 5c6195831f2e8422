"""What registry and monitor say, from their compacted topics."""

from collections.abc import Sequence

from ciclo_runtime.state_table import StateTable
from ciclo_trainer.ports import ModelState, Watch

NOTHING = Watch(watermark=None)


class States:
    """The newest published states. Satisfies `ports.Models`."""

    def __init__(
        self,
        registry: StateTable[tuple[int, ModelState]],
        monitoring: StateTable[tuple[int, Watch]],
    ) -> None:
        self._registry = registry
        self._monitoring = monitoring

    def names(self) -> Sequence[str]:
        """Returns every model that the registry knows."""
        return sorted(self._registry.items())

    def state(self, model: str) -> ModelState | None:
        """Returns what the registry says; None for an unknown model."""
        found = self._registry.get(model)
        return found[1] if found else None

    def watch(self, model: str) -> Watch:
        """Returns what the monitor says; an empty statement before it said anything."""
        found = self._monitoring.get(model)
        return found[1] if found else NOTHING
