"""What SQLite holds: how far topics are stored, watermarks, and where datasets came from."""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert

from ciclo_runtime.transaction import Tx

METADATA = MetaData()

POSITIONS = Table(
    "positions",
    METADATA,
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)
"""Everything before an offset is in the tables. May lag behind them, never runs ahead."""

WATERMARKS = Table(
    "watermarks",
    METADATA,
    Column("view", String, primary_key=True),
    Column("watermark_us", BigInteger, nullable=False),
)
"""How far each view was known when the positions were written."""

SNAPSHOTS = Table(
    "snapshots",
    METADATA,
    Column("digest", String, primary_key=True),
    Column("create_time", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("loop_digest", String, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("as_of_us", BigInteger, nullable=False),
    Column("table_versions", JSON, nullable=False),
)
"""Each cut: what was asked, and which versions of the tables answered."""


def positions(connection: Connection, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Returns how far topics are stored; those that are not there begin at their start."""
    rows = connection.execute(select(POSITIONS).where(POSITIONS.c.topic.in_(list(topics))))
    return {TopicPartition(row.topic, row.partition): row.next_offset for row in rows}


def watermarks(connection: Connection) -> dict[str, int]:
    """Returns how far views were known."""
    return {row.view: row.watermark_us for row in connection.execute(select(WATERMARKS))}


def save(
    tx: Tx, next_offsets: Mapping[TopicPartition, int], watermarks_us: Mapping[str, int]
) -> None:
    """Notes that everything before the offsets is stored. A watermark never goes back."""
    for place, offset in next_offsets.items():
        row = {"topic": place.topic, "partition": place.partition, "next_offset": offset}
        tx.connection.execute(
            insert(POSITIONS)
            .values(row)
            .on_conflict_do_update(
                index_elements=["topic", "partition"], set_={"next_offset": offset}
            )
        )
    for view, watermark_us in watermarks_us.items():
        statement = insert(WATERMARKS).values(view=view, watermark_us=watermark_us)
        newest = func.max(WATERMARKS.c.watermark_us, statement.excluded.watermark_us)
        tx.connection.execute(
            statement.on_conflict_do_update(index_elements=["view"], set_={"watermark_us": newest})
        )
