"""The blob store: loop folders and signatures come from it, datasets go into it."""

import asyncio
import json
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from ciclo.errors import NotFound, Reject, Retry
from ciclo_bundle import Signature
from ciclo_bundle.digest import require_safe
from ciclo_bundle.errors import BlobCorrupt, BlobMissing, BundleCorrupt, UnsafePath
from ciclo_bundle.signature import decode_signature
from ciclo_bundle.store import BlobStore
from ciclo_feature_store.adapters import state
from ciclo_feature_store.domain.tasks import Snapshot, SnapshotCut, SnapshotTask
from ciclo_runtime.clock import Clock
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx


class UnknownBundle(Reject):
    """Answers name a bundle that the blob store does not hold, or not whole."""

    reason = "UNKNOWN_BUNDLE"


class UnknownLoop(NotFound):
    """The blob store does not hold a loop of this digest."""

    reason = "UNKNOWN_LOOP"


class Signatures:
    """Signatures of bundles, each read once.

    Args:
        store: Holds the bundles.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._found: dict[str, Signature] = {}

    def find(self, bundle_digest: str) -> Signature:
        """Returns the signature of a bundle. Blocks.

        Raises:
            UnknownBundle: It is not stored, or not what its digest says.
            Retry: The blob store does not answer.
        """
        if bundle_digest not in self._found:
            try:
                self._found[bundle_digest] = self._read(bundle_digest)
            except (BlobMissing, BlobCorrupt, BundleCorrupt, UnsafePath) as error:
                raise UnknownBundle(
                    f"bundle {bundle_digest!r}: {error}", field="version.bundle_digest"
                ) from error
            except (LookupError, TypeError, ValueError) as error:
                raise UnknownBundle(
                    f"{bundle_digest!r} is no bundle: {error!r} where a manifest or a listing with "
                    "a signature.json was expected",
                    field="version.bundle_digest",
                ) from error
            except OSError as error:
                raise Retry(f"the blob store does not answer: {error}") from error
        return self._found[bundle_digest]

    def _read(self, bundle_digest: str) -> Signature:
        # A bundle's digest is its manifest's; a folder's address is that of its listing. Both
        # name every file with its digest, and every file is stored under its own.
        document: Any = json.loads(self._store.read_bytes(bundle_digest))
        files = document["files"] if isinstance(document, dict) else document
        for file in files:
            if file["path"] == "signature.json":
                return decode_signature(self._store.read_bytes(file["sha256"]))
        raise BundleCorrupt("signature.json", "is not listed")


async def fetch_loop(store: BlobStore, digest: str, folder: Path) -> None:
    """Copies a loop's folder to this machine, unless it is there.

    Raises:
        UnknownLoop: It is not stored, or not what its digest says.
        Retry: The blob store does not answer.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(store.fetch, digest, folder)
    except (BlobMissing, BlobCorrupt, UnsafePath, FileExistsError) as error:
        raise UnknownLoop(f"loop {digest!r}: {error}", field="loop_digest") from error
    except OSError as error:
        raise Retry(f"the blob store does not answer: {error}") from error


async def put_loop(store: BlobStore, files: Mapping[str, bytes]) -> str:
    """Stores a loop's folder and returns its digest.

    Args:
        store: Gets it.
        files: By their path in the folder.

    Raises:
        Reject: A path leaves the folder.
        Retry: The blob store does not answer.
    """
    try:
        return await asyncio.to_thread(_put, store, files)
    except UnsafePath as error:
        raise Reject(f"a loop's folder: {error}", field="files") from error
    except OSError as error:
        raise Retry(f"the blob store does not answer: {error}") from error


def _put(store: BlobStore, files: Mapping[str, bytes]) -> str:
    with tempfile.TemporaryDirectory(prefix="ciclo-loop-") as folder:
        for name, content in files.items():
            path = Path(folder) / require_safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return store.put_folder(Path(folder))


class SnapshotStore:
    """Datasets in the blob store, with their origin in SQLite.

    A digest depends on the rows and the definitions alone. Which versions of which tables were
    read changes with every commit, so that is noted beside, not in, the dataset.

    Args:
        store: Gets the folders.
        database: Gets their origin.
        workplace: Folder on this machine for datasets in the making; emptied at start.
        clock: Dates them.
    """

    def __init__(self, store: BlobStore, database: Database, workplace: Path, clock: Clock) -> None:
        self._store = store
        self._database = database
        self._workplace = workplace
        self._clock = clock

    async def start(self) -> None:
        """Removes what a killed process left."""
        await asyncio.to_thread(shutil.rmtree, self._workplace, ignore_errors=True)
        self._workplace.mkdir(parents=True)

    async def stop(self) -> None:
        """Nothing stays open."""

    def workplace(self) -> Path:
        """See `ports.Datasets`."""
        return self._workplace / uuid.uuid4().hex

    async def discard(self, folder: Path) -> None:
        """See `ports.Datasets`."""
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def put(self, folder: Path, cut: SnapshotCut, task: SnapshotTask) -> Snapshot:
        """See `ports.Datasets`."""
        try:
            digest = await asyncio.to_thread(self._store.put_folder, folder)
        except OSError as error:
            raise Retry(f"the blob store does not answer: {error}") from error
        finally:
            await self.discard(folder)

        def note(tx: Tx) -> None:
            tx.connection.execute(
                insert(state.SNAPSHOTS).values(
                    digest=digest,
                    create_time=tx.now.isoformat(),
                    model=task.join.model,
                    loop_digest=task.join.loop_digest,
                    start_us=task.start_us,
                    as_of_us=task.as_of_us,
                    table_versions=dict(cut.table_versions),
                )
            )

        await self._database.transaction(note)
        return Snapshot(digest, cut)
