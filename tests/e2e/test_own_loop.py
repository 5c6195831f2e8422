"""What `ciclo init` writes closes its loop unchanged: degraded, retrained, judged, promoted."""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from tests.e2e.conftest import System
from typer.testing import CliRunner

from ciclo.cli import app
from ciclo.events.v1.rollout_judged_pb2 import STAGE_COMPLETED
from ciclo.events.v1.training_started_pb2 import TRIGGER_DEGRADED, TRIGGER_MANUAL
from ciclo.features.v1 import feature_service_pb2 as features
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.history import RecordedEvent, read_events
from ciclo.registry.v1 import registry_service_pb2 as registry
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

MODEL = "churn"
LEAST_DAYS, MORE_DAYS, MOST_DAYS = 45, 5, 70
"""On a busy machine training takes more event days: it is played on until the rollout is over."""

START = datetime(2024, 1, 1, tzinfo=UTC)
CHANGE = START + timedelta(days=20)

STORY = (
    "PerformanceDegraded",
    "TrainingStarted",
    "TrainingCompleted",
    "VersionRegistered",
    "GatesEvaluated",
    "RolloutStarted",
    "RolloutAdvanced",
    "ModelPromoted",
    "RolloutCompleted",
)
"""What the cycle consists of, in the order in which each of it happens first."""


@dataclass(frozen=True)
class Told:
    """What a player said, and what was recorded."""

    player: str
    days: int
    events: list[RecordedEvent]

    def named(self, name: str) -> list[RecordedEvent]:
        return [event for event in self.events if event.name == name]

    @property
    def cycle(self) -> list[RecordedEvent]:
        """The events of the cycle that degraded performance opened."""
        opened = self.named("PerformanceDegraded")[0].envelope.correlation_id
        return [event for event in self.events if event.envelope.correlation_id == opened]


@pytest.fixture(scope="module")
def stub(system: System):
    with system.channel("registry") as channel:
        yield RegistryServiceStub(channel)


@pytest.fixture(scope="module")
async def told(system: System, stub: RegistryServiceStub, tmp_path_factory) -> Told:
    """Does what the loop's README says, word by word."""
    folder = tmp_path_factory.mktemp("loops") / MODEL
    play = str(folder / "play.py")
    assert CliRunner().invoke(app, ["init", str(folder)]).exit_code == 0
    await asyncio.to_thread(system.ciclo, "apply", str(folder))
    await asyncio.to_thread(system.python, play, "history")
    await asyncio.to_thread(system.ciclo, "train", MODEL, "--as-of", "2024-01-01")
    said = await asyncio.to_thread(_play, system, play, 0, LEAST_DAYS)
    days = LEAST_DAYS
    while days < MOST_DAYS and _is_under_way(stub):
        said += await asyncio.to_thread(_play, system, play, days, MORE_DAYS)
        days += MORE_DAYS
    connection = system.connection
    events = await read_events(connection.addresses["kafka"], connection.env)
    return Told(said, days, [event for event in events if event.envelope.subject == MODEL])


def _play(system: System, play: str, first_day: int, days: int) -> str:
    return system.python(play, "play", "--first-day", str(first_day), "--days", str(days))


def _is_under_way(stub: RegistryServiceStub) -> bool:
    rollouts = stub.ListRollouts(registry.ListRolloutsRequest(model=MODEL)).rollouts
    return [r.rollout.stage for r in rollouts] != [STAGE_COMPLETED]


def test_no_request_failed(told: Told):
    ends = re.findall(r"(\d+) rows answered, (\d+) labels reported, (\d+) failed", told.player)
    rows, labels, failed = (sum(map(int, column)) for column in zip(*ends, strict=True))
    assert failed == 0
    assert rows == told.days * 24 * 20
    assert rows - 20 * 20 <= labels < rows, "only those of the last hours are not yet known"
    assert not told.named("PredictionsLost")


def test_the_change_is_noticed_after_it_happened_and_only_once(told: Told):
    (degraded,) = told.named("PerformanceDegraded")
    begun, noticed = (
        getattr(degraded.message, name).ToDatetime(UTC) for name in ("start_time", "detect_time")
    )
    assert abs(begun - CHANGE) <= timedelta(days=2)
    assert CHANGE < noticed <= CHANGE + timedelta(days=14)
    assert degraded.message.observed - degraded.message.reference > 0.05


def test_one_cycle_tells_the_whole_story_in_order(told: Told):
    first = {event.name: number for number, event in reversed(list(enumerate(told.cycle)))}
    assert sorted(set(STORY) & set(first), key=first.__getitem__) == list(STORY)


def test_every_stage_of_the_rollout_was_passed(told: Told):
    (rollout,) = told.named("RolloutStarted")
    steps = [
        {w.version: round(w.weight, 3) for w in event.message.weights if w.weight}
        for event in told.named("RolloutAdvanced")
    ]
    assert rollout.message.challenger.version == 2
    assert steps == [{1: 0.9, 2: 0.1}, {1: 0.5, 2: 0.5}, {2: 1.0}]
    assert not told.named("RolloutRolledBack")


def test_version_2_was_trained_by_the_loop_itself_and_is_champion(told: Told, stub):
    triggers = [event.message.trigger for event in told.named("TrainingStarted")]
    state = stub.GetModel(registry.GetModelRequest(model=MODEL)).state
    versions = stub.ListVersions(registry.ListVersionsRequest(model=MODEL)).versions
    assert triggers == [TRIGGER_MANUAL, TRIGGER_DEGRADED]
    assert len(versions) == 2
    assert (state.champion.version, state.previous.version) == (2, 1)
    assert not state.HasField("rollout")
    assert "version 2 answers as champion" in told.player


def test_callers_are_routed_as_the_registry_wants(told: Told):
    weights = told.named("RoutesApplied")[-1].message.weights
    assert {w.version: w.weight for w in weights if w.weight} == {2: 1.0}


def test_what_was_served_is_what_training_sees(told: Told, system: System):
    request = features.AuditSkewRequest(model=MODEL)
    request.start_time.FromDatetime(START)
    request.end_time.FromDatetime(START + timedelta(days=told.days))
    with system.channel("feature-store") as channel:
        audit = FeatureServiceStub(channel).AuditSkew(request, timeout=60)
    assert (audit.rows_audited, audit.rows_different) == (told.days * 24 * 20, 0)


def test_nothing_was_parked_and_no_service_reports_an_error(told: Told, system: System):
    assert system.ciclo("dlq", "list") == "no dead letters\n"
    assert system.problems() == []
