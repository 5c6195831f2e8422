"""What can be wrong with a bundle or a blob; each error says where, and what was expected."""

from __future__ import annotations

from ciclo.errors import NotFound, Reject


class BundleError(Reject):
    """Root of this library's errors: what was given is wrong and will stay so."""

    reason = "BUNDLE_INVALID"


class BundleCorrupt(BundleError):
    """A bundle is not what its manifest says.

    Attributes:
        file: Path inside the bundle, `.` for the folder.
        problem: What was found, and what was expected.
    """

    reason = "BUNDLE_CORRUPT"

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"{file}: {problem}", metadata={"file": file})
        self.file = file
        self.problem = problem


class BlobCorrupt(BundleError):
    """A stored blob is not what its digest says.

    Attributes:
        digest: The address that was asked for.
        file: Path inside the blob, `.` for the blob itself.
        problem: What was found, and what was expected.
    """

    reason = "BLOB_CORRUPT"

    def __init__(self, digest: str, file: str, problem: str) -> None:
        super().__init__(f"{digest}, {file}: {problem}", metadata={"digest": digest, "file": file})
        self.digest = digest
        self.file = file
        self.problem = problem


class BlobMissing(BundleError, NotFound):
    """No blob of this digest is stored.

    Attributes:
        digest: The address that was asked for.
    """

    reason = "BLOB_MISSING"

    def __init__(self, digest: str) -> None:
        super().__init__(f"no blob {digest} in the store", metadata={"digest": digest})
        self.digest = digest


class UnsafePath(BundleError):
    """A path or digest could leave its folder: absolute, `..`, a link, or odd characters.

    Attributes:
        path: The path as it was given.
    """

    reason = "UNSAFE_PATH"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r}: expected a relative path of letters, digits, '_', '-', '.' (or a digest"
            " 'sha256:' and 64 hex digits), and no link"
        )
        self.path = path


class InputsUnfit(BundleError):
    """Columns do not fit a signature.

    Attributes:
        name: The input.
        problem: What was found, and what was expected.
    """

    reason = "INPUTS_UNFIT"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"input {name!r}: {problem}", field=name)
        self.name = name
        self.problem = problem


class SignatureMismatch(BundleError):
    """Bundles that should be versions of one model ask different questions.

    Attributes:
        expected: Signature digest of the first.
        found: Signature digest of another.
    """

    reason = "SIGNATURE_MISMATCH"

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"signature {found}, expected {expected}: serve it under another name")
        self.expected = expected
        self.found = found
