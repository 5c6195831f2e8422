"""Where bundles, datasets and loop definitions lie: bytes named by their digest, behind fsspec.

Two kinds of object, one rule: a file, and the listing of a folder (`digest.listing_json`); each is
stored under its own sha256. Equal files of two bundles are stored once, nothing is ever changed.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import TypeAdapter, ValidationError

from ciclo.errors import Retry
from ciclo_bundle.digest import (
    FileDigest,
    file_digest,
    list_files,
    listing_json,
    require_digest,
    require_safe,
    sha256,
)
from ciclo_bundle.errors import BlobCorrupt, BlobMissing, UnsafePath

if TYPE_CHECKING:
    from pathlib import Path


class BlobStore:
    """Content-addressed files and folders. Any number of writers and readers, on any machine.

    Calls block; an event loop runs them in a thread.

    Args:
        url: What fsspec understands: a folder, `file:///…`, `s3://…`, `memory://…`.
    """

    def __init__(self, url: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    def put_folder(self, path: Path) -> str:
        """Store a folder and return its digest; nothing happens if it is there already.

        The listing is written last: a folder that `exists` is whole. A killed call leaves at most
        files that no listing names.

        Raises:
            UnsafePath: The folder holds a link or an odd name.
        """
        files = list_files(path)
        for file in files:
            if not self.exists(file.sha256):
                self._write(file.sha256, path / file.path)
        return self.put_bytes(listing_json(files))

    def put_bytes(self, content: bytes) -> str:
        """Store some bytes and return their digest."""
        digest = sha256(content)
        if not self.exists(digest):
            self._write(digest, content)
        return digest

    def exists(self, digest: str) -> bool:
        """Tell whether a file or folder of this digest is stored.

        Raises:
            UnsafePath: Not written as a digest.
        """
        return bool(self._fs.exists(self._place(digest)))

    def read_bytes(self, digest: str) -> bytes:
        """Return stored bytes, checked.

        Raises:
            BlobMissing: Not stored.
            BlobCorrupt: Changed since.
        """
        place = self._place(digest)
        try:
            content = bytes(self._fs.cat_file(place))
        except FileNotFoundError as cause:
            raise BlobMissing(digest) from cause
        if sha256(content) != digest:
            raise BlobCorrupt(digest, ".", "stored bytes have another digest")
        return content

    def fetch(self, digest: str, to: Path) -> Path:
        """Copy a stored folder to `to`, checking every file, and return `to`.

        `to` appears whole or not at all. If it is there already with the same content, as after a
        repeated call, nothing is copied.

        Raises:
            BlobMissing: The folder, or one of its files, is not stored.
            BlobCorrupt: A stored file has changed, or the digest is not a folder's.
            FileExistsError: `to` exists with another content.
        """
        files = _parse_listing(digest, self.read_bytes(digest))
        if to.exists():
            return _require_same(to, files)
        draft = to.with_name(f"{to.name}.{uuid.uuid4().hex}.partial")
        try:
            draft.mkdir(parents=True)
            for file in files:
                self._fetch_file(digest, file, draft / file.path)
            with suppress(OSError):  # somebody else was first: checked below
                draft.rename(to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return _require_same(to, files)

    def _fetch_file(self, folder: str, file: FileDigest, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fs.get_file(self._place(file.sha256), str(to))
        except FileNotFoundError as cause:
            raise BlobMissing(file.sha256) from cause
        if file_digest(to) != file.sha256:
            raise BlobCorrupt(folder, file.path, "stored file has another digest")

    def _place(self, digest: str) -> str:
        name = require_digest(digest).removeprefix("sha256:")
        return f"{self._root}/{name[:2]}/{name}"

    def _write(self, digest: str, content: bytes | Path) -> None:
        """Write beside the place and rename: a reader never sees half an object.

        On a local disk the bytes are there before their name is, also after a power failure: an
        object that is stored once is never written again, so an empty one would stay for ever.
        """
        place = self._place(digest)
        folder = place.rpartition("/")[0]
        draft = f"{place}.{uuid.uuid4().hex}.partial"
        self._fs.makedirs(folder, exist_ok=True)
        if isinstance(content, bytes):
            self._fs.pipe_file(draft, content)
        else:
            self._fs.put_file(str(content), draft)
        if isinstance(self._fs, LocalFileSystem):
            _flush(draft)
        self._fs.mv(draft, place)
        if isinstance(self._fs, LocalFileSystem):
            _flush(folder)
            _flush(self._root)


class BlobFolders:
    """Stored folders, each fetched once and kept on this machine.

    Calls block; an event loop runs them in a thread.

    Args:
        store: Where they come from.
        cache: Folder that holds what was fetched.
    """

    def __init__(self, store: BlobStore, cache: Path) -> None:
        self._store = store
        self._cache = cache

    def get(self, digest: str) -> Path:
        """Return the local copy of a stored folder; one that was damaged is fetched again.

        Raises:
            Retry: It is not stored yet, or the store is away.
            BlobCorrupt: What is stored has changed.
        """
        to = self._cache / digest.removeprefix("sha256:")
        try:
            try:
                return self._store.fetch(digest, to)
            except FileExistsError:
                shutil.rmtree(to)
                return self._store.fetch(digest, to)
        except (BlobMissing, OSError) as error:
            raise Retry(f"blob {digest} cannot be fetched: {error}", reason="BLOB_AWAY") from error


_LISTING: Final = TypeAdapter(tuple[FileDigest, ...])


def _parse_listing(digest: str, content: bytes) -> tuple[FileDigest, ...]:
    try:
        files = _LISTING.validate_json(content)
        for file in files:
            require_safe(file.path)
            require_digest(file.sha256)
    except (ValidationError, UnsafePath) as cause:
        raise BlobCorrupt(digest, ".", f"is not the listing of a folder: {cause}") from cause
    return files


def _flush(path: str) -> None:
    """Return once a file's bytes, or a folder's names, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _require_same(folder: Path, files: tuple[FileDigest, ...]) -> Path:
    if not folder.is_dir() or list_files(folder) != files:
        raise FileExistsError(f"{folder} exists with another content; remove it or fetch elsewhere")
    return folder
