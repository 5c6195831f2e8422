"""Labels in the outbox: accepted once they are on disk, published from there."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from ciclo_gateway.adapters.tables import LABEL_REPORT
from ciclo_gateway.domain.labels import Truth, split
from ciclo_gateway.ports.serving import Stored
from ciclo_gateway.wire import events
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx


class SqliteLabelBook:
    """Implements `ports.LabelBook`.

    Args:
        database: The gateway's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, model: str, request_id: str, labels: Sequence[Truth]) -> Stored:
        """Stores a report once. Its labels become `LabelsReported`."""

        def work(tx: Tx) -> Stored:
            if request_id:
                known = tx.connection.execute(
                    select(LABEL_REPORT.c.accepted).where(
                        LABEL_REPORT.c.model == model, LABEL_REPORT.c.request_id == request_id
                    )
                ).scalar_one_or_none()
                if known is not None:
                    return Stored(int(known), is_new=False)
                tx.connection.execute(
                    insert(LABEL_REPORT).values(
                        model=model, request_id=request_id, accepted=len(labels)
                    )
                )
            for part in split(labels):
                tx.emit(events.labels_reported(model, part), subject=model, correlation_id="")
            return Stored(len(labels), is_new=True)

        return await self._database.transaction(work)
