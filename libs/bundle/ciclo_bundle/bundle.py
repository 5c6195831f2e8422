"""A bundle as a folder: sealed once by the trainer, verified by whoever registers or loads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ciclo_bundle.digest import file_digest, list_files, sha256
from ciclo_bundle.errors import BundleCorrupt, UnsafePath
from ciclo_bundle.manifest import MANIFEST, Manifest, decode_manifest, encode_manifest
from ciclo_bundle.signature import Signature, decode_signature

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED: Final = (
    "calibration.json",
    "evidence/metrics.json",
    "evidence/parity.npz",
    "model.onnx",
    "reference/blocks.json",
    "reference/streams.bin",
    "signature.json",
    "weights.safetensors",
)
"""Without these a folder is not a bundle, whatever its manifest says."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest and signature were read.

    Attributes:
        path: The folder.
        manifest: What it is made of.
        signature: What it takes and gives.
        digest: Digest of the manifest: the name of this release.
    """

    path: Path
    manifest: Manifest
    signature: Signature
    digest: str


def bundle_digest(path: Path) -> str:
    """Return the digest of a bundle's manifest.

    Raises:
        BundleCorrupt: There is none.
    """
    return sha256(_read(path, MANIFEST))


def read_bundle(path: Path) -> Bundle:
    """Read manifest and signature, and check these two. Cheap: the other files are not opened.

    Raises:
        BundleCorrupt: They are missing or wrong.
    """
    content = _read(path, MANIFEST)
    manifest = decode_manifest(content)
    listed = {file.path: file for file in manifest.files}
    for name in REQUIRED:
        if name not in listed:
            raise BundleCorrupt(name, "not listed in the manifest, but every bundle has it")
    text = _read(path, "signature.json")
    if sha256(text) != listed["signature.json"].sha256:
        raise BundleCorrupt("signature.json", "digest differs from the manifest's")
    signature = decode_signature(text)
    if signature.digest != manifest.signature_digest:
        raise BundleCorrupt("signature.json", "is not the signature that the manifest names")
    return Bundle(path, manifest, signature, sha256(content))


def verify_bundle(path: Path) -> Bundle:
    """Check every file of a bundle against its manifest.

    Called before a bundle is registered and before it is loaded. Guaranteed afterwards: no file
    is missing, changed, or there without being listed, and none is a link. Cost: reads every byte.

    Raises:
        BundleCorrupt: With the first file at fault.
    """
    bundle = read_bundle(path)
    try:
        found = {file.path: file for file in list_files(path)}
    except UnsafePath as cause:
        raise BundleCorrupt(cause.path, "a link, a device or an odd name") from cause
    listed = {file.path: file for file in bundle.manifest.files}
    for name in sorted(found.keys() - listed.keys() - {MANIFEST}):
        raise BundleCorrupt(name, "is not listed in the manifest")
    for name, file in listed.items():
        if name not in found:
            raise BundleCorrupt(name, "is missing")
        if found[name].size_bytes != file.size_bytes:
            sizes = f"{found[name].size_bytes} bytes, expected {file.size_bytes}"
            raise BundleCorrupt(name, sizes)
        if found[name].sha256 != file.sha256:
            raise BundleCorrupt(name, f"digest {found[name].sha256}, expected {file.sha256}")
    return bundle


def write_bundle(draft: Path, to: Path, manifest: Manifest) -> Bundle:
    """Seal a folder of files as a bundle and move it to its place.

    Args:
        draft: Folder with every file but the manifest; on the same file system as `to`.
        to: Where the bundle shall be; must not exist. It appears whole or not at all.
        manifest: Its `files` are filled in here.

    Raises:
        BundleCorrupt: A required file is missing or wrong; the draft is left as it is.
        FileExistsError: `to` exists.
    """
    if to.exists():
        raise FileExistsError(to)
    (draft / MANIFEST).unlink(missing_ok=True)
    sealed = replace(manifest, files=list_files(draft))
    (draft / MANIFEST).write_bytes(encode_manifest(sealed))
    read_bundle(draft)
    draft.rename(to)
    return read_bundle(to)


def require_file(bundle: Bundle, name: str) -> Path:
    """Return the path of one file after checking its digest: for a reader that needs no other.

    Raises:
        BundleCorrupt: Not listed, missing, or changed.
    """
    listed = {file.path: file.sha256 for file in bundle.manifest.files}
    if name not in listed:
        raise BundleCorrupt(name, "is not listed in the manifest")
    path = bundle.path / name
    if not path.is_file() or file_digest(path) != listed[name]:
        raise BundleCorrupt(name, "is missing, or its digest differs from the manifest's")
    return path


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as cause:
        raise BundleCorrupt(name, f"cannot be read: {cause.strerror}") from cause
