"""The tables behind "at least once, effects once": inbox, outbox and schema version.

`Database` creates them beside a service's own tables; `Tx`, `RecordHandler`, `DeadLetters` and
`OutboxRelay` use them. Functions here run inside a transaction of the caller's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.sqlite import insert as insert_or

Headers = tuple[tuple[str, bytes], ...]
"""Kafka headers: names may repeat, order counts."""

METADATA = MetaData()

INBOX = Table(
    "runtime_inbox",
    METADATA,
    Column("consumer", String, primary_key=True),
    Column("event_id", String, primary_key=True),
    Column("handle_time", String, nullable=False),
    sqlite_with_rowid=False,
)
"""Events already handled. Kept for ever: a consumer group may be set back by hand."""

OUTBOX = Table(
    "runtime_outbox",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("topic", String, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # a sequence number is never used twice, or order would be lost
)
"""Records committed and not yet acknowledged by Kafka, in the order in which they must be sent."""

SCHEMA = Table("runtime_schema", METADATA, Column("version", Integer, nullable=False))
"""One row: the version of the service's own tables."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox.

    Args:
        sequence: Its place in the order.
        topic: Full name.
        key: None only where the original record of a dead letter had none.
        value: None is a tombstone.
        headers: As they are sent.
    """

    sequence: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def remember(connection: Connection, consumer: str, event_id: str, now: datetime) -> bool:
    """Writes the inbox row of an event. Returns False if it is there already: a duplicate."""
    written = connection.execute(
        insert_or(INBOX)
        .values(consumer=consumer, event_id=event_id, handle_time=now.isoformat())
        .on_conflict_do_nothing()
    )
    return written.rowcount == 1


def enqueue(
    connection: Connection, topic: str, key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    """Adds a record at the end of the outbox."""
    connection.execute(
        insert(OUTBOX).values(topic=topic, key=key, value=value, headers=pack_headers(headers))
    )


def pending(connection: Connection, limit: int) -> list[Outgoing]:
    """Returns the first rows of the outbox, oldest first."""
    rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.sequence).limit(limit))
    return [
        Outgoing(row.sequence, row.topic, row.key, row.value, unpack_headers(row.headers))
        for row in rows
    ]


def forget_sent(connection: Connection, sequences: Iterable[int]) -> None:
    """Takes acknowledged rows out of the outbox; Kafka has them now."""
    connection.execute(delete(OUTBOX).where(OUTBOX.c.sequence.in_(list(sequences))))


def backlog(connection: Connection) -> int:
    """Returns how many rows wait in the outbox."""
    return connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one()


def pack_headers(headers: Headers) -> bytes:
    """Returns headers as one value: name and value in turn, each behind its length (4 bytes)."""
    parts = [part for name, value in headers for part in (name.encode(), value)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def unpack_headers(packed: bytes) -> Headers:
    """The inverse of `pack_headers`."""
    parts: list[bytes] = []
    at = 0
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        parts.append(packed[at + 4 : at + 4 + size])
        at += 4 + size
    return tuple(zip((name.decode() for name in parts[::2]), parts[1::2], strict=True))
