"""The monitor's memory and voice: state, offsets and events in one SQLite file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from ciclo.cloudevents import Envelope
from ciclo_monitor import wire
from ciclo_monitor.domain.findings import Closed, Degraded, Drifted, Finding, Judged
from ciclo_monitor.ports import Saved, Statement
from ciclo_runtime import ledger
from ciclo_runtime.clock import Clock
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx

METADATA = MetaData()
"""The monitor's tables."""

MODELS = Table(
    "models",
    METADATA,
    Column("model", String, primary_key=True),
    Column("loop_digest", String, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

OFFSETS = Table(
    "offsets",
    METADATA,
    Column("topic", String, primary_key=True),
    Column("next_offset", Integer, nullable=False),
)

GENERATION = Table(
    "generation",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
)
"""At most one row: the generation of the last statement."""

TOLD = "told"
"""Name under which published findings are remembered."""


class SqliteJournal:
    """Satisfies `ports.Journal`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._generation = 0

    async def load(self) -> Saved:
        """Returns what was stored last."""
        models = await self._database.read(lambda c: c.execute(select(MODELS)).all())
        offsets = await self._database.read(lambda c: c.execute(select(OFFSETS)).all())
        last = await self._database.read(lambda c: c.execute(select(GENERATION.c.last)).scalar())
        self._generation = last or 0
        return Saved(
            {row.model: (row.loop_digest, row.state) for row in models},
            {row.topic: row.next_offset for row in offsets},
        )

    async def tell(self, model: str, findings: Sequence[Finding]) -> None:
        """Publishes findings; one that was published before is not published again."""
        for finding in findings:
            await self._tell(model, finding)

    async def state(self, statement: Statement) -> None:
        """Publishes what is held true now."""
        now = self._clock.now()
        # The time, so that a monitor with a new state is heard; unless the clock was set back.
        self._generation = max(self._generation + 1, int(now.timestamp() * 1e6))
        message = wire.to_state(statement, self._generation, now)
        row = {"id": 1, "last": self._generation}

        def work(tx: Tx) -> None:
            tx.connection.execute(
                upsert(GENERATION)
                .values(row)
                .on_conflict_do_update(index_elements=["id"], set_=row)
            )
            tx.emit(message, subject=statement.model, correlation_id="")

        await self._database.transaction(work)

    async def save(
        self, models: Mapping[str, tuple[str, bytes]], offsets: Mapping[str, int]
    ) -> None:
        """Stores state and offsets in one transaction."""
        rows = [
            {"model": model, "loop_digest": digest, "state": state}
            for model, (digest, state) in models.items()
        ]
        places = [{"topic": topic, "next_offset": offset} for topic, offset in offsets.items()]

        def work(tx: Tx) -> None:
            for table, values in ((MODELS, rows), (OFFSETS, places)):
                tx.connection.execute(delete(table))
                if values:
                    tx.connection.execute(insert(table), values)

        await self._database.transaction(work)

    async def _tell(self, model: str, finding: Finding) -> None:
        message = wire.to_event(model, finding)
        cycle_id, cause_id = _chain(finding)

        def work(tx: Tx) -> None:
            if ledger.remember(tx.connection, TOLD, finding.event_id, tx.now):
                tx.emit(message, subject=model, correlation_id=cycle_id, event_id=finding.event_id)

        cause = Envelope(cause_id, "", model, datetime.min.replace(tzinfo=UTC), cycle_id)
        await self._database.transaction(work, cause=cause if cause_id else None)


def _chain(finding: Finding) -> tuple[str, str]:
    """Returns the cycle of a finding and the event that caused it."""
    match finding:
        case Drifted():
            return finding.episode_id, ""
        case Degraded():
            return finding.episode_id, finding.cause_event_id
        case Judged():
            return finding.rollout.cycle_id, finding.rollout.cause_event_id
        case Closed():
            return finding.episode.episode_id, finding.episode.cause_event_id
