"""Brings the online store back to where the tables are, before anything new is read."""

from ciclo_feature_store.adapters import state
from ciclo_feature_store.adapters.delta import Tables
from ciclo_feature_store.adapters.feature_sink import restore
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.domain.online import OnlineStore
from ciclo_runtime.database import Database


class Restoration:
    """A part that has done its work once it has started.

    Args:
        online: To be filled; nobody reads it before the service serves.
        tables: Where rows come from.
        database: Where watermarks come from.
        writer: Where tables are touched.
        rows_per_entity: How many rows of each entity are kept online.
    """

    def __init__(
        self,
        online: OnlineStore,
        tables: Tables,
        database: Database,
        writer: Writer,
        rows_per_entity: int,
    ) -> None:
        self._online = online
        self._tables = tables
        self._database = database
        self._writer = writer
        self._rows_per_entity = rows_per_entity

    async def start(self) -> None:
        """Fills the online store."""
        await self._writer.run(lambda: restore(self._online, self._tables, self._rows_per_entity))
        for view, watermark_us in (await self._database.read(state.watermarks)).items():
            self._online.view(view).advance(watermark_us)

    async def stop(self) -> None:
        """Nothing is open."""
