"""What the routing script reads from a caller's metadata: RFC 3339 times, keys."""

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.envoy.route_script import CANARY, NOW_US, ROUTE, decide, frame
from tritonclient.grpc import service_pb2 as pb

INVALID_ARGUMENT = 3
DAY_US = 86_400_000_000

BODY = frame(pb.ModelInferRequest(model_name="m").SerializeToString())


def test_a_key_of_more_than_256_bytes_is_refused() -> None:
    assert decide(BODY, b"k" * 256)["key"] == "k" * 256
    assert decide(BODY, b"k" * 257)["code"] == INVALID_ARGUMENT


@settings(deadline=None)
@given(st.binary(max_size=256))
def test_a_key_is_one_column_that_can_be_read_back(key: bytes) -> None:
    column = decide(BODY, key)["key"]

    assert column.isascii()
    assert not set(column) & set(' \n\r\t"')
    assert unquote_to_bytes("" if column == "-" else column) == key


LATE_US = 7_258_118_400_000_000  # 2200-01-01

times = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 -- hypothesis adds the zone
    datetime(2199, 12, 30),  # noqa: DTZ001
    timezones=st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)


def micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@settings(max_examples=500, deadline=None)
@given(times)
def test_an_event_time_may_be_rfc_3339_or_microseconds(time: datetime) -> None:
    expected = str(micros(time))

    assert ROUTE.event_time(time.isoformat().encode(), LATE_US).decode() == expected
    assert ROUTE.event_time(expected.encode(), LATE_US).decode() == expected


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        (b"2013-06-01T10:00:00Z", 1370080800000000),
        (b"2013-06-01t10:00:00.5z", 1370080800500000),
        (b"2013-06-01 10:00:00.1234567899+02:00", 1370073600123456),
        (b"2000-02-29T00:00:00Z", 951782400000000),
        (b"0", 0),
    ],
)
def test_an_event_time_is_read_to_the_microsecond(given_time: bytes, expected: int) -> None:
    assert int(ROUTE.event_time(given_time, NOW_US)) == expected


@pytest.mark.parametrize(
    "given_time",
    [
        *(b"", b"yesterday", b"-1", b"1.5", b"1e9", b"9" * 16, b"9" * 40),
        *(b"2013-06-01", b"2013-06-01T10:00:00", b"2013-13-01T10:00:00Z", b"2013-02-29T10:00:00Z"),
        *(b"2013-06-31T10:00:00Z", b"2013-06-00T10:00:00Z", b"2013-06-01T24:00:00Z"),
        *(b"2013-06-01T10:60:00Z", b"2013-06-01T10:00:60Z", b"2013-06-01T10:00:00+24:00"),
        *(b"2013-06-01T10:00:00+2", b"2013-06-01T10:00:00.Z", b"1900-02-29T10:00:00Z"),
        *(b"1969-12-31T23:59:59Z", b"2200-01-01T00:00:00Z", b"2013-06-01T10:00:00Z,1"),
    ],
)
def test_another_event_time_is_refused(given_time: bytes) -> None:
    assert decide(BODY, event_time=given_time)["code"] == INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("event_time_us", "days"),
    [
        (NOW_US + DAY_US + 1, 1),
        (NOW_US + 3 * DAY_US, 3),
        (NOW_US * 1_000, NOW_US * 999 // DAY_US),  # nanoseconds
    ],
)
def test_an_event_time_far_ahead_is_refused_and_told_how_far(event_time_us: int, days: int) -> None:
    refused = decide(BODY, event_time=str(event_time_us).encode())

    assert refused["code"] == INVALID_ARGUMENT
    assert refused["reason"] == (
        f"x-ciclo-event-time is {days} days ahead: expected microseconds since 1970, at most one "
        "day ahead of the clock"
    )


def test_an_event_time_a_day_ahead_is_taken() -> None:
    ahead = str(NOW_US + DAY_US)

    assert decide(BODY, event_time=ahead.encode())["event_time"] == ahead


def test_a_time_of_a_day_that_is_ahead_is_refused_as_its_microseconds_are() -> None:
    ahead = datetime.fromtimestamp(NOW_US / 1e6, UTC) + timedelta(days=2)

    assert "is 2 days ahead" in decide(BODY, event_time=ahead.isoformat().encode())["reason"]


def test_a_call_without_metadata_has_empty_columns() -> None:
    decision = decide(BODY, routes=CANARY)

    assert (decision["key"], decision["event_time"]) == ("-", "-")
