"""What the registry says, from its compacted topic."""

from collections.abc import Mapping

from ciclo_monitor.ports import Registered
from ciclo_runtime.state_table import StateTable


class RegistryStates:
    """The newest published states. Satisfies `ports.Registry`."""

    def __init__(self, table: StateTable[tuple[int, Registered]]) -> None:
        self._table = table

    async def ready(self) -> None:
        """Returns once all that was published has been read."""
        await self._table.ready()

    def models(self) -> Mapping[str, Registered]:
        """Returns every model."""
        return {model: registered for model, (_, registered) in self._table.items().items()}
