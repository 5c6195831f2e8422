"""The trainer's memory in SQLite: runs and skips; each change and its event are one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import JSON, Column, Connection, Integer, MetaData, String, Table, select
from sqlalchemy.dialects.sqlite import insert

from ciclo.cloudevents import Envelope
from ciclo.errors import Conflict
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx
from ciclo_trainer import wire
from ciclo_trainer.domain.policy import Skip
from ciclo_trainer.domain.runs import Failure, Run, RunState, Snapshot, Trained, Trigger

METADATA = MetaData()
"""The trainer's tables."""

RUNS = Table(
    "runs",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("run_id", String, nullable=False, unique=True),
    Column("model", String, nullable=False, index=True),
    Column("cycle_id", String, nullable=False),
    Column("cause_event_id", String, nullable=False),
    Column("trigger", String, nullable=False),
    Column("episode_id", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("as_of", String, nullable=False),
    Column("loop_digest", String, nullable=False),
    Column("recipe", String, nullable=False),
    Column("seed", Integer),
    Column("state", String, nullable=False, index=True),
    Column("started_event_id", String, nullable=False),
    Column("create_time", String, nullable=False),
    Column("dataset_digest", String, nullable=False),
    Column("bundle_digest", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", String, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("end_time", String),
)

SKIPS = Table(
    "skips",
    METADATA,
    Column("episode_id", String, primary_key=True),
    Column("reason", String, primary_key=True),
)

UNFINISHED = (RunState.CUTTING, RunState.TRAINING)


class Ledger:
    """Runs and skips. Satisfies `ports.Runs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: Run) -> Run:
        """Stores a run and its TrainingStarted, unless its request began one already."""

        def work(tx: Tx) -> Run:
            known = _find(tx.connection, run.run_id)
            if known:
                return known
            others = select(RUNS.c.run_id).where(
                RUNS.c.model == run.model, RUNS.c.state.in_(UNFINISHED)
            )
            other = tx.connection.execute(others).scalar()
            if other:
                raise Conflict(
                    f"run {other} of {run.model} is under way; wait for its end",
                    reason="RUN_UNDER_WAY",
                )
            tx.connection.execute(insert(RUNS).values(_row(run)))
            _emit(tx, run, wire.started(run), run.started_event_id)
            return run

        cause = _cause(run.cause_event_id, run.cycle_id, run) if run.cause_event_id else None
        return await self._database.transaction(work, cause=cause)

    async def skip(self, model: str, episode_id: str, cause_event_id: str, skip: Skip) -> bool:
        """Stores a TrainingSkipped once for an episode and reason."""

        def work(tx: Tx) -> bool:
            row = insert(SKIPS).values(episode_id=episode_id, reason=skip.reason)
            if not tx.connection.execute(row.on_conflict_do_nothing()).rowcount:
                return False
            tx.emit(wire.skipped(model, episode_id, skip), subject=model, correlation_id=episode_id)
            return True

        cause = Envelope(cause_event_id, "", model, datetime.min.replace(tzinfo=UTC), episode_id)
        return await self._database.transaction(work, cause=cause)

    async def mark_cut(self, run: Run, snapshot: Snapshot) -> Run:
        """Notes the dataset of a run."""
        return await self._change(
            replace(run, state=RunState.TRAINING, dataset_digest=snapshot.digest)
        )

    async def mark_attempt(self, run: Run) -> Run:
        """Counts one more start of a run's process."""
        return await self._change(replace(run, attempts=run.attempts + 1))

    async def succeed(self, run: Run, trained: Trained) -> None:
        """Ends a run with its TrainingCompleted."""
        ended = replace(
            run,
            state=RunState.SUCCEEDED,
            bundle_digest=trained.bundle_digest,
            metrics=trained.metrics,
        )
        await self._end(ended, wire.completed(ended, trained))

    async def fail(self, run: Run, failure: Failure) -> None:
        """Ends a run with its TrainingFailed."""
        error = f"{failure.step}: {failure.reason}: {failure.detail}"
        ended = replace(run, state=RunState.FAILED, error=error)
        await self._end(ended, wire.failed(ended, failure))

    async def get(self, run_id: str) -> Run | None:
        """Returns a run."""
        return await self._database.read(lambda connection: _find(connection, run_id))

    async def list(self, model: str, most: int) -> Sequence[Run]:
        """Returns a model's runs, newest first."""
        query = select(RUNS).where(RUNS.c.model == model).order_by(RUNS.c.sequence.desc())
        return await self._all(query.limit(most))

    async def unfinished(self) -> Sequence[Run]:
        """Returns the runs that have not ended, oldest first."""
        return await self._all(
            select(RUNS).where(RUNS.c.state.in_(UNFINISHED)).order_by(RUNS.c.sequence)
        )

    async def _all(self, query: Any) -> Sequence[Run]:
        return await self._database.read(
            lambda connection: [_run(row) for row in connection.execute(query).mappings()]
        )

    async def _change(self, run: Run) -> Run:
        def work(tx: Tx) -> Run:
            _store(tx, run)
            return run

        return await self._database.transaction(work)

    async def _end(self, run: Run, message: Message) -> None:
        def work(tx: Tx) -> None:
            known = _find(tx.connection, run.run_id)
            if known and not known.state.is_over:
                _store(tx, replace(run, attempts=known.attempts, end_time=tx.now))
                _emit(tx, run, message)

        cause = _cause(run.started_event_id, run.cycle_id, run)
        await self._database.transaction(work, cause=cause)


def _cause(event_id: str, cycle_id: str, run: Run) -> Envelope:
    return Envelope(event_id, "", run.model, run.create_time, cycle_id)


def _emit(tx: Tx, run: Run, message: Message, event_id: str | None = None) -> None:
    tx.emit(message, subject=run.model, correlation_id=run.cycle_id, event_id=event_id)


def _store(tx: Tx, run: Run) -> None:
    tx.connection.execute(RUNS.update().where(RUNS.c.run_id == run.run_id).values(_row(run)))


def _find(connection: Connection, run_id: str) -> Run | None:
    row = connection.execute(select(RUNS).where(RUNS.c.run_id == run_id)).mappings().first()
    return _run(row) if row else None


def _row(run: Run) -> dict[str, Any]:
    row = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    for name in ("as_of", "create_time", "end_time"):
        row[name] = row[name].isoformat() if row[name] else None
    return row


def _run(row: Any) -> Run:
    values = {name: row[name] for name in Run.__dataclass_fields__}
    for name in ("as_of", "create_time", "end_time"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    values["trigger"] = Trigger(values["trigger"])
    values["state"] = RunState(values["state"])
    return Run(**values)
