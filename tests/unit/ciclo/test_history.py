"""Cycles and causes, from events alone."""

from datetime import UTC, datetime, timedelta

from ciclo.cli.telling import told
from ciclo.cloudevents import Envelope
from ciclo.events.v1.performance_degraded_pb2 import PerformanceDegraded
from ciclo.events.v1.training_completed_pb2 import TrainingCompleted
from ciclo.events.v1.training_started_pb2 import TRIGGER_DEGRADED, TrainingStarted
from ciclo.history import RecordedEvent, causes, cycles
from ciclo.topics import CONTROL_TOPICS, EVENTS, PACKAGE, event_class

START = datetime(2026, 1, 1, tzinfo=UTC)


def recorded(number, message, cause="", cycle="c"):
    envelope = Envelope(
        f"e{number}", "/s", "churn", START + timedelta(seconds=number), cycle, cause
    )
    return RecordedEvent(envelope, message, "t", 0, number)


def test_events_stand_under_their_causes():
    degraded = PerformanceDegraded(episode_id="c")
    degraded.detect_time.FromJsonString("2013-06-19T00:00:00Z")
    events = [
        recorded(1, degraded),
        recorded(2, TrainingStarted(trigger=TRIGGER_DEGRADED), cause="e1"),
        recorded(3, TrainingCompleted(), cause="e2"),
        recorded(4, TrainingStarted(), cause="lost"),
    ]
    first, orphan = causes(events)
    assert first.event.name == "PerformanceDegraded"
    assert first.event.event_time == datetime(2013, 6, 19, tzinfo=UTC)
    assert first.effects[0].effects[0].event.envelope.id == "e3"
    assert orphan.event.envelope.id == "e4"


def test_an_event_that_names_itself_as_cause_is_a_root():
    assert len(causes([recorded(1, TrainingStarted(), cause="e1")])) == 1


def test_events_without_a_cycle_belong_to_none():
    found = cycles(
        [recorded(1, TrainingStarted(), cycle=""), recorded(2, TrainingStarted(), cycle="x")]
    )
    assert {name: len(events) for name, events in found.items()} == {"x": 1}


def test_every_control_event_tells_something():
    silent = [
        n
        for n, topic in EVENTS.items()
        if topic in CONTROL_TOPICS and not told(event_class(f"{PACKAGE}.{n}")())
    ]
    assert set(silent) <= {"EpisodeClosed", "RoutesApplied", "RoutesRefused"}, (
        "empty only where all fields are"
    )
