"""Tables for Envoy: written whole or not at all, and what its statistics say about them."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ciclo.errors import Retry
from ciclo_gateway.adapters.envoy import PREFIX, RESERVE_BYTES, EnvoyRoutes
from ciclo_gateway.domain.desired import Share
from ciclo_gateway.domain.routing import Route, table_digest
from ciclo_gateway.ports.control import TableRefused
from ciclo_local.envoy import SOURCES
from ciclo_runtime.clock import ManualClock

ROUTES = {"m": Route(1, "s", (Share(1, "champion", 1.0),))}
DIGEST = table_digest(ROUTES)
LAST = b"the last good table"


class PassingClock(ManualClock):
    """A clock that who waits moves on."""

    async def sleep(self, delay: timedelta) -> None:
        self.advance(delay)


@dataclass
class Admin:
    """Envoy's admin page: what each look finds; the last one repeats."""

    looks: list[Mapping[str, Any]]

    async def statistics(self, pattern: str) -> dict[str, str]:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {f"{PREFIX}.{name}": str(value) for name, value in found.items()}


def look(rejected: int, *, version: str = "old", failure: int = 0) -> Mapping[str, Any]:
    return {"update_rejected": rejected, "update_failure": failure, "version_text": version}


async def publish(folder: Path, *looks: Mapping[str, Any]) -> bytes:
    """Publishes a table; returns what is in the file then."""
    (folder / "rds").mkdir(exist_ok=True)
    (folder / "rds-template.yaml").write_bytes((SOURCES / "rds.yaml").read_bytes())
    file = folder / "rds" / "rds.yaml"
    file.write_bytes(LAST)
    admin: Any = Admin(list(looks))
    try:
        await EnvoyRoutes(folder, admin, PassingClock()).publish(ROUTES)
    finally:
        found = file.read_bytes()
    return found


async def test_a_table_that_envoy_names_is_in_force(tmp_path: Path) -> None:
    assert DIGEST.encode() in await publish(tmp_path, look(3), look(3), look(3, version=DIGEST))


@pytest.mark.parametrize("verdict", [look(4), look(3, failure=1)])
async def test_a_table_is_refused_when_a_count_grows(
    tmp_path: Path, verdict: Mapping[str, Any]
) -> None:
    with pytest.raises(TableRefused):
        await publish(tmp_path, look(3), look(3), verdict)
    assert (tmp_path / "rds" / "rds.yaml").read_bytes() == LAST


async def test_an_envoy_that_started_anew_has_not_refused_anything(tmp_path: Path) -> None:
    written = await publish(tmp_path, look(3, failure=2), look(0), look(0, version=DIGEST))
    assert DIGEST.encode() in written


async def test_an_envoy_that_started_anew_may_refuse_too(tmp_path: Path) -> None:
    with pytest.raises(TableRefused):
        await publish(tmp_path, look(3), look(0), look(1))


async def test_an_envoy_that_says_nothing_is_asked_again_later(tmp_path: Path) -> None:
    with pytest.raises(Retry):
        await publish(tmp_path, look(3))
    assert (tmp_path / "rds" / "rds.yaml").read_bytes() == LAST


async def test_a_full_disk_has_room_for_one_table_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = look(0), look(0, version=DIGEST)
    await publish(tmp_path, *taken)
    reserve = tmp_path / ".rds.yaml.reserve"
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    sync = os.fsync

    def full(descriptor: int) -> None:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert DIGEST.encode() in await publish(tmp_path, *taken)


async def test_a_disk_that_takes_nothing_leaves_the_table_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(Retry, match=r"cannot be written to .*rds\.yaml"):
        await publish(tmp_path, look(0))
    assert (tmp_path / "rds" / "rds.yaml").read_bytes() == LAST
