"""Events as Kafka records and back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciclo.cloudevents import Envelope, MalformedEvent, decode, encode
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.labels_reported_pb2 import Label
from ciclo.topics import EVENTS, PACKAGE, TOPICS, event_class, topic_of

ENVELOPE = Envelope(
    id="e-1",
    source="/ciclo/test/monitor",
    subject="churn",
    time=datetime(2013, 6, 19, 4, 0, tzinfo=UTC),
    correlation_id="cycle-1",
    causation_id="e-0",
)

text = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30
)
visible = text.filter(lambda t: t.strip() == t)


@given(visible, visible, visible, st.datetimes(timezones=st.just(UTC)), visible)
def test_every_event_comes_back_as_it_was(id_, source, subject, time, episode):
    envelope = Envelope(id_, f"/{source}", subject, time, "cycle", "cause")
    record = encode(envelope, DriftDetected(episode_id=episode))
    assert record.key == subject.encode()
    assert decode(record.value, record.headers) == (envelope, DriftDetected(episode_id=episode))


def test_equal_events_have_equal_bytes():
    message = DriftDetected(episode_id="x", evidence=2.0)
    assert encode(ENVELOPE, message) == encode(
        ENVELOPE, DriftDetected.FromString(message.SerializeToString())
    )


@pytest.mark.parametrize(
    "missing", ["ce_id", "ce_type", "ce_source", "ce_specversion", "content-type", "ce_time"]
)
def test_a_record_without_a_required_header_is_malformed(missing):
    record = encode(ENVELOPE, DriftDetected())
    with pytest.raises(MalformedEvent):
        decode(record.value, [h for h in record.headers if h[0] != missing])


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_type", b"ciclo.events.v1.NothingOfTheKind"),
        ("ce_type", b"ciclo.events.v1.Label"),
        ("ce_type", b"os.path"),
        ("content-type", b"application/json"),
        ("ce_time", b"yesterday"),
        ("ce_id", b"\xff\xfe"),
    ],
)
def test_a_wrong_header_is_malformed(header, value):
    record = encode(ENVELOPE, DriftDetected())
    with pytest.raises(MalformedEvent) as caught:
        decode(record.value, [(n, value if n == header else v) for n, v in record.headers])
    assert caught.value.field


@given(st.binary(max_size=200), st.lists(st.tuples(text, st.binary(max_size=40)), max_size=12))
def test_whatever_arrives_is_an_event_or_malformed(value, headers):
    with pytest.raises(MalformedEvent):
        decode(value, headers)


def test_a_value_that_does_not_decode_is_malformed():
    record = encode(ENVELOPE, DriftDetected())
    with pytest.raises(MalformedEvent, match="the value is no"):
        decode(b"\xff\xff\xff", record.headers)


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_the_table_has_a_class_and_a_topic(name):
    found = event_class(f"{PACKAGE}.{name}")
    assert found.DESCRIPTOR.full_name == f"{PACKAGE}.{name}"
    assert topic_of(found()) in TOPICS


def test_a_part_of_an_event_is_no_event():
    with pytest.raises(KeyError):
        topic_of(Label())
