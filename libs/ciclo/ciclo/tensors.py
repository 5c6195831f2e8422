"""Values of many rows between protobuf and NumPy: packed tensors in raw form, and columns.

The gateway packs what it captured, feature-store and monitor unpack it, the client asks by column.
The raw form is that of the Open Inference Protocol: little endian, row-major; a BYTES element is
its length (4 bytes, unsigned), then its bytes. https://github.com/kserve/open-inference-protocol
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from struct import Struct, pack
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ciclo.common.v1.tensor_pb2 import Column, PackedTensor
from ciclo.errors import Reject

Spans = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Where the elements of a BYTES tensor begin and end within its contents, each int64 [elements]."""

FIXED: Final[dict[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
"""Datatypes whose elements all have the same size."""

DATATYPES: Final = (*FIXED, "BYTES")
"""Every datatype of a packed tensor."""

_LENGTH = Struct("<I")
_MOST_DIMENSIONS = 32
"""NumPy's own limit is 64 from version 2 on and 32 before."""


class MalformedTensor(Reject):
    """The bytes of a tensor are not what its datatype and shape say; `field` is its name."""

    reason = "MALFORMED_TENSOR"


class MalformedColumn(Reject):
    """A column has no values, or values that it cannot hold; `field` is its name."""

    reason = "MALFORMED_COLUMN"


def pack_tensor(name: str, values: ArrayLike) -> PackedTensor:
    """Returns an array as a packed tensor.

    Args:
        name: Of the tensor.
        values: [rows, …]; [n] is taken as [n, 1]. Floats become FP32, integers and booleans INT64,
            texts and bytes BYTES (None as empty). Texts travel as UTF-8.

    Raises:
        MalformedTensor: Of another type, or without a dimension of rows.
    """
    array = np.asarray(values)
    if array.ndim == 0:
        raise _bad(name, "is one value, expected rows of values")
    array = array.reshape(-1, 1) if array.ndim == 1 else array
    if array.dtype.kind == "f":
        datatype, contents = "FP32", array.astype("<f4").tobytes()
    elif array.dtype.kind in "iub":
        datatype, contents = "INT64", array.astype("<i8").tobytes()
    elif array.dtype.kind in "OUS":
        datatype, contents = "BYTES", pack_elements(array.ravel().tolist(), name)
    else:
        raise _bad(name, f"is {array.dtype}, expected floats, integers, texts or bytes")
    return PackedTensor(name=name, datatype=datatype, row_shape=array.shape[1:], contents=contents)


def unpack_tensor(tensor: PackedTensor, rows: int | None = None) -> NDArray[Any]:
    """Returns the values of a packed tensor, [rows, *row_shape].

    FP32 gives float32 and INT64 int64, both read-only views of the contents; BYTES gives `str`
    objects, in which bytes that are not UTF-8 are replaced by U+FFFD, as the served graph does.

    Args:
        tensor: From anywhere; nothing about it is trusted.
        rows: How many it must have. None: as many as there are.

    Raises:
        MalformedTensor: Unknown datatype, impossible shape, contents torn or of another length.
    """
    width = row_width(tensor)
    if tensor.datatype == "BYTES":
        starts, ends = element_spans(tensor, None if rows is None else rows * width)
        flat = np.empty(len(starts), dtype=object)
        flat[:] = _texts(tensor.contents, starts.tolist(), ends.tolist())
    else:
        dtype = FIXED[tensor.datatype]
        if len(tensor.contents) % dtype.itemsize:
            raise _wrong_size(tensor, f"{len(tensor.contents)} bytes", rows)
        flat = np.frombuffer(tensor.contents, dtype)
    if len(flat) % width or rows not in (None, len(flat) // width):
        raise _wrong_size(tensor, f"{len(flat)} elements", rows)
    return flat.reshape(-1, *tensor.row_shape)


def row_width(tensor: PackedTensor) -> int:
    """Returns how many elements a row has, >= 1.

    Raises:
        MalformedTensor: Unknown datatype, or a dimension below 1.
    """
    if tensor.datatype not in DATATYPES:
        known = ", ".join(DATATYPES)
        raise _bad(tensor.name, f"has datatype {tensor.datatype!r}, expected one of {known}")
    if len(tensor.row_shape) >= _MOST_DIMENSIONS or any(size < 1 for size in tensor.row_shape):
        what = f"fewer than {_MOST_DIMENSIONS} dimensions of at least 1"
        raise _bad(tensor.name, f"has row shape {list(tensor.row_shape)}, expected {what}")
    return math.prod(tensor.row_shape)


def element_spans(tensor: PackedTensor, elements: int | None = None) -> Spans:
    """Returns where each element of a BYTES tensor lies: for those who want bytes, not texts.

    Cost: vectorised where all elements are equally long, else about 0.1 µs an element, because
    each length is known only where the one before it ends.

    Args:
        tensor: A BYTES tensor.
        elements: How many it must have. None: as many as there are.

    Raises:
        MalformedTensor: A length points past the end, or there are fewer or more elements.
    """
    none = np.empty(0, np.int64)
    spans = none, none
    if tensor.contents:
        spans = _equal_spans(tensor.contents) or _walk_spans(tensor)
    if elements is not None and len(spans[0]) != elements:
        raise _bad(tensor.name, f"has {len(spans[0])} elements, expected {elements}")
    return spans


def pack_elements(values: Iterable[str | bytes | None], name: str = "") -> bytes:
    """Returns the raw form of BYTES elements; None is empty.

    Raises:
        MalformedTensor: An element is neither text nor bytes; `name` is its tensor.
    """
    try:
        encoded = [
            value if isinstance(value, bytes) else ("" if value is None else value).encode()
            for value in values
        ]
    except (AttributeError, UnicodeEncodeError) as error:
        raise _bad(name, f"holds an element that is neither text nor bytes: {error}") from error
    lengths = pack(f"<{len(encoded)}I", *map(len, encoded))
    prefixes = (lengths[at : at + 4] for at in range(0, len(lengths), 4))
    return b"".join(chain.from_iterable(zip(prefixes, encoded, strict=True)))


def join_tensors(tensors: Sequence[PackedTensor]) -> PackedTensor:
    """Returns the rows of several tensors one after the other. Contents are not looked into.

    Raises:
        MalformedTensor: They differ in name, datatype or row shape.
        ValueError: There are none.
    """
    if not tensors:
        raise ValueError("expected at least one tensor")
    first = tensors[0]
    expected = (first.name, first.datatype, list(first.row_shape))
    for tensor in tensors[1:]:
        found = (tensor.name, tensor.datatype, list(tensor.row_shape))
        if found != expected:
            raise _bad(tensor.name, f"cannot follow another: {found}, expected {expected}")
    joined = PackedTensor(name=first.name, datatype=first.datatype, row_shape=first.row_shape)
    joined.contents = b"".join(tensor.contents for tensor in tensors)
    return joined


def split_tensor(tensor: PackedTensor, row_counts: Sequence[int]) -> list[PackedTensor]:
    """The inverse of `join_tensors`: one tensor for each count of rows.

    Raises:
        MalformedTensor: As `unpack_tensor`, with the sum of the counts as rows.
    """
    ends = np.cumsum([0, *row_counts]) * row_width(tensor)
    if tensor.datatype == "BYTES":
        borders = np.append(0, element_spans(tensor, int(ends[-1]))[1])
        cuts = borders[ends].tolist()
    else:
        unpack_tensor(tensor, int(sum(row_counts)))
        cuts = (ends * FIXED[tensor.datatype].itemsize).tolist()
    return [
        PackedTensor(
            name=tensor.name,
            datatype=tensor.datatype,
            row_shape=tensor.row_shape,
            contents=tensor.contents[start:end],
        )
        for start, end in pairwise(cuts)
    ]


def pack_column(name: str, values: ArrayLike) -> Column:
    """Returns an array [n] as a column: floats as doubles, integers as int64s, texts as strings.

    Raises:
        MalformedColumn: Of another type or shape, or an integer beyond 64 bits.
    """
    array = np.asarray(values)
    column = Column(name=name)
    if array.ndim != 1:
        raise MalformedColumn(f"column {name!r} has shape {array.shape}, expected [n]", field=name)
    try:
        if array.dtype.kind == "f":
            column.doubles.values.extend(array.tolist())
            column.doubles.SetInParent()
        elif array.dtype.kind in "iub":
            column.int64s.values.extend(array.astype(object).tolist())
            column.int64s.SetInParent()
        elif array.dtype.kind in "OU":
            column.strings.values.extend("" if v is None else v for v in array.tolist())
            column.strings.SetInParent()
        else:
            raise TypeError(f"is {array.dtype}")
    except (TypeError, ValueError) as error:
        raise MalformedColumn(
            f"column {name!r}: {error}; expected floats, 64-bit integers or texts", field=name
        ) from error
    return column


def unpack_column(column: Column) -> NDArray[Any]:
    """Returns the values of a column [n]: float64, int64, or `str` objects.

    Raises:
        MalformedColumn: No list of values is set.
    """
    match column.WhichOneof("values"):
        case "doubles":
            return np.array(column.doubles.values, dtype=np.float64)
        case "int64s":
            return np.array(column.int64s.values, dtype=np.int64)
        case "strings":
            return np.array(column.strings.values, dtype=object)
        case _:
            raise MalformedColumn(
                f"column {column.name!r} has no values, expected doubles, int64s or strings",
                field=column.name,
            )


def _equal_spans(contents: bytes) -> Spans | None:
    """Spans of elements that are all as long as the first, or None where they are not."""
    if len(contents) < _LENGTH.size:
        return None
    stride = _LENGTH.size + int(_LENGTH.unpack_from(contents)[0])
    if len(contents) % stride:
        return None
    prefixes = np.frombuffer(contents, np.uint8).reshape(-1, stride)[:, : _LENGTH.size]
    if (prefixes != prefixes[0]).any():
        return None
    ends = np.arange(1, len(prefixes) + 1, dtype=np.int64) * stride
    return ends - (stride - _LENGTH.size), ends


def _walk_spans(tensor: PackedTensor) -> Spans:
    contents, size, unpack_from = tensor.contents, len(tensor.contents), _LENGTH.unpack_from
    starts: list[int] = []
    ends: list[int] = []
    end = 0
    while end < size:
        start = end + 4
        if start > size:
            raise _bad(tensor.name, f"at byte {end}: {size - end} bytes are left, expected 4")
        end = start + unpack_from(contents, end)[0]
        if end > size:
            why = f"says {end - start} bytes, {size - start} are left"
            raise _bad(tensor.name, f"at byte {start}: {why}")
        starts.append(start)
        ends.append(end)
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _texts(contents: bytes, starts: list[int], ends: list[int]) -> list[str]:
    if contents.isascii():  # one decoding for all; lengths below 128 are ASCII, too
        whole = contents.decode("ascii")
        return [whole[start:end] for start, end in zip(starts, ends, strict=True)]
    return [
        contents[start:end].decode("utf-8", "replace")
        for start, end in zip(starts, ends, strict=True)
    ]


def _wrong_size(tensor: PackedTensor, found: str, rows: int | None) -> MalformedTensor:
    expected = "whole rows" if rows is None else f"{rows} rows"
    kind = f"{tensor.datatype}{list(tensor.row_shape)}"
    return _bad(tensor.name, f"has {found}, expected {expected} of {kind}")


def _bad(name: str, why: str) -> MalformedTensor:
    return MalformedTensor(f"tensor {name!r} {why}", field=name)
