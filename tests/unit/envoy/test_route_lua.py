"""The routing script against protobuf and the documented hash."""

from random import Random
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.envoy.route_script import ROUTE, decide, frame, models, version
from tritonclient.grpc import service_pb2 as pb

INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED = 3, 5, 12

text = st.text(max_size=300)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    message = pb.ModelInferRequest(
        model_name=draw(text),
        model_version=draw(st.sampled_from(["", "1", "2", "77"])),
        id=draw(text),
    )
    message.raw_input_contents.extend(draw(st.lists(st.binary(max_size=400), max_size=4)))
    for name, value in draw(st.dictionaries(text, text, max_size=3)).items():
        message.parameters[name].string_param = value
    return message


def fields_of(message: bytes) -> list[bytes]:
    """The top-level fields of a serialised message, all length-delimited, one bytes each."""
    fields, i = [], 0
    while i < len(message):
        start = i
        _, i = read_varint(message, i)
        length, i = read_varint(message, i)
        i += length
        fields.append(message[start:i])
    return fields


def read_varint(message: bytes, i: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[i] & 127) << shift
        shift, i = shift + 7, i + 1
        if message[i - 1] < 128:
            return value, i


UNKNOWN_FIELDS = [  # every wire type, a group, and known fields with a wrong wire type
    b"\xf8\x07\x01",
    b"\xf9\x07" + b"x" * 8,
    b"\xfd\x07abcd",
    b"\xfa\x07\x03abc",
    b"\xfb\x07\x08\x01\xfc\x07",
    b"\x08\x05",
    b"\x0dabcd",
    b"\x11abcdefgh",
]


@settings(deadline=None)
@given(requests(), st.randoms(), st.lists(st.sampled_from(UNKNOWN_FIELDS), max_size=3))
def test_the_script_reads_what_protobuf_reads_in_any_order_of_fields(
    message: Any, random: Random, unknown: list[bytes]
) -> None:
    parts = fields_of(message.SerializeToString()) + unknown
    random.shuffle(parts)
    wire = b"".join(parts)

    read = ROUTE.parse(wire, 1, len(wire))

    expected = pb.ModelInferRequest.FromString(wire)
    assert read == (expected.model_name.encode(), expected.model_version.encode())


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_and_is_read_as_protobuf_reads_it(wire: bytes) -> None:
    read = ROUTE.parse(wire, 1, len(wire))

    try:
        expected = pb.ModelInferRequest.FromString(wire)
    except DecodeError:
        return
    assert read == (expected.model_name.encode(), expected.model_version.encode())


FRAGMENTS = [
    *(b"\xf8\x07", b"\xf9\x07", b"\xfa\x07", b"\xfb\x07", b"\xfc\x07", b"\xfd\x07", b"\xf4\x07"),
    *(b"\xf3\x07", b"\x08\x01", b"\x0a\x01m", b"\x01", b"\x80", b"\xff", b"abcd", b"\0"),
]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(b"".join))
def test_the_script_accepts_exactly_what_protobuf_accepts_on_the_wire(wire: bytes) -> None:
    try:
        Empty.FromString(wire)  # every field is unknown to it: only the format is judged
        is_valid = True
    except DecodeError:
        is_valid = False

    assert (ROUTE.parse(wire, 1, len(wire))[0] is not None) == is_valid


@settings(deadline=None)
@given(requests().filter(lambda message: message.ByteSize() > 0), st.data())
def test_a_truncated_frame_is_an_invalid_argument(message: Any, data: st.DataObject) -> None:
    whole = message.SerializeToString()
    cut = data.draw(st.integers(0, len(whole) - 1))

    assert decide(frame(whole)[: 5 + cut])["code"] == INVALID_ARGUMENT


@settings(deadline=None)
@given(requests(), st.text(min_size=1, max_size=20))
def test_a_rewritten_message_differs_in_its_version_alone(message: Any, key: str) -> None:
    message.model_name, message.model_version = "m", ""

    decision = decide(frame(message.SerializeToString()), key.encode())

    body = decision["body"]
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    rewritten = pb.ModelInferRequest.FromString(body[5:])
    assert rewritten.model_version == decision["version"]
    rewritten.model_version = ""
    assert rewritten == message
    assert decision["id"] == "minted-1"


def documented_hash(key: bytes) -> int:
    h = 2166136261
    for byte in key:
        h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor & 0xFFFFFFFF
    return h ^ h >> 16


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_the_hash_is_the_documented_one(key: bytes) -> None:
    assert ROUTE.hash(key) == documented_hash(key)


def shares(challenger: int, salt: str = "r") -> list[str]:
    """The version that each of 4,000 keys falls to."""
    routes = models(
        m={
            "salt": salt,
            "versions": [
                version("1", 100 - challenger, "champion"),
                version("2", challenger, "challenger"),
            ],
        }
    )
    body = frame(pb.ModelInferRequest(model_name="m").SerializeToString())
    return [decide(body, b"key-%d" % i, routes=routes)["version"] for i in range(4000)]


def test_a_version_gets_its_share_and_a_key_keeps_its_version() -> None:
    picks = shares(10)

    assert 0.08 < picks.count("2") / len(picks) < 0.12
    assert picks == shares(10)


def test_a_growing_weight_moves_keys_one_way_only() -> None:
    moved = set(zip(shares(10), shares(25), strict=True))

    assert ("2", "1") not in moved
    assert ("1", "2") in moved


def test_another_rollout_chooses_other_keys() -> None:
    first = {i for i, v in enumerate(shares(10, "r1")) if v == "2"}
    second = {i for i, v in enumerate(shares(10, "r2")) if v == "2"}

    assert 0.05 < len(first & second) / len(first) < 0.15


def test_without_a_key_the_minted_id_decides() -> None:
    body = frame(pb.ModelInferRequest(model_name="m").SerializeToString())

    variants = {decide(body, minted=b"id-%d" % i)["variant"] for i in range(200)}

    assert variants == {"champion", "challenger"}


@pytest.mark.parametrize("number", ["1", "2", "7"])
def test_a_caller_may_pin_any_version_of_the_table(number: str) -> None:
    message = pb.ModelInferRequest(model_name="m", model_version=number)

    decision = decide(frame(message.SerializeToString()), b"key")

    assert (decision["version"], decision["variant"]) == (number, "pinned")
    assert "body" not in decision


def test_a_version_without_weight_gets_no_traffic_of_its_own() -> None:
    body = frame(pb.ModelInferRequest(model_name="m").SerializeToString())

    assert {decide(body, b"%d" % i)["version"] for i in range(2000)} == {"1", "2"}


def test_a_version_outside_of_the_table_is_not_found() -> None:
    message = pb.ModelInferRequest(model_name="m", model_version="9")

    refused = decide(frame(message.SerializeToString()))

    assert refused == {"code": NOT_FOUND, "reason": "no route for version 9 of model m"}


@pytest.mark.parametrize("versions", [[], [version("1", 0, "champion")]])
def test_a_model_without_weights_has_no_version(versions: list[Any]) -> None:
    routes = models(m={"versions": versions})
    body = frame(pb.ModelInferRequest(model_name="m").SerializeToString())

    assert decide(body, routes=routes)["code"] == NOT_FOUND


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", INVALID_ARGUMENT),
        (b"\0\0\0", INVALID_ARGUMENT),
        (b"\0\0\0\0\0", INVALID_ARGUMENT),
        (frame(b"\x0a\x01m", flag=1), UNIMPLEMENTED),
        (frame(b"\x0a\x01m", flag=7), INVALID_ARGUMENT),
        (frame(b"\x0a\x01m") * 2, INVALID_ARGUMENT),
        (frame(b"\xff" * 20), INVALID_ARGUMENT),
        (frame(b"\x0a\x05m"), INVALID_ARGUMENT),
        (frame(b"\x0c"), INVALID_ARGUMENT),
        (frame(b"\x0b" * 200), INVALID_ARGUMENT),
        (frame(b"\x0a\x01q"), NOT_FOUND),
    ],
)
def test_a_bad_call_is_refused_with_its_status(body: bytes, code: int) -> None:
    assert decide(body)["code"] == code
