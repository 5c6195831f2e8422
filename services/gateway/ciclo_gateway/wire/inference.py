"""The Open Inference Protocol and captured frames of it, to and from tensors."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from ciclo.common.v1.tensor_pb2 import PackedTensor
from ciclo.tensors import FIXED, pack_elements, pack_tensor, split_tensor, unpack_tensor
from ciclo_bundle.signature import TRITON_DATATYPES
from ciclo_gateway.domain.packing import MAX_ANSWER_BYTES, Answer
from ciclo_gateway.domain.spool import Call, Oversize, Payload
from ciclo_gateway.domain.tensors import (
    Signature,
    Tensor,
    TensorType,
    Unfit,
    common_rows,
    in_order,
)

REQUEST_TOO_LARGE: Final = "REQUEST_TOO_LARGE"
RESPONSE_TOO_LARGE: Final = "RESPONSE_TOO_LARGE"
REQUEST_UNREADABLE: Final = "REQUEST_UNREADABLE"
RESPONSE_UNREADABLE: Final = "RESPONSE_UNREADABLE"
REQUEST_UNFIT: Final = "REQUEST_UNFIT"
PAYLOAD_MISSING: Final = "PAYLOAD_MISSING"
"""Why a call has no rows; see `PredictionsServed.omissions`."""

_FRAME = 5
_TYPED: Final = {"FP32": "fp32_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}


def to_answer(call: Call, signature: Signature | None) -> Answer:
    """Returns a captured call with its tensors, or with the reason why it has none. Never raises.

    Args:
        call: From the spool.
        signature: Of the version that answered; gives the tensors their order. None: by name.
    """
    client_id, omission = "", ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    try:
        client_id, inputs = _captured_request(call.request, signature)
        if call.status == 0:
            outputs = _captured_response(call.response, signature, inputs[0].rows)
        elif signature and not _fits(inputs, signature):
            # What the model refused is no row of its history; that it was asked is.
            raise _Omitted(REQUEST_UNFIT)
    except _Omitted as why:
        inputs, outputs, omission = (), (), why.omission
    return Answer(
        prediction_id=call.prediction_id,
        client_id=client_id,
        key=call.key,
        event_time_us=call.event_time_us,
        receive_time_us=call.start_us,
        duration_us=call.duration_us,
        status=call.status,
        inputs=inputs,
        outputs=outputs,
        omission=omission,
    )


def infer_request(
    model: str, version: int | None, tensors: Iterable[Tensor], client_id: str = ""
) -> ModelInferRequest:
    """Returns the question that `tensors` ask of a model; no version leaves the choice to Envoy."""
    request = ModelInferRequest(model_name=model, model_version=str(version or ""), id=client_id)
    for tensor in tensors:
        request.inputs.add(
            name=tensor.type.name,
            datatype=tensor.type.datatype,
            shape=(tensor.rows, *tensor.type.row_shape),
        )
        request.raw_input_contents.append(tensor.contents)
    return request


def read_response(response: ModelInferResponse, names: Iterable[str] = ()) -> tuple[Tensor, ...]:
    """Returns the tensors of an answer, those in `names` first and in that order.

    Raises:
        Unfit: A tensor's bytes are not what its type and shape say.
    """
    return in_order(_tensors(response.outputs, response.raw_output_contents), names)


def pack(name: str, values: NDArray[Any]) -> Tensor:
    """Returns values [rows] as a tensor [rows, 1]: float32, int64 or texts."""
    packed = pack_tensor(name, values)
    return Tensor(
        TensorType(name, packed.datatype, tuple(packed.row_shape)), len(values), packed.contents
    )


def unpack(tensor: Tensor) -> NDArray[Any]:
    """Returns the values of a tensor, [rows, …].

    Raises:
        Reject: Its bytes are not what it says.
    """
    return unpack_tensor(_wired(tensor), tensor.rows)


def select(
    tensors: Sequence[Tensor], row_counts: Sequence[int], chosen: Sequence[int]
) -> tuple[Tensor, ...]:
    """Returns the rows of some of the requests that tensors hold one after the other.

    Args:
        tensors: Rows of all requests.
        row_counts: Of all requests.
        chosen: Indices of those wanted.

    Raises:
        Reject: The bytes of a tensor are not what the counts say.
    """
    selected = []
    for tensor in tensors:
        parts = split_tensor(_wired(tensor), row_counts)
        contents = b"".join(parts[index].contents for index in chosen)
        rows = sum(row_counts[index] for index in chosen)
        selected.append(Tensor(tensor.type, rows, contents))
    return tuple(selected)


def split(tensors: Sequence[Tensor], row_counts: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Returns the tensors of each request. Raises as `select`."""
    each = [
        [
            Tensor(tensor.type, rows, part.contents)
            for part, rows in zip(split_tensor(_wired(tensor), row_counts), row_counts, strict=True)
        ]
        for tensor in tensors
    ]
    return list(zip(*each, strict=True))


def _wired(tensor: Tensor) -> PackedTensor:
    return PackedTensor(
        name=tensor.type.name,
        datatype=tensor.type.datatype,
        row_shape=tensor.type.row_shape,
        contents=tensor.contents,
    )


class _Omitted(Exception):
    def __init__(self, omission: str) -> None:
        super().__init__(omission)
        self.omission = omission


def _captured_request(
    payload: Payload, signature: Signature | None
) -> tuple[str, tuple[Tensor, ...]]:
    content = _unframed(payload, REQUEST_TOO_LARGE, REQUEST_UNREADABLE)
    try:
        request = ModelInferRequest.FromString(content)
        tensors = _tensors(request.inputs, request.raw_input_contents)
        if common_rows(tensors) == 0 or len({t.type.name for t in tensors}) < len(tensors):
            raise _Omitted(REQUEST_UNREADABLE)
    except (DecodeError, Unfit) as error:
        raise _Omitted(REQUEST_UNREADABLE) from error
    if sum(len(t.contents) for t in tensors) > MAX_ANSWER_BYTES:
        raise _Omitted(REQUEST_TOO_LARGE)
    names = [field.name for field in signature.inputs] if signature else []
    return request.id, in_order(tensors, names)


def _fits(tensors: Iterable[Tensor], signature: Signature) -> bool:
    declared = {TensorType(f.name, TRITON_DATATYPES[f.datatype]) for f in signature.inputs}
    return all(tensor.type in declared for tensor in tensors)


def _captured_response(
    payload: Payload, signature: Signature | None, rows: int
) -> tuple[Tensor, ...]:
    content = _unframed(payload, RESPONSE_TOO_LARGE, RESPONSE_UNREADABLE)
    try:
        response = ModelInferResponse.FromString(content)
        names = [field.name for field in signature.outputs] if signature else []
        tensors = read_response(response, names)
        if common_rows(tensors) != rows:
            raise _Omitted(RESPONSE_UNREADABLE)
    except (DecodeError, Unfit) as error:
        raise _Omitted(RESPONSE_UNREADABLE) from error
    if sum(len(t.contents) for t in tensors) > MAX_ANSWER_BYTES:
        raise _Omitted(RESPONSE_TOO_LARGE)
    return tensors


def _unframed(payload: Payload, too_large: str, unreadable: str) -> bytes:
    if isinstance(payload, Oversize):
        raise _Omitted(too_large)
    if payload is None:
        raise _Omitted(PAYLOAD_MISSING)
    # One uncompressed gRPC message: a flag, its length in four bytes, itself.
    if payload[:1] != b"\0" or int.from_bytes(payload[1:_FRAME], "big") != len(payload) - _FRAME:
        raise _Omitted(unreadable)
    return payload[_FRAME:]


def _tensors(described: Sequence[Any], raw: Sequence[bytes]) -> list[Tensor]:
    if raw and len(raw) != len(described):
        raise Unfit(f"{len(described)} tensors have {len(raw)} raw contents")
    return [_tensor(tensor, raw[index] if raw else None) for index, tensor in enumerate(described)]


def _tensor(described: Any, raw: bytes | None) -> Tensor:
    shape = tuple(described.shape)
    kind = _type(described.name, described.datatype, shape[1:])
    if not shape or min(shape) < 0 or kind.datatype not in _TYPED:
        raise Unfit(f"{kind.name!r} is {kind.datatype} {shape}", field=kind.name)
    elements = 1
    for size in shape:
        elements *= size
    contents = raw if raw is not None else _packed(kind, described.contents)
    if not _is_whole(kind.datatype, contents, elements):
        raise Unfit(f"{kind.name!r} has not the {elements} elements it says", field=kind.name)
    return Tensor(kind, shape[0], contents)


@lru_cache(maxsize=4096)
def _type(name: str, datatype: str, row_shape: tuple[int, ...]) -> TensorType:
    return TensorType(name, datatype, row_shape)


def _packed(kind: TensorType, contents: Any) -> bytes:
    values = getattr(contents, _TYPED[kind.datatype])
    if kind.datatype == "BYTES":
        return pack_elements(values, kind.name)
    return np.array(values, dtype=FIXED[kind.datatype]).tobytes()


def _is_whole(datatype: str, contents: bytes, elements: int) -> bool:
    if datatype != "BYTES":
        return len(contents) == elements * FIXED[datatype].itemsize
    # Plain Python: most calls have few rows, for which NumPy would be slower.
    end, size = 0, len(contents)
    for _ in range(elements):
        if end + 4 > size:
            return False
        end += 4 + int.from_bytes(contents[end : end + 4], "little")
    return end == size
