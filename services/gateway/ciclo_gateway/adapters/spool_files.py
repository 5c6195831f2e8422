"""The spool's folder: Envoy appends, the shipper reads, rotates and deletes."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ciclo.errors import Retry
from ciclo_gateway.adapters.envoy_admin import EnvoyAdmin
from ciclo_gateway.ports.shipping import Segment, WriteFailureCount
from ciclo_runtime.clock import Clock

SETTLED: Final = timedelta(seconds=2)
"""How long a file must have been quiet before it counts as closed: told to reopen its log, Envoy
goes on writing to the renamed file until its next flush, which is due every second."""

_WRITE_FAILED = "filesystem.write_failed"
_NAME = re.compile(r"serve-\d+(\.\d{6})?\.log")


class SpoolFiles:
    """Implements `ports.Spool`.

    A file that Envoy writes is `serve-<start>.log`; rotated, it becomes `serve-<start>.<n>.log`,
    which sorts before it.

    Args:
        folder: Of the spool.
        admin: Envoy's admin page.
        clock: Tells how long a file has been quiet.
    """

    def __init__(self, folder: Path, admin: EnvoyAdmin, clock: Clock) -> None:
        self._folder = folder
        self._admin = admin
        self._clock = clock

    async def segments(self) -> list[Segment]:
        """Returns the files, oldest first."""
        return await asyncio.to_thread(self._list)

    async def read(self, name: str, start: int, limit: int) -> bytes:
        """Returns up to `limit` bytes from `start`. Raises `FileNotFoundError`."""
        return await asyncio.to_thread(self._read, name, start, limit)

    async def rotate(self, segment: Segment) -> None:
        """Makes Envoy begin a new file. Raises `Retry`; then the next try goes on where it was."""
        stem = segment.name.removesuffix(".log")
        if "." not in stem:  # not renamed yet
            path = self._folder / segment.name
            await asyncio.to_thread(path.rename, self._folder / self._next_name(stem))
        await self._admin.reopen_logs()

    async def delete(self, name: str) -> None:
        """Deletes a file; nothing happens if it is gone."""
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    async def write_failures(self) -> WriteFailureCount | None:
        """Returns how many lines Envoy could not write since it started; None if unknown."""
        # Each start of Envoy has files of its own: their name is what names the process.
        process = await asyncio.to_thread(self._newest_start)
        try:
            found = await self._admin.statistics(f"^{_WRITE_FAILED}$")
            count = WriteFailureCount(process, int(found[_WRITE_FAILED]))
        except (Retry, KeyError, ValueError):
            return None
        is_same = process == await asyncio.to_thread(self._newest_start)
        return count if process and is_same else None

    def _next_name(self, stem: str) -> str:
        rotated = sorted(self._folder.glob(f"{stem}.??????.log"))
        number = int(rotated[-1].name.split(".")[1]) + 1 if rotated else 1
        return f"{stem}.{number:06d}.log"

    def _newest_start(self) -> str:
        names = (p.name for p in self._folder.glob("serve-*.log") if _NAME.fullmatch(p.name))
        return max((name.split(".")[0] for name in names), default="")

    def _list(self) -> list[Segment]:
        if not self._folder.exists():
            return []
        paths = sorted(p for p in self._folder.iterdir() if _NAME.fullmatch(p.name))
        quiet_before = self._clock.now() - SETTLED
        segments = []
        for path in paths:
            stat = path.stat()
            is_quiet = datetime.fromtimestamp(stat.st_mtime, UTC) < quiet_before
            is_closed = path != paths[-1] and is_quiet
            segments.append(Segment(path.name, stat.st_ino, stat.st_size, is_closed))
        return segments

    def _read(self, name: str, start: int, limit: int) -> bytes:
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(limit)
