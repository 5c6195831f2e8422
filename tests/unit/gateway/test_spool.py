"""A line of the spool is read for what it says, or refused for what it lacks."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciclo_gateway.domain.spool import (
    Call,
    Oversize,
    Payload,
    TornLine,
    UnreadableLine,
    model_of,
    parse_line,
)

PLAIN = "._:/@-"
names = st.text(min_size=1, max_size=20).filter(lambda s: s != "-")
payloads = st.one_of(
    st.none(), st.binary(min_size=1, max_size=60), st.integers(0, 10**9).map(Oversize)
)
microseconds = st.integers(-(2**63), 2**63 - 1)
calls = st.builds(
    Call,
    prediction_id=st.uuids().map(str),
    model=names,
    version=st.integers(1, 2**32 - 1),
    variant=st.sampled_from(["champion", "challenger", "pinned"]),
    key=st.one_of(st.just(""), names),
    start_us=microseconds,
    event_time_us=microseconds,
    duration_us=st.integers(0, 2**63 - 1),
    status=st.integers(0, 16),
    request=payloads,
    response=payloads,
)


def payload_text(payload: Payload) -> str:
    if isinstance(payload, Oversize):
        return f"size:{payload.size_bytes}"
    return "-" if payload is None else base64.b64encode(payload).decode()


def line_of(call: Call) -> bytes:
    columns = [
        "1",
        call.prediction_id,
        call.start_us,
        call.duration_us,
        200,
        call.status,
        "-",
        1,
        quote(call.model, safe=PLAIN),
        call.version,
        call.variant,
        quote(call.key, safe=PLAIN) or "-",
        call.event_time_us,
        10,
        20,
        payload_text(call.request),
        payload_text(call.response),
        ".",
    ]
    return " ".join(map(str, columns)).encode()


LINE = line_of(
    Call("id-1", "flights", 3, "champion", "", 1_000, 5, 7, 0, b"question", b"answer")
).decode()


@given(calls)
def test_every_call_is_read_as_it_was_written(call: Call) -> None:
    assert parse_line(line_of(call)) == call


@given(calls, st.data())
def test_no_part_of_a_line_is_taken_for_a_whole_one(call: Call, data: st.DataObject) -> None:
    line = line_of(call)
    with pytest.raises(TornLine):
        parse_line(line[: data.draw(st.integers(0, len(line) - 1))])


@given(st.binary(max_size=300))
def test_nonsense_is_unreadable_and_nothing_else(line: bytes) -> None:
    with pytest.raises(UnreadableLine):
        parse_line(line.replace(b"1 ", b"0 "))
    assert model_of(line.split(b" "))


def test_a_refused_call_is_no_answer_of_any_model() -> None:
    assert parse_line(LINE.replace("flights 3 champion", "- - -").encode()) is None


def test_without_an_event_time_the_start_counts() -> None:
    call = parse_line(LINE.replace(" - 5 10 ", " - - 10 ").encode())
    assert call is not None
    assert call.event_time_us == call.start_us == 1_000


@pytest.mark.parametrize(("flags", "status"), [("DC", 1), ("UF,DR", 1), ("UF", 2), ("-", 2)])
def test_a_call_without_a_status_was_given_up_or_is_unknown(flags: str, status: int) -> None:
    call = parse_line(LINE.replace(" 200 0 - ", f" 200 - {flags} ").encode())
    assert call is not None
    assert call.status == status


def test_two_lines_that_a_torn_one_joined_are_unreadable_and_still_name_their_model() -> None:
    with pytest.raises(UnreadableLine) as refused:
        parse_line(f"{LINE} {LINE}".encode())
    assert refused.value.model == "flights"


@pytest.mark.parametrize(
    ("column", "bad"),
    [(" 3 champion", " x champion"), (" 3 champion", " 0 champion"), ("id-1", "-"), ("1000", "a")],
)
def test_a_column_that_says_nonsense_is_named(column: str, bad: str) -> None:
    with pytest.raises(UnreadableLine, match=r"cannot be read"):
        parse_line(LINE.replace(column, bad, 1).encode())
