"""The gateway's database as an earlier version of it left it."""

from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, Table, insert

from ciclo_gateway.adapters.shipping_ledger import SqliteShippingLedger
from ciclo_gateway.adapters.tables import METADATA, UPGRADES, WRITE_FAILURES
from ciclo_gateway.ports.shipping import Loss, WriteFailureCount
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database

OLD = MetaData()
OLD_WRITE_FAILURES = Table(
    "write_failures",
    OLD,
    Column("id", Integer, primary_key=True),
    Column("since_start", Integer, nullable=False),
)


async def test_write_failures_that_an_earlier_gateway_counted_are_not_counted_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway.sqlite"
    old = Database(path, OLD, service="gateway", env="test", clock=SystemClock())
    await old.start()
    row = insert(OLD_WRITE_FAILURES).values(id=1, since_start=3)
    await old.transaction(lambda tx: tx.connection.execute(row) and None)
    await old.stop()

    database = Database(
        path, METADATA, service="gateway", env="test", clock=SystemClock(), upgrades=UPGRADES
    )
    await database.start()
    ledger = SqliteShippingLedger(database)
    for process, since_start, fresh in (("a", 3, 0), ("a", 5, 2), ("b", 6, 6)):
        found = await ledger.count_write_failures(
            WriteFailureCount(process, since_start), lambda n: Loss("-", "SPOOL_FULL", n, "")
        )
        assert found == fresh
    assert WRITE_FAILURES.name == OLD_WRITE_FAILURES.name
    await database.stop()
