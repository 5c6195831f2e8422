"""Snapshots: the state of a detector as named arrays, and those arrays as bytes."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from numpy.typing import NDArray

from ciclo_drift.errors import DriftInputError

Snapshot = dict[str, NDArray[np.generic]]
"""A detector's state: arrays of numbers or fixed-width text, never of objects."""


def pack(snapshot: Snapshot) -> bytes:
    """Writes a snapshot as bytes (an uncompressed `.npz` in memory, without pickle).

    Example:
        >>> unpack(pack({"rows": np.array(3)}))
        {'rows': array(3)}
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in snapshot.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            # A fixed date: equal snapshots give equal bytes, so a digest of them means something.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue()
            )
    return buffer.getvalue()


def unpack(packed: bytes) -> Snapshot:
    """Reads what `pack` wrote.

    Raises:
        DriftInputError: The bytes are not a snapshot.
    """
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, TypeError, AttributeError) as error:
        raise DriftInputError(
            "packed", f"{len(packed)} bytes ({error})", "bytes made by `pack`"
        ) from error


def within(prefix: str, snapshot: Snapshot) -> Snapshot:
    """Names of a part, prefixed: for a snapshot that holds it."""
    return {prefix + name: array for name, array in snapshot.items()}


def without(prefix: str, snapshot: Snapshot) -> Snapshot:
    """The part that `within` put under `prefix`."""
    return {k.removeprefix(prefix): v for k, v in snapshot.items() if k.startswith(prefix)}


def require_kind(snapshot: Snapshot, kind: str) -> None:
    """Refuses a snapshot of another detector or of another version of it.

    Raises:
        DriftInputError: `snapshot["kind"]` is not `kind`.
    """
    found = str(snapshot["kind"]) if "kind" in snapshot else "no kind"
    if found != kind:
        raise DriftInputError("snapshot", found, f"a snapshot of {kind}")
