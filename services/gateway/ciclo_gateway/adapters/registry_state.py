"""Follows the registry's desired state; keeps it for a start without Kafka."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ciclo.errors import Retry
from ciclo_gateway.adapters.journal import SqliteJournal
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired
from ciclo_gateway.wire import events
from ciclo_runtime.clock import Clock
from ciclo_runtime.lifecycle import Background
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.state_table import StateTable

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    desired: Desired
    content: bytes


class RegistryFollower(Background):
    """The part that brings the registry's statements into the catalog; newest generation first.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topic.
        journal: Keeps them.
        catalog: Gets them; filled from the journal before anything else starts.
        wake: Called after each change.
        metrics: Shows lag.
        clock: Waits.
    """

    def __init__(
        self,
        bootstrap: str,
        env: str,
        journal: SqliteJournal,
        catalog: Catalog,
        *,
        wake: Callable[[], None],
        metrics: ServiceMetrics,
        clock: Clock,
    ) -> None:
        super().__init__("registry follower")
        self._journal = journal
        self._catalog = catalog
        self._wake = wake
        self._clock = clock
        self._table: StateTable[_Kept] = StateTable(
            bootstrap,
            env,
            events.REGISTRY_STATE,
            generation=lambda kept: kept.desired.generation,
            decode_state=lambda m: _Kept(events.desired_of(m), events.encode_state(m)),
            metrics=metrics,
            clock=clock,
        )

    async def start(self) -> None:
        """Fills the catalog with what an earlier process knew, then follows."""
        await self._journal.fill(self._catalog)
        await self._table.start()
        await super().start()

    async def stop(self) -> None:
        """Ends both tasks."""
        await super().stop()
        await self._table.stop()

    async def run(self) -> None:
        """Takes over what is newer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._table.wait())
            version = 0
            while True:
                version = await self._table.changed(version)
                for model, kept in dict(self._table.items()).items():
                    await self._take(model, kept)
                self._wake()

    async def _take(self, model: str, kept: _Kept) -> None:
        present = self._catalog.desired.get(model)
        if present is not None and kept.desired.generation <= present.generation:
            return
        self._catalog.desired[model] = kept.desired
        try:
            await self._journal.keep_state(model, kept.desired.generation, kept.content)
        except Retry as error:  # in force already; the next generation is kept again
            _log.warning("state_not_kept", model=model, error=error.message)
