"""Captured frames become tensors in the signature's order, or a reason why not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from ciclo_gateway.domain.spool import Call, Oversize
from ciclo_gateway.domain.tensors import Field, Signature, Tensor
from ciclo_gateway.wire import inference

SIGNATURE = Signature(
    "sha256:s",
    (Field("origin", "string", "entity"), Field("x", "float32", "request")),
    (Field("late", "float32", "output"),),
)
ORIGIN = inference.pack("origin", np.array(["EWR", "Zürich"], dtype=object))
X = inference.pack("x", np.array([1.5, np.nan], np.float32))
LATE = inference.pack("late", np.array([0.25, 0.75], np.float32))


def framed(message: ModelInferRequest | ModelInferResponse) -> bytes:
    content: bytes = message.SerializeToString()
    return b"\0" + len(content).to_bytes(4, "big") + content


def response() -> ModelInferResponse:
    found = ModelInferResponse(model_name="m", raw_output_contents=[LATE.contents])
    found.outputs.add(name="late", datatype="FP32", shape=[2, 1])
    return found


CALL = Call(
    "id", "m", 1, "champion", "", 1, 2, 3, 0,
    framed(inference.infer_request("m", None, [X, ORIGIN], "mine")),
    framed(response()),
)  # fmt: skip


def test_tensors_come_in_the_order_of_the_signature() -> None:
    answer = inference.to_answer(CALL, SIGNATURE)
    assert answer.inputs == (ORIGIN, X)
    assert answer.outputs == (LATE,)
    assert (answer.rows, answer.client_id, answer.omission) == (2, "mine", "")


def test_typed_contents_become_the_same_tensors_as_raw_ones() -> None:
    request = ModelInferRequest(model_name="m", id="mine")
    origin = request.inputs.add(name="origin", datatype="BYTES", shape=[2, 1])
    origin.contents.bytes_contents.extend([b"EWR", "Zürich".encode()])
    x = request.inputs.add(name="x", datatype="FP32", shape=[2, 1])
    x.contents.fp32_contents.extend([1.5, float("nan")])
    answer = inference.to_answer(replace(CALL, request=framed(request)), SIGNATURE)
    assert answer.inputs == (ORIGIN, X)


def test_a_failed_call_keeps_its_question() -> None:
    answer = inference.to_answer(replace(CALL, status=3, response=None), SIGNATURE)
    assert (answer.rows, answer.outputs, answer.omission) == (2, (), "")


@pytest.mark.parametrize(
    "wrong",
    [
        inference.pack("x", np.array([1, 2])),
        inference.pack("y", np.array([1.5, 2.5], np.float32)),
        replace(X, type=replace(X.type, row_shape=(1, 1))),
    ],
)
def test_a_refused_call_that_does_not_fit_is_recorded_without_its_rows(wrong: Tensor) -> None:
    request = framed(inference.infer_request("m", None, [wrong, ORIGIN], "mine"))
    answer = inference.to_answer(replace(CALL, status=3, request=request, response=None), SIGNATURE)
    assert (answer.rows, answer.client_id, answer.omission) == (0, "mine", "REQUEST_UNFIT")


@pytest.mark.parametrize(
    ("changes", "omission"),
    [
        ({"request": Oversize(300_000)}, "REQUEST_TOO_LARGE"),
        ({"response": Oversize(300_000)}, "RESPONSE_TOO_LARGE"),
        ({"request": None}, "PAYLOAD_MISSING"),
        ({"request": CALL.request[:-1]}, "REQUEST_UNREADABLE"),  # type: ignore[index]
        ({"response": b"\1" + CALL.response[1:]}, "RESPONSE_UNREADABLE"),  # type: ignore[index]
        ({"response": framed(ModelInferResponse())}, "RESPONSE_UNREADABLE"),
        (
            {"request": framed(inference.infer_request("m", None, [X, X]))},
            "REQUEST_UNREADABLE",
        ),
        (
            {"request": framed(inference.infer_request("m", None, [replace(X, rows=3)]))},
            "REQUEST_UNREADABLE",
        ),
    ],
)
def test_what_cannot_be_recorded_says_why(changes: dict[str, object], omission: str) -> None:
    answer = inference.to_answer(replace(CALL, **changes), SIGNATURE)  # type: ignore[arg-type]
    assert answer.omission == omission
    assert (answer.rows, answer.outputs) == (0, ())


@given(st.binary(max_size=120), st.binary(max_size=60))
def test_garbage_never_stops_the_shipper(request: bytes, answer: bytes) -> None:
    found = inference.to_answer(replace(CALL, request=request, response=answer), SIGNATURE)
    assert found.omission


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_chosen_requests_are_cut_out_whole(counts: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True).map(sorted))
    names = [f"request {i}" for i, rows in enumerate(counts) for _ in range(rows)]
    tensor = inference.pack("name", np.array(names, dtype=object))
    (selected,) = inference.select([tensor], counts, chosen)
    parts = inference.split([selected], [counts[i] for i in chosen])
    assert [inference.unpack(part[0]).ravel().tolist() for part in parts] == [
        [f"request {i}"] * counts[i] for i in chosen
    ]
