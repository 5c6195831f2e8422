"""manifest.json: what a bundle is made of and from. Its digest names the release."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from ciclo_bundle.digest import FileDigest, canonical_json, require_digest, require_safe
from ciclo_bundle.errors import BundleCorrupt, UnsafePath

MANIFEST: Final = "manifest.json"
"""Name of the manifest inside a bundle; the one file that it does not list."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle's table of contents and its origin.

    Attributes:
        model: Name of the model.
        seed: Seed of the run.
        created_event_time_us: Newest event time of the dataset, held-out days included.
        newest_event_time_us: Newest event time of what the weights were trained on.
        dataset_digest: The dataset snapshot's folder digest.
        signature_digest: See `Signature.digest`.
        code_digest: Digest of the recipe's code; empty if unknown.
        lock_digest: Digest of the pinned packages; empty if unknown.
        parents: Bundle digests of the models that this one was compared with or grew from.
        version: Number in the registry; empty before registration (it is part of the digest).
        files: Every other file, by path.
    """

    model: str
    seed: int
    created_event_time_us: int
    newest_event_time_us: int
    dataset_digest: str
    signature_digest: str
    code_digest: str = ""
    lock_digest: str = ""
    parents: tuple[str, ...] = ()
    version: str = ""
    files: tuple[FileDigest, ...] = ()
    schema: Literal["ciclo.bundle/v1"] = "ciclo.bundle/v1"


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of manifest.json."""
    return canonical_json(asdict(manifest))


def decode_manifest(content: bytes) -> Manifest:
    """Read manifest.json.

    Raises:
        BundleCorrupt: Not of this schema, not written canonically, a path leaves the bundle, or a
            file is listed twice.
    """
    try:
        manifest = _ADAPTER.validate_json(content)
        for file in manifest.files:
            require_safe(file.path)
            require_digest(file.sha256)
        canonical = encode_manifest(manifest)
    except (ValidationError, ValueError, UnsafePath) as cause:
        raise BundleCorrupt(MANIFEST, str(cause)) from cause
    paths = [file.path for file in manifest.files]
    if paths != sorted(set(paths)) or MANIFEST in paths:
        raise BundleCorrupt(MANIFEST, "expected every other file once, sorted by path")
    if canonical != content:
        raise BundleCorrupt(MANIFEST, "not in canonical form: changed after it was written")
    return manifest


_ADAPTER: Final = TypeAdapter(Manifest)
