"""Labels in the outbox: accepted once they are on disk, published from there."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from ciclo_gateway.adapters.tables import LABEL_REPORT
from ciclo_gateway.domain.labels import EVENT_LABELS, Truth
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

    async def store(self, model: str, request_id: str, labels: Sequence[Truth]) -> int:
        """Stores a report once; returns how many labels it had. They become `LabelsReported`."""

        def work(tx: Tx) -> int:
            if request_id:
                known = tx.connection.execute(
                    select(LABEL_REPORT.c.accepted).where(
                        LABEL_REPORT.c.model == model, LABEL_REPORT.c.request_id == request_id
                    )
                ).scalar_one_or_none()
                if known is not None:
                    return int(known)
                tx.connection.execute(
                    insert(LABEL_REPORT).values(
                        model=model, request_id=request_id, accepted=len(labels)
                    )
                )
            for start in range(0, len(labels), EVENT_LABELS):
                part = labels[start : start + EVENT_LABELS]
                tx.emit(events.labels_reported(model, part), subject=model, correlation_id="")
            return len(labels)

        return await self._database.transaction(work)
