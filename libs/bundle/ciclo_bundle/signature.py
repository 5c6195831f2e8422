"""What a model takes and gives: named tensors of one column each, and where values come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from ciclo_bundle.digest import canonical_json, sha256
from ciclo_bundle.errors import BundleCorrupt

Datatype = Literal["string", "float32", "int64", "timestamp"]
"""What a column means. A timestamp is int64 microseconds since the epoch in UTC."""

Role = Literal["id", "entity", "request", "feature", "output"]
"""Who supplies it: the feature-store a `feature`, the model an `output`, the caller the rest."""

TRITON_DATATYPES: Final[dict[str, Literal["BYTES", "FP32", "INT64"]]] = {
    "string": "BYTES",
    "float32": "FP32",
    "int64": "INT64",
    "timestamp": "INT64",
}
"""How a column travels in the Open Inference Protocol."""

SHAPE: Final = (-1, 1)
"""Shape of every tensor: rows, then one column."""

SCHEMA: Final = "ciclo.signature/v1"
"""Written into signature.json; a reader refuses any other."""


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output of a model: a tensor [rows, 1].

    Attributes:
        name: Name of the tensor, and of the column in a dataset. An identifier.
        datatype: What the column means.
        role: Who supplies it. An `id` is the row's business key: captured, not learned from.
        meaning: Unit and sense, for people; not part of the signature's digest.
        view: Feature view that it comes from; empty for others.
        view_digest: Version of that view.
    """

    name: str
    datatype: Datatype
    role: Role = "feature"
    meaning: str = ""
    view: str = ""
    view_digest: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"field {self.name!r}: expected a name of letters, digits and _")
        if self.datatype not in TRITON_DATATYPES:
            raise ValueError(
                f"field {self.name}: datatype {self.datatype!r} is none of {list(TRITON_DATATYPES)}"
            )
        if self.role not in get_args(Role):
            raise ValueError(
                f"field {self.name}: role {self.role!r} is none of {list(get_args(Role))}"
            )

    @property
    def triton(self) -> Literal["BYTES", "FP32", "INT64"]:
        """Datatype on the wire."""
        return TRITON_DATATYPES[self.datatype]


@dataclass(frozen=True, slots=True)
class Signature:
    """The question that a model answers. Equal digests: either version can be asked.

    Attributes:
        inputs: In declared order.
        outputs: All of role `output`.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in (*self.inputs, *self.outputs)]
        if len(set(names)) < len(names):
            raise ValueError(f"signature: a name occurs twice in {names}")
        if not self.inputs or not self.outputs:
            raise ValueError("signature: expected at least one input and one output")
        if {f.role for f in self.outputs} != {"output"} or "output" in {
            f.role for f in self.inputs
        }:
            raise ValueError("signature: outputs, and only they, have the role 'output'")

    @property
    def digest(self) -> str:
        """Digest of everything but the meanings."""
        document = _document(self)
        for tensor in (*document["inputs"], *document["outputs"]):
            del tensor["meaning"]
        return sha256(canonical_json(document))


def encode_signature(signature: Signature) -> bytes:
    """Return the bytes of signature.json."""
    return canonical_json({"schema": SCHEMA, "digest": signature.digest, **_document(signature)})


def decode_signature(content: bytes) -> Signature:
    """Read signature.json.

    Raises:
        BundleCorrupt: Not of this schema, or its own digest does not hold.
    """
    try:
        document = _ADAPTER.validate_json(content)
        signature = Signature(
            tuple(tensor.field() for tensor in document.inputs),
            tuple(tensor.field() for tensor in document.outputs),
        )
    except (ValidationError, ValueError) as cause:
        raise BundleCorrupt("signature.json", str(cause)) from cause
    if document.digest != signature.digest:
        raise BundleCorrupt(
            "signature.json", f"says digest {document.digest}, its content has {signature.digest}"
        )
    return signature


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A field as signature.json has it: with what the wire needs spelled out."""

    name: str
    kind: Datatype
    datatype: Literal["BYTES", "FP32", "INT64"]
    shape: tuple[Literal[-1], Literal[1]]
    role: Role
    meaning: str
    view: str
    view_digest: str

    def field(self) -> Field:
        field = Field(self.name, self.kind, self.role, self.meaning, self.view, self.view_digest)
        if field.triton != self.datatype:
            raise ValueError(
                f"{self.name}: a {self.kind} travels as {field.triton}, not {self.datatype}"
            )
        return field


@dataclass(frozen=True, slots=True)
class _Document:
    """signature.json."""

    schema: Literal["ciclo.signature/v1"]
    digest: str
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


_ADAPTER: Final = TypeAdapter(_Document)


def _document(signature: Signature) -> dict[str, list[dict[str, object]]]:
    return {
        side: [
            asdict(
                _Tensor(
                    f.name, f.datatype, f.triton, SHAPE, f.role, f.meaning, f.view, f.view_digest
                )
            )
            for f in fields
        ]
        for side, fields in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
