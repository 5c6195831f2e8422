"""Envoy: routing tables by files renamed into place, verdicts from its statistics.

A refused file left on disk is what a restarted Envoy would read, so the last good one is put back.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from ciclo.errors import Retry
from ciclo_gateway.adapters.envoy_admin import EnvoyAdmin
from ciclo_gateway.domain.routing import Route, table, table_digest
from ciclo_gateway.ports.control import TableRefused
from ciclo_runtime.clock import Clock

PREFIX: Final = "http.serve.rds.serve"
"""Of the statistics about the routing table."""

VERDICT_WITHIN: Final = timedelta(seconds=5)
"""Envoy takes a few milliseconds; a busy machine may take longer."""

RESERVE_BYTES: Final = 2**20
"""Of a file that gives its place to a table when the disk is full: what takes a canary back must
not fail because something else has filled it."""

_POLL: Final = timedelta(milliseconds=10)
_ROUTE: Final = "infer"
_FILTER: Final = "ciclo.lua"
_VERDICTS: Final = ("update_rejected", "update_failure")


class EnvoyRoutes:
    """Implements `ports.DataPlane`.

    Args:
        folder: Envoy's: `rds-template.yaml` and `rds/rds.yaml`.
        admin: Its admin page.
        clock: Waits for the verdict.
    """

    def __init__(self, folder: Path, admin: EnvoyAdmin, clock: Clock) -> None:
        self._template = folder / "rds-template.yaml"
        self._file = folder / "rds" / "rds.yaml"
        self._admin = admin
        self._clock = clock

    async def in_force(self) -> str:
        """Returns the digest of the table that routes now. Raises `Retry` if Envoy is away."""
        return (await self._statistics()).get("version_text", "")

    async def publish(self, routes: Mapping[str, Route]) -> None:
        """Puts a table into force; returns when Envoy said so.

        Raises:
            TableRefused: Envoy said no; the last good file is back in its place.
            Retry: Envoy is away, or said nothing; likewise.
        """
        digest = table_digest(routes)
        document = await asyncio.to_thread(self._document, routes, digest)
        before = await self._statistics()
        last = self._file.read_bytes() if self._file.exists() else None
        await asyncio.to_thread(_replace, self._file, document)
        try:
            await self._verdict(before, digest)
        except (TableRefused, Retry, asyncio.CancelledError):
            if last is not None:
                _replace(self._file, last)
            raise

    async def _verdict(self, before: Mapping[str, str], digest: str) -> None:
        until = self._clock.monotonic() + VERDICT_WITHIN.total_seconds()
        seen = _refusals(before)
        while self._clock.monotonic() < until:
            now = await self._statistics()
            if now.get("version_text") == digest:
                return
            refusals = _refusals(now)
            for name, count in refusals.items():
                if count > seen[name]:
                    raise TableRefused(f"Envoy refused table {digest}: {name} grew")
            seen = refusals  # fewer: Envoy started anew, counts from 0, and has not said yet
            await self._clock.sleep(_POLL)
        raise Retry(f"Envoy has not said within {VERDICT_WITHIN} what it thinks of table {digest}")

    async def _statistics(self) -> dict[str, str]:
        found = await self._admin.statistics(f"^{PREFIX}.(update_|version_text)")
        return {name.rsplit(".", 1)[1]: value for name, value in found.items()}

    def _document(self, routes: Mapping[str, Route], digest: str) -> bytes:
        try:
            document: Any = yaml.safe_load(self._template.read_text())
            paths = document["resources"][0]["virtual_hosts"][0]["routes"]
            infer = next(path for path in paths if path["name"] == _ROUTE)
            context = infer["typed_per_filter_config"][_FILTER]["filter_context"]
        except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError, StopIteration) as error:
            raise Retry(
                f"{self._template} has no route {_ROUTE!r} with a {_FILTER} context: {error!r}"
            ) from error
        context.update(generation=digest, models=table(routes))
        document["version_info"] = digest
        return json.dumps(document, indent=1).encode()  # JSON is YAML


def _refusals(statistics: Mapping[str, str]) -> dict[str, int]:
    """Returns how often Envoy has refused a table since it started, by the name it counts under."""
    return {name: int(statistics.get(name, "0")) for name in _VERDICTS}


def _replace(path: Path, content: bytes) -> None:
    """Writes a file such that a reader, or a machine that lost power, has all of it or none.

    Raises:
        Retry: It cannot be written; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Neither lies in the folder that Envoy watches.
    draft = path.parent.with_name(f".{path.name}.new")
    reserve = path.parent.with_name(f".{path.name}.reserve")
    try:
        try:
            _write(draft, content)
        except OSError:
            reserve.unlink(missing_ok=True)
            _write(draft, content)
        draft.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise Retry(f"the routing table cannot be written to {path}: {error}") from error
    with suppress(OSError):  # the disk is full: the next table that fits makes it again
        _reserve(reserve)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _reserve(path: Path) -> None:
    if not path.exists():
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
