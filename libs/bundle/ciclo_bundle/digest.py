"""Digests of bytes, files and folders, and the one way in which digested JSON is written."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ciclo_bundle.errors import UnsafePath

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""How a digest is written."""

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
"""One part of a path: nothing that a shell, a URL or another file system would read otherwise."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """One file of a folder.

    Attributes:
        path: Relative, with `/`.
        sha256: `sha256:` and 64 hex digits.
        size_bytes: >= 0.
    """

    path: str
    sha256: str
    size_bytes: int


def sha256(content: bytes) -> str:
    """Return the digest of bytes.

    Example:
        >>> sha256(b"")[:15]
        'sha256:e3b0c442'
    """
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def file_digest(path: Path) -> str:
    """Return the digest of a file, read in pieces."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys, indented, ending in a line feed: equal values, equal bytes.

    Raises:
        ValueError: A number is not finite; JSON has no word for it.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def require_digest(text: str) -> str:
    """Return `text` if it is written as a digest.

    Raises:
        UnsafePath: It is not.
    """
    if not DIGEST.fullmatch(text):
        raise UnsafePath(text)
    return text


def require_safe(path: str) -> str:
    """Return `path` if it stays inside the folder that it is joined to.

    Raises:
        UnsafePath: It is absolute, empty, not normal, or has `..` or odd characters.
    """
    parts = PurePosixPath(path).parts
    if str(PurePosixPath(*parts)) != path or not all(SAFE_NAME.fullmatch(part) for part in parts):
        raise UnsafePath(path)
    return path


def list_files(folder: Path) -> tuple[FileDigest, ...]:
    """Return every file of a folder with its digest, by path.

    Raises:
        UnsafePath: It holds a link, something that is neither file nor folder, or an odd name.
        NotADirectoryError: It is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(folder)
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UnsafePath(name)
        if path.is_file():
            files.append(FileDigest(require_safe(name), file_digest(path), path.stat().st_size))
    return tuple(sorted(files, key=lambda file: file.path))


def listing_json(files: Iterable[FileDigest]) -> bytes:
    """Return the bytes whose digest is a folder's address."""
    return canonical_json([asdict(file) for file in files])


def folder_digest(folder: Path) -> str:
    """Return a folder's address: the digest of the list of its files' paths, digests and sizes."""
    return sha256(listing_json(list_files(folder)))
