"""The registry's memory in SQL; one instance lives as long as a transaction or a snapshot."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from ciclo.cloudevents import Envelope
from ciclo.loop import Loop, parse_loop
from ciclo_registry.adapters.tables import (
    AUDIT,
    AUDIT_HEAD,
    CANDIDATES,
    LOOPS,
    MODELS,
    ROLLOUTS,
    VERSIONS,
)
from ciclo_registry.domain.audit import AuditEntry, Head, seal
from ciclo_registry.domain.model import Model
from ciclo_registry.domain.rollout import Rollout
from ciclo_registry.domain.versions import Candidate, Status, Version

_MODEL = TypeAdapter(Model)
_VERSION = TypeAdapter(Version)
_ROLLOUT = TypeAdapter(Rollout)
_CANDIDATE = TypeAdapter(Candidate)
_ENVELOPE = TypeAdapter(Envelope)


class SqlBooks:
    """See `ports.Books`.

    Args:
        connection: In a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def model(self, name: str) -> Model | None:
        """See `Books.model`."""
        row = self._connection.execute(select(MODELS).where(MODELS.c.name == name)).one_or_none()
        return self._whole(row.content) if row else None

    def models(self) -> Sequence[Model]:
        """See `Books.models`."""
        rows = self._connection.execute(select(MODELS).order_by(MODELS.c.name)).all()
        return [self._whole(row.content) for row in rows]

    def save_model(self, model: Model) -> None:
        """See `Books.save_model`."""
        content = _text(_MODEL, replace(model, rollout=None))
        self._put(MODELS, {"name": model.name}, {"content": content})

    def loop(self, digest: str) -> Loop:
        """See `Books.loop`."""
        text = self._connection.execute(select(LOOPS.c.text).where(LOOPS.c.digest == digest))
        return _parsed(text.scalar_one())

    def save_loop(self, digest: str, text: str) -> None:
        """See `Books.save_loop`."""
        self._put(LOOPS, {"digest": digest}, {"text": text})

    def rollouts(self, model: str) -> Sequence[Rollout]:
        """See `Books.rollouts`."""
        mine = select(ROLLOUTS.c.content).where(ROLLOUTS.c.model == model)
        newest_first = mine.order_by(ROLLOUTS.c.sequence.desc())
        return [
            _ROLLOUT.validate_json(content)
            for content in self._connection.execute(newest_first).scalars()
        ]

    def save_rollout(self, rollout: Rollout) -> None:
        """See `Books.save_rollout`."""
        self._put(
            ROLLOUTS,
            {"rollout_id": rollout.rollout_id},
            {
                "model": rollout.challenger.model,
                "is_open": not rollout.is_over,
                "content": _text(_ROLLOUT, rollout),
            },
        )

    def version(self, model: str, number: int) -> Version | None:
        """See `Books.version`."""
        found = self._connection.execute(
            select(VERSIONS.c.content).where(VERSIONS.c.model == model, VERSIONS.c.number == number)
        ).scalar_one_or_none()
        return _VERSION.validate_json(found) if found else None

    def version_of(self, model: str, bundle_digest: str) -> Version | None:
        """See `Books.version_of`."""
        found = self._connection.execute(
            select(VERSIONS.c.content).where(
                VERSIONS.c.model == model, VERSIONS.c.bundle_digest == bundle_digest
            )
        ).scalar_one_or_none()
        return _VERSION.validate_json(found) if found else None

    def versions(self, model: str) -> Sequence[Version]:
        """See `Books.versions`."""
        mine = select(VERSIONS.c.content).where(VERSIONS.c.model == model)
        newest_first = mine.order_by(VERSIONS.c.number.desc())
        return [
            _VERSION.validate_json(content)
            for content in self._connection.execute(newest_first).scalars()
        ]

    def save_version(self, version: Version) -> None:
        """See `Books.save_version`."""
        self._put(
            VERSIONS,
            {"model": version.ref.model, "number": version.ref.number},
            {"bundle_digest": version.ref.bundle_digest, "content": _text(_VERSION, version)},
        )

    def set_status(self, model: str, number: int, status: Status) -> None:
        """See `Books.set_status`."""
        version = self.version(model, number)
        if version and version.status is not status:
            self.save_version(replace(version, status=status))

    def append_audit(self, entry: AuditEntry) -> None:
        """See `Books.append_audit`."""
        head = self._head()
        sealed = seal(replace(entry, sequence=head.sequence + 1), head.hash)
        row = asdict(sealed) | {"create_time": sealed.create_time.isoformat()}
        self._connection.execute(AUDIT.insert().values(row))
        self._put(AUDIT_HEAD, {"only": 1}, {"sequence": sealed.sequence, "hash": sealed.hash})

    def audit(self) -> tuple[Sequence[AuditEntry], Head]:
        """See `Books.audit`."""
        rows = self._connection.execute(select(AUDIT).order_by(AUDIT.c.sequence)).mappings()
        entries = [
            AuditEntry(**{**row, "create_time": datetime.fromisoformat(row["create_time"])})
            for row in rows
        ]
        return entries, self._head()

    def candidates(self) -> Sequence[tuple[Envelope, Candidate]]:
        """See `Books.candidates`."""
        rows = self._connection.execute(select(CANDIDATES).order_by(CANDIDATES.c.sequence))
        return [
            (_ENVELOPE.validate_json(row.cause), _CANDIDATE.validate_json(row.content))
            for row in rows
        ]

    def add_candidate(self, cause: Envelope, candidate: Candidate) -> None:
        """See `Books.add_candidate`."""
        self._put(
            CANDIDATES,
            {"event_id": cause.id},
            {"cause": _text(_ENVELOPE, cause), "content": _text(_CANDIDATE, candidate)},
        )

    def remove_candidate(self, cause: Envelope) -> bool:
        """See `Books.remove_candidate`."""
        gone = self._connection.execute(delete(CANDIDATES).where(CANDIDATES.c.event_id == cause.id))
        return gone.rowcount == 1

    def _whole(self, content: str) -> Model:
        model = _MODEL.validate_json(content)
        found = self._connection.execute(
            select(ROLLOUTS.c.content).where(ROLLOUTS.c.model == model.name, ROLLOUTS.c.is_open)
        ).scalar_one_or_none()
        return replace(model, rollout=_ROLLOUT.validate_json(found) if found else None)

    def _head(self) -> Head:
        row = self._connection.execute(select(AUDIT_HEAD)).one_or_none()
        return Head(row.sequence, row.hash) if row else Head()

    def _put(self, table: Table, key: dict[str, object], rest: dict[str, object]) -> None:
        written = upsert(table).values(key | rest)
        self._connection.execute(written.on_conflict_do_update(index_elements=[*key], set_=rest))


def _text(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()


@lru_cache(maxsize=16)
def _parsed(text: str) -> Loop:
    return parse_loop(text)
