"""Bundles and loop definitions: fetched from the blob store once, verified, kept here."""

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ciclo.errors import Conflict
from ciclo.loop import Fallback, InvalidLoop, read_loop
from ciclo_bundle import BundleError, verify_bundle
from ciclo_bundle import Signature as BundleSignature
from ciclo_bundle.store import BlobFolders
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.questions import Contract
from ciclo_gateway.domain.tensors import Field, Signature, Tensor
from ciclo_gateway.ports.control import Bundle, CorruptBundle
from ciclo_gateway.wire.inference import pack

_PARITY = "evidence/parity.npz"
_MICROSECOND = 1e-6


class BlobBundles:
    """Implements `ports.Bundles`.

    Args:
        folders: Bundles, by digest.
    """

    def __init__(self, folders: BlobFolders) -> None:
        self._folders = folders

    async def fetch(self, version: Version) -> Bundle:
        """Returns a version's bundle. Raises `CorruptBundle`; `Retry` if it is not there yet."""
        return await asyncio.to_thread(self._fetch, version)

    def _fetch(self, version: Version) -> Bundle:
        try:
            path = self._folders.get(version.bundle_digest)
            found = verify_bundle(path)
            inputs, outputs = _parity(path, _signature_of(found.signature))
        except (BundleError, KeyError, ValueError) as error:
            raise CorruptBundle(f"bundle {version.bundle_digest}: {error}") from error
        signature = _signature_of(found.signature)
        if version.signature_digest and version.signature_digest != signature.digest:
            raise CorruptBundle(
                f"bundle {version.bundle_digest} has signature {signature.digest}, the registry "
                f"says {version.signature_digest}"
            )
        return Bundle(path, signature, inputs, outputs)


class BlobLoops:
    """Implements `ports.Loops`.

    Args:
        folders: Loop definitions, by digest.
    """

    def __init__(self, folders: BlobFolders) -> None:
        self._folders = folders
        self._known: dict[str, Contract] = {}

    async def contract(self, digest: str) -> Contract:
        """Returns what a loop declares about requests. Raises `Retry`, `Conflict`."""
        if digest not in self._known:
            self._known[digest] = await asyncio.to_thread(self._read, digest)
        return self._known[digest]

    def _read(self, digest: str) -> Contract:
        try:
            loop = read_loop(self._folders.get(digest))
        except (BundleError, InvalidLoop) as error:
            raise Conflict(
                f"loop definition {digest} cannot be used: {error}; `ciclo apply` it again",
                reason="LOOP_CORRUPT",
            ) from error
        return Contract(
            feature_service=loop.features,
            entities=loop.entities,
            request=loop.input.request,
            id=loop.input.id or "",
            knowledge_lag_us=round(loop.knowledge_lag.total_seconds() / _MICROSECOND),
            older_than_us={
                view: _older_than_us(fallback) for view, fallback in loop.input.fallback.items()
            },
        )


def _older_than_us(fallback: Fallback) -> int:
    return round(fallback.older_than.total_seconds() / _MICROSECOND)


def _signature_of(found: BundleSignature) -> Signature:
    return Signature(
        digest=found.digest,
        inputs=tuple(Field(f.name, f.datatype, f.role, f.view) for f in found.inputs),
        outputs=tuple(Field(f.name, f.datatype, f.role, f.view) for f in found.outputs),
    )


def _parity(
    path: Path, signature: Signature
) -> tuple[tuple[Tensor, ...], dict[str, NDArray[np.float32]]]:
    with np.load(path / _PARITY, allow_pickle=False) as arrays:
        inputs = tuple(pack(f.name, arrays[f"in.{f.name}"]) for f in signature.inputs)
        outputs = {f.name: arrays[f"out.{f.name}"] for f in signature.outputs}
    return inputs, outputs
