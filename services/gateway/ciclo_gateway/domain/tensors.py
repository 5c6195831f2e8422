"""Tensors and signatures as the gateway handles them: names, types, shapes, bytes."""

from collections.abc import Iterable
from dataclasses import dataclass

from ciclo.errors import Reject

OUTPUT = "output"
"""Role of what a model gives; every other role is one of its inputs."""


class Unfit(Reject):
    """Tensors are not what they should be; `field` is the name of the first at fault."""

    reason = "UNFIT_TENSORS"


@dataclass(frozen=True, slots=True)
class TensorType:
    """What can be said of a tensor without looking at its values.

    Attributes:
        name: Of the tensor.
        datatype: FP32, INT64, BYTES, or whatever else a caller sent.
        row_shape: Dimensions without the leading one of rows.
    """

    name: str
    datatype: str
    row_shape: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class Tensor:
    """The values of a tensor for some rows.

    Attributes:
        type: Name, datatype, shape of a row.
        rows: Size of the leading dimension, >= 0.
        contents: Raw form: little endian, row-major, BYTES elements behind their lengths.
    """

    type: TensorType
    rows: int
    contents: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output of a model, as its signature says.

    Attributes:
        name: Of the tensor.
        datatype: What it means: string, float32, int64 or timestamp.
        role: id, entity, request, feature or output.
        view: Feature view that it comes from; empty for others.
    """

    name: str
    datatype: str
    role: str
    view: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """What every version of a rollout takes and gives.

    Attributes:
        digest: Equal digests: either version can be asked.
        inputs: In declared order.
        outputs: In declared order.
    """

    digest: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]


def in_order(tensors: Iterable[Tensor], names: Iterable[str]) -> tuple[Tensor, ...]:
    """Returns tensors in the order of `names`; those that are not named follow, by name."""
    place = {name: index for index, name in enumerate(names)}
    return tuple(sorted(tensors, key=lambda t: (place.get(t.type.name, len(place)), t.type.name)))


def common_rows(tensors: Iterable[Tensor]) -> int:
    """Returns how many rows tensors have.

    Raises:
        Unfit: There are none, or they differ.
    """
    rows: int | None = None
    for tensor in tensors:
        if rows is None:
            rows = tensor.rows
        if tensor.rows != rows:
            raise Unfit(
                f"tensor {tensor.type.name!r} has {tensor.rows} rows, others {rows}",
                field=tensor.type.name,
            )
    if rows is None:
        raise Unfit("there are no tensors, expected at least one")
    return rows
