"""Loops and bundles, fetched once from the blob store."""

import asyncio
import json
from pathlib import Path

import numpy as np

from ciclo.loop import Loop, read_loop
from ciclo_bundle.store import BlobFolders, BlobStore
from ciclo_drift import StreamSet, unpack
from ciclo_monitor.domain.findings import Version
from ciclo_monitor.domain.performance import HeldOut
from ciclo_monitor.domain.watch import Champion


class Blobs:
    """Definitions and bundles by digest. Satisfies `ports.Definitions`.

    Args:
        url: Root of the blob store.
        cache: Folder that holds what was fetched.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._folders = BlobFolders(BlobStore(url), cache)
        self._loops: dict[str, Loop] = {}

    async def loop(self, loop_digest: str) -> Loop:
        """Returns a definition."""
        if loop_digest not in self._loops:
            folder = await asyncio.to_thread(self._folders.get, loop_digest)
            self._loops[loop_digest] = read_loop(folder)
        return self._loops[loop_digest]

    async def champion(self, version: Version) -> Champion:
        """Returns a version with what its bundle promises."""
        folder = await asyncio.to_thread(self._folders.get, version.bundle_digest)
        return await asyncio.to_thread(_read, version, folder / "reference")


def _read(version: Version, reference: Path) -> Champion:
    blocks = json.loads((reference / "blocks.json").read_text())["blocks"]
    held_out = HeldOut(
        losses=np.array([block["loss_sum"] for block in blocks], np.float64),
        expected=np.array([block["entropy_sum"] for block in blocks], np.float64),
        rows=np.array([block["rows"] for block in blocks], np.int64),
    )
    streams = StreamSet.restore(unpack((reference / "streams.bin").read_bytes()))
    return Champion(version, held_out, streams)
