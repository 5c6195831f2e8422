"""`ciclo cycles` and `ciclo why`: how cycles end, and models that do not exist."""

from datetime import UTC, datetime

import pytest

from ciclo.cli import why
from ciclo.cli.why import outcome
from ciclo.cloudevents import Envelope
from ciclo.errors import NotFound
from ciclo.events.v1.loop_applied_pb2 import LoopApplied
from ciclo.events.v1.loop_paused_pb2 import LoopPaused
from ciclo.events.v1.loop_resumed_pb2 import LoopResumed
from ciclo.events.v1.performance_degraded_pb2 import PerformanceDegraded
from ciclo.events.v1.rollout_completed_pb2 import RolloutCompleted
from ciclo.events.v1.routes_applied_pb2 import RoutesApplied
from ciclo.events.v1.training_failed_pb2 import TrainingFailed
from ciclo.history import RecordedEvent
from ciclo.registry.v1.registry_service_pb2 import GetModelResponse


def cycle(*messages):
    return [RecordedEvent(None, message, "topic", 0, n) for n, message in enumerate(messages)]


@pytest.mark.parametrize(
    ("messages", "word"),
    [
        ([LoopApplied()], "applied"),
        ([LoopApplied(), RoutesApplied()], "applied"),
        ([LoopPaused()], "paused"),
        ([LoopResumed()], "resumed"),
        ([PerformanceDegraded()], "under way"),
        ([PerformanceDegraded(), TrainingFailed(), LoopPaused()], "training failed"),
        ([PerformanceDegraded(), RolloutCompleted()], "completed"),
    ],
)
def test_a_cycle_ends_with_its_last_decisive_event_or_with_its_command(messages, word):
    assert outcome(cycle(*messages)) == word


@pytest.fixture
def recorded(monkeypatch):
    events = []

    async def read(bootstrap, env):
        return events

    monkeypatch.setattr(why, "read_events", read)
    return events


@pytest.mark.parametrize("command", ["why", "cycles"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_model_that_nobody_knows_is_an_error_in_the_registrys_words(
    system, recorded, command, form
):
    system.answers["GetModel"] = NotFound("registry: no model 'nope'")
    assert system.ciclo(command, "nope", *form).exception is system.answers["GetModel"]


@pytest.mark.parametrize("command", ["why", "cycles"])
def test_a_model_without_cycles_is_no_error(system, recorded, command):
    system.answers["GetModel"] = GetModelResponse()
    assert system.ciclo(command, "churn").exit_code == 0


@pytest.mark.parametrize("command", ["why", "cycles"])
def test_what_is_recorded_is_told_without_the_registry(system, recorded, command):
    envelope = Envelope(
        id="e",
        source="/registry",
        subject="churn",
        correlation_id="c",
        time=datetime(2024, 1, 1, tzinfo=UTC),
    )
    recorded.append(RecordedEvent(envelope, LoopApplied(model="churn"), "loops", 0, 0))
    said = system.ciclo(command, "churn")
    assert said.exit_code == 0, said.exception
    assert "applied" in said.output
