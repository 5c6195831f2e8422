"""Every event as a Kafka record: golden vectors, round trips, and what the table promises."""

import json
from pathlib import Path

import pytest
from tests.contract.samples import ENVELOPE, sample, vector

from ciclo.cloudevents import decode
from ciclo.topics import EVENTS, TOPICS

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_has_the_bytes_that_it_always_had(name):
    assert vector(name) == VECTORS[name]


@pytest.mark.parametrize("name", VECTORS)
def test_a_recorded_event_can_still_be_read(name):
    found = VECTORS[name]
    headers = [(header, value.encode()) for header, value in found["headers"].items()]
    assert decode(bytes.fromhex(found["value"]), headers) == (ENVELOPE, sample(name))


def test_topics_are_named_apart_and_state_is_compacted():
    assert len({topic.name("x") for topic in TOPICS}) == len(TOPICS)
    assert {t.domain for t in TOPICS if t.compacted} == {"registry.state", "monitoring.state"}
