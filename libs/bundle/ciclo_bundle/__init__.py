"""The model bundle: what is released, how it is checked, stored, scored and handed to Triton."""

from ciclo_bundle.bundle import (
    Bundle,
    bundle_digest,
    read_bundle,
    require_file,
    verify_bundle,
    write_bundle,
)
from ciclo_bundle.digest import FileDigest, folder_digest
from ciclo_bundle.errors import (
    BlobCorrupt,
    BlobMissing,
    BundleCorrupt,
    BundleError,
    InputsUnfit,
    SignatureMismatch,
    UnsafePath,
)
from ciclo_bundle.manifest import Manifest
from ciclo_bundle.signature import Field, Signature

__all__ = [
    "BlobCorrupt",
    "BlobMissing",
    "Bundle",
    "BundleCorrupt",
    "BundleError",
    "Field",
    "FileDigest",
    "InputsUnfit",
    "Manifest",
    "Signature",
    "SignatureMismatch",
    "UnsafePath",
    "bundle_digest",
    "folder_digest",
    "read_bundle",
    "require_file",
    "verify_bundle",
    "write_bundle",
]
