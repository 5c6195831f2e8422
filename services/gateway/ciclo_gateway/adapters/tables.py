"""The gateway's own tables."""

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    inspect,
)

METADATA = MetaData()

HOUR_US = 3_600_000_000
"""An hour in microseconds: how finely `EVENT_HOUR` knows event times."""

STATE = Table(
    "registry_state",
    METADATA,
    Column("model", String, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Newest state of the registry: leases run out and routes stand also while Kafka is away."""

VERSION = Table(
    "version",
    METADATA,
    Column("model", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("bundle_digest", String, nullable=False),
    Column("signature_digest", String, nullable=False),
    Column("signature", String, nullable=False),
)
"""Versions that were ever loaded, with what they take and give. Rows never change."""

LOAD = Table(
    "load",
    METADATA,
    Column("placement", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("detail", String, nullable=False, default=""),
    Column("parity_error", Float),
)
"""Loads: written before they begin, so that one that kills its server is not tried again."""

ROUTE = Table(
    "route",
    METADATA,
    Column("model", String, primary_key=True),
    Column("content", String, nullable=False),
)
"""The routing table that Envoy confirmed last."""

LEASE = Table(
    "lease",
    METADATA,
    Column("model", String, primary_key=True),
    Column("generation", Integer, nullable=False),
)
"""The last generation whose lease was announced as expired."""

SEGMENT = Table(
    "segment",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("inode", Integer, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("next_byte", Integer, nullable=False),
    sqlite_autoincrement=True,  # an id names events: never again for another segment
)
"""How far each file of the spool is shipped."""

RANGE = Table(
    "range",
    METADATA,
    Column("segment_id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
    Column("begin_time", String, nullable=False),
    Column("topic_offset", Integer, nullable=False),
)
"""At most one row: the range that is being sent."""

WRITE_FAILURES = Table(
    "write_failures",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("since_start", Integer, nullable=False),
    Column("process", String, nullable=False, server_default=""),
)
"""At most one row: lines that an Envoy could not write, as it counted them when last asked."""

EVENT_HOUR = Table(
    "event_hour",
    METADATA,
    Column("model", String, primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("topic_offset", Integer, nullable=False),
)
"""Where a model's captured requests first reached an hour of event time, counted from the epoch:
what lies before that offset is of earlier hours. A shadow need not read from the beginning."""

SHADOW = Table(
    "shadow",
    METADATA,
    Column("rollout_id", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", Integer, nullable=False),
)
"""How far the requests of a rollout have been asked again."""

LABEL_REPORT = Table(
    "label_report",
    METADATA,
    Column("model", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("accepted", Integer, nullable=False),
)
"""Reports that named themselves: a repeated one is stored once."""


def name_process_of_write_failures(connection: Connection) -> None:
    """Brings tables from version 1 to 2: a count of write failures names the Envoy it is from."""
    if inspect(connection).has_table(WRITE_FAILURES.name):
        connection.exec_driver_sql(
            "ALTER TABLE write_failures ADD COLUMN process VARCHAR NOT NULL DEFAULT ''"
        )


UPGRADES = (name_process_of_write_failures,)
"""What brings a file of an earlier version to these tables, in order."""
