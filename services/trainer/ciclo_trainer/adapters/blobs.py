"""Loop definitions, datasets and bundles, fetched once from the blob store into local folders."""

import asyncio
from pathlib import Path

from ciclo.errors import Retry
from ciclo.loop import Loop, read_loop
from ciclo_bundle.store import BlobFolders, BlobStore


class Blobs:
    """Folders by digest. Satisfies `ports.Loops`.

    Args:
        url: Root of the blob store.
        cache: Folder that holds what was fetched.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._store = BlobStore(url)
        self._folders = BlobFolders(self._store, cache)
        self._loops: dict[str, Loop] = {}

    async def folder(self, digest: str) -> Path:
        """Returns a local copy of a stored folder.

        Raises:
            Retry: It cannot be read now.
            BlobCorrupt: It has changed.
        """
        return await asyncio.to_thread(self._folders.get, digest)

    async def put(self, folder: Path) -> str:
        """Stores a folder and returns its digest.

        Raises:
            Retry: It cannot be written now.
        """
        try:
            return await asyncio.to_thread(self._store.put_folder, folder)
        except OSError as error:
            raise Retry(f"{folder} cannot be stored: {error}", reason="BLOB_AWAY") from error

    async def get(self, loop_digest: str) -> Loop:
        """Returns a definition."""
        if loop_digest not in self._loops:
            self._loops[loop_digest] = read_loop(await self.folder(loop_digest))
        return self._loops[loop_digest]
