"""Every event as a Kafka record: golden vectors, round trips, and what the table promises."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from tests.contract.samples import ENVELOPE, read_vectors, sample, vector

from ciclo.cloudevents import decode
from ciclo.topics import EVENTS, PACKAGE, TOPICS, event_class

VECTORS = read_vectors()

RECORDED = [
    pytest.param(name, found, id=f"{name}-{number}")
    for name, vectors in VECTORS.items()
    for number, found in enumerate(vectors, 1)
]


@pytest.mark.parametrize(("name", "found"), RECORDED)
def test_a_recorded_event_says_what_it_always_said(name: str, found: dict[str, Any]) -> None:
    headers = [(header, value.encode()) for header, value in found["headers"].items()]
    said = ParseDict(found["message"], event_class(f"{PACKAGE}.{name}")())
    assert decode(bytes.fromhex(found["value"]), headers) == (ENVELOPE, said)


@pytest.mark.parametrize(("name", "found"), RECORDED)
def test_an_event_has_the_bytes_that_it_always_had(name: str, found: dict[str, Any]) -> None:
    said = ParseDict(found["message"], event_class(f"{PACKAGE}.{name}")())
    assert vector(said) == found


@pytest.mark.parametrize("name", EVENTS)
def test_some_vector_fills_every_field(name: str) -> None:
    assert vector(sample(name)) in VECTORS[name]


def test_topics_are_named_apart_and_state_is_compacted() -> None:
    assert len({topic.name("x") for topic in TOPICS}) == len(TOPICS)
    assert {t.domain for t in TOPICS if t.compacted} == {"registry.state", "monitoring.state"}
