"""The registry's tables: keys as columns, values as JSON documents of the domain's types."""

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, UniqueConstraint

METADATA = MetaData()

LOOPS = Table(
    "loops",
    METADATA,
    Column("digest", String, primary_key=True),
    Column("text", String, nullable=False),
)
"""The loop.yaml of each definition that was ever in force."""

MODELS = Table(
    "models",
    METADATA,
    Column("name", String, primary_key=True),
    Column("content", String, nullable=False),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("bundle_digest", String, nullable=False),
    Column("content", String, nullable=False),
    UniqueConstraint("model", "bundle_digest"),
)

ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("rollout_id", String, nullable=False, unique=True),
    Column("model", String, nullable=False, index=True),
    Column("is_open", Boolean, nullable=False),
    Column("content", String, nullable=False),
)

ONE_OPEN_ROLLOUT = Index(
    "one_open_rollout",
    ROLLOUTS.c.model,
    unique=True,
    sqlite_where=ROLLOUTS.c.is_open,
    postgresql_where=ROLLOUTS.c.is_open,
)
"""The database itself refuses a second rollout of a model."""

CANDIDATES = Table(
    "candidates",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("event_id", String, nullable=False, unique=True),
    Column("cause", String, nullable=False),
    Column("content", String, nullable=False),
)
"""Bundles that trainings brought and that were not examined yet."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("create_time", String, nullable=False),
    Column("model", String, nullable=False),
    Column("action", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("hash", String, nullable=False),
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("only", Integer, primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("hash", String, nullable=False),
)
"""One row: where the chain ends."""
