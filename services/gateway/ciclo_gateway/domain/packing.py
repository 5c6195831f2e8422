"""Packs captured calls as columns: batches of one version, one variant and one kind of tensors.

The shipper makes the same batches of the same calls every time: a retry sends the same bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ciclo_gateway.domain.tensors import Tensor, TensorType

MAX_BATCH_BYTES: Final = 600_000
"""Contents and texts of a batch; with what protobuf adds, well under Kafka's 1 MB a record."""

MAX_ANSWER_BYTES: Final = 400_000
"""Contents of one call. A larger one, which only typed contents can become, is recorded without."""

_BYTES_EACH: Final = 120
"""What a call needs beside its contents: ids, times, keys."""


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable version of a model.

    Attributes:
        model: Its name.
        number: From 1.
        bundle_digest: Names its bundle; empty where the gateway never loaded it.
        signature_digest: Names what it takes and gives; empty likewise.
    """

    model: str
    number: int
    bundle_digest: str = ""
    signature_digest: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One call, ready to be packed.

    Attributes:
        prediction_id: Minted by Envoy.
        client_id: The caller's own; empty for none.
        key: What the choice of the version stuck to; empty for the prediction id.
        event_time_us: Of the rows.
        receive_time_us: Wall time at which the gateway got the request.
        duration_us: To the end of the answer.
        status: gRPC status. 0: answered.
        inputs: In the order of the signature; none if `omission` says why.
        outputs: Likewise; none if the call failed.
        omission: Why there are no rows; empty where there are.
    """

    prediction_id: str
    client_id: str
    key: str
    event_time_us: int
    receive_time_us: int
    duration_us: int
    status: int
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    omission: str = ""

    @property
    def rows(self) -> int:
        """How many rows are recorded."""
        return self.inputs[0].rows if self.inputs else 0

    @property
    def size_bytes(self) -> int:
        """About what it adds to a batch."""
        tensors = sum(len(t.contents) for t in (*self.inputs, *self.outputs))
        return _BYTES_EACH + len(self.client_id) + len(self.key) + tensors


Kind = tuple[Version, str, tuple[TensorType, ...], tuple[TensorType, ...]]
"""What the calls of a batch share: version, variant, types of inputs, types of outputs."""


@dataclass(slots=True)
class Batch:
    """Calls of one kind, in the order of the spool.

    Attributes:
        kind: What they share.
        answers: At least one.
        size_bytes: About what the message will have.
    """

    kind: Kind
    answers: list[Answer] = field(default_factory=list)
    size_bytes: int = 0

    def columns(self, side: str) -> list[Tensor]:
        """Returns the rows of all calls, one tensor a name; `side` is `inputs` or `outputs`."""
        types = self.kind[2] if side == "inputs" else self.kind[3]
        each: Sequence[tuple[Tensor, ...]] = [
            getattr(a, side) for a in self.answers if getattr(a, side)
        ]
        return [
            Tensor(
                kind,
                sum(tensors[i].rows for tensors in each),
                b"".join(tensors[i].contents for tensors in each),
            )
            for i, kind in enumerate(types)
        ]


def kind_of(version: Version, variant: str, answer: Answer) -> Kind:
    """Returns with which other calls one can share a batch."""
    return (
        version,
        variant,
        tuple(tensor.type for tensor in answer.inputs),
        tuple(tensor.type for tensor in answer.outputs),
    )


def pack(
    answers: Iterable[tuple[Version, str, Answer]], limit_bytes: int = MAX_BATCH_BYTES
) -> list[Batch]:
    """Returns calls as batches, ordered by their first call; within a batch in the order given.

    A function of its arguments alone. No batch exceeds `limit_bytes` unless it holds one call.

    Args:
        answers: Version, variant and call.
        limit_bytes: Of a batch.
    """
    batches: list[Batch] = []
    is_open: dict[Kind, Batch] = {}
    for version, variant, answer in answers:
        kind = kind_of(version, variant, answer)
        batch = is_open.get(kind)
        size = answer.size_bytes
        if batch is None or batch.size_bytes + size > limit_bytes:
            batch = is_open[kind] = Batch(kind)
            batches.append(batch)
        batch.answers.append(answer)
        batch.size_bytes += size
    return batches
