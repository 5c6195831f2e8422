"""The database as a file: what outlives a process, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, MetaData, String, Table, func, insert, select, text
from sqlalchemy.exc import OperationalError

from ciclo.errors import Fatal
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.lifecycle import Service

METADATA = MetaData()
RUNS = Table("runs", METADATA, Column("name", String, nullable=False))


def opened(path: Path, upgrades: Sequence[Callable[[Connection], None]] = ()) -> Database:
    return Database(
        path, METADATA, service="trainer", env="t", clock=SystemClock(), upgrades=upgrades
    )


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(RUNS)).scalar_one()


async def test_state_and_outbox_are_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "made" / "trainer.sqlite"
    first = opened(path)
    async with Service("s", [first]):
        await first.transaction(lambda tx: tx.connection.execute(insert(RUNS).values(name="a")))
        await first.transaction(lambda tx: tx.emit(DriftDetected(), subject="flights"))
    second = opened(path)
    async with Service("s", [second]):
        assert await second.read(count) == 1
        assert len(await second.outbox()) == 1
        assert second.has_outgoing.is_set()


async def test_a_read_sees_one_moment_and_cannot_write(tmp_path: Path) -> None:
    database = opened(tmp_path / "t.sqlite")
    async with Service("s", [database]):
        with pytest.raises(OperationalError, match="readonly"):
            await database.read(lambda tx: tx.execute(insert(RUNS).values(name="a")))
        await database.transaction(lambda tx: tx.connection.execute(insert(RUNS).values(name="a")))
        assert await database.read(count) == 1


async def test_old_tables_are_upgraded_once_and_newer_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    upgraded: list[str] = []

    def add_owner(connection: Connection) -> None:
        upgraded.append("owner")
        connection.execute(text("ALTER TABLE runs ADD COLUMN owner TEXT"))

    for upgrades in ([], [add_owner], [add_owner]):
        async with Service("s", [opened(path, upgrades)]):
            pass

    assert upgraded == ["owner"]
    with pytest.raises(Fatal, match="schema version 2, this trainer knows 1"):
        await opened(path).start()


async def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_bytes(b"not a database at all" * 100)

    with pytest.raises(Fatal, match=r"t\.sqlite cannot be opened"):
        await opened(path).start()
