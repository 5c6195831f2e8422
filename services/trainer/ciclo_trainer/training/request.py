"""What a run is asked to do and what it answers: request.json and result.json. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ciclo_bundle import Field, Signature
from ciclo_bundle.digest import canonical_json
from ciclo_trainer.training.errors import BadRequest

if TYPE_CHECKING:
    from ciclo.errors import CicloError

DAY_US: Final = 86_400_000_000
"""Microseconds in a day."""

REQUEST: Final = "request.json"
"""File of a run's folder that says what is asked."""

RESULT: Final = "result.json"
"""File of a run's folder that says what came of it; there once the run has ended."""

RESERVED: Final = ("label", "event_time_us", "block")
"""Columns of every dataset, which a model cannot take: it would learn its own answer."""


@dataclass(frozen=True, slots=True)
class Output:
    """What the model is for.

    Attributes:
        name: Name of the recipe's output that is judged against the label.
        type: `binary`: a probability, against a label of 0 or 1.
    """

    name: str
    type: Literal["binary"] = "binary"


@dataclass(frozen=True, slots=True)
class Request:
    """One run.

    Attributes:
        model: Name of the model.
        dataset: Folder of the snapshot, with `rows.parquet`.
        recipe: `path/of/file.py:Class`.
        out: Folder of the run. Given again after a kill, the run goes on from its checkpoint.
        inputs: What the model takes, in the order of its signature.
        output: What the model is for.
        holdout_days: The last event days (UTC) that are held out. >= 1.
        seed: Seed >= 0; None takes the recipe's.
        champion: Bundle to judge on the same held-out rows.
        slices: Columns by whose values quality is also reported.
        dataset_digest: Folder digest of the snapshot, checked if not empty.
        block_us: Rows within so long are not independent (`correlated_within`); used where the
            dataset has no column `block`. Microseconds, > 0.
        threads: Processor threads. The weights depend on it in the last bits. >= 1.
        code_digest: Digest of the recipe's code; empty takes that of its file.
        lock_digest: Digest of the pinned packages.
        parents: Bundle digests for the manifest; the champion's is added.
        policy: File that goes into the bundle as policy.yaml.
        budget_blocks: Time blocks between false alarms for which drift detectors are calibrated.
            >= 10.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    model: str
    dataset: Path
    recipe: str
    out: Path
    inputs: tuple[Field, ...]
    output: Output
    holdout_days: int
    seed: int | None = None
    champion: Path | None = None
    slices: tuple[str, ...] = ()
    dataset_digest: str = ""
    block_us: int = DAY_US
    threads: int = 1
    code_digest: str = ""
    lock_digest: str = ""
    parents: tuple[str, ...] = ()
    policy: Path | None = None
    budget_blocks: float = 365.0

    def __post_init__(self) -> None:
        for name in ("holdout_days", "block_us", "threads"):
            if getattr(self, name) < 1:
                raise BadRequest(name, f"{getattr(self, name)}, expected at least 1")
        if not self.budget_blocks >= 10:
            raise BadRequest("budget_blocks", f"{self.budget_blocks}, expected at least 10")
        if self.seed is not None and self.seed < 0:
            raise BadRequest("seed", f"{self.seed}, expected at least 0")
        if all(field.role == "id" for field in self.inputs):
            raise BadRequest("inputs", "none to learn from: expected one that is not an id")
        for field in self.signature.inputs:
            if field.name in RESERVED:
                raise BadRequest("inputs", f"{field.name!r} is a name that every dataset has")

    @property
    def signature(self) -> Signature:
        """The question that the model will answer.

        Raises:
            BadRequest: A name occurs twice, or an input has the role `output`.
        """
        output = Field(self.output.name, "float32", "output", "probability of the label")
        try:
            return Signature(self.inputs, (output,))
        except ValueError as cause:
            raise BadRequest("inputs", str(cause)) from cause


@dataclass(frozen=True, slots=True)
class Result:
    """What a run that succeeded made.

    Attributes:
        bundle: Folder of the bundle.
        bundle_digest: Digest of its manifest.
        signature_digest: Digest of what it takes and gives.
        weights_digest: Digest of weights.safetensors: the same request gives the same.
        rows: Rows that the weights were trained on.
        metrics: What evidence/metrics.json has.
        seconds: Wall time of each step.
    """

    bundle: Path
    bundle_digest: str
    signature_digest: str
    weights_digest: str
    rows: int
    metrics: dict[str, object]
    seconds: dict[str, float]


def read_request(path: Path) -> Request:
    """Read request.json.

    Raises:
        BadRequest: It cannot be read, has an unknown field, lacks one, or a value is out of range.
    """
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except OSError as cause:
        raise BadRequest(str(path), f"cannot be read: {cause.strerror}") from cause
    except ValidationError as cause:
        first = cause.errors(include_url=False, include_context=False)[0]
        raise BadRequest(".".join(map(str, first["loc"])) or str(path), first["msg"]) from cause


def encode_request(request: Request) -> bytes:
    """Return the bytes of request.json."""
    return _ADAPTER.dump_json(request, indent=1)


def encode_success(result: Result) -> bytes:
    """Return the bytes of result.json of a run that succeeded."""
    document = {**asdict(result), "bundle": str(result.bundle), "status": "succeeded"}
    return canonical_json(document)


def encode_failure(error: CicloError) -> bytes:
    """Return the bytes of result.json of a run that failed."""
    return canonical_json(
        {
            "status": "failed",
            "reason": error.reason,
            "message": error.message,
            "fields": {**error.metadata, **({"field": error.field} if error.field else {})},
        }
    )


_ADAPTER: Final = TypeAdapter(Request)
