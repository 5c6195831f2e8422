"""What `ciclo init` writes closes its loop unchanged: degraded, retrained, judged, promoted."""

import re
from datetime import UTC, timedelta

from tests.e2e.conftest import System
from tests.e2e.story import CHANGE, MODEL, START, Told
from tests.support.captured import captured

from ciclo.events.v1.training_started_pb2 import TRIGGER_DEGRADED, TRIGGER_MANUAL
from ciclo.features.v1 import feature_service_pb2 as features
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.registry.v1 import registry_service_pb2 as registry

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


def test_no_request_failed(told: Told):
    ends = re.findall(r"(\d+) rows answered, (\d+) labels reported, (\d+) failed", told.player)
    rows, labels, failed = (sum(map(int, column)) for column in zip(*ends, strict=True))
    assert failed == 0
    assert rows == told.days * 24 * 20
    assert rows - 20 * 20 <= labels < rows, "only those of the last hours are not yet known"
    assert told.named("PredictionsServed"), "losses travel where these do"
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


async def test_all_that_was_told_of_is_at_rest_once(told: Told, system: System):
    found = await captured(system.connection, MODEL)
    assert found.kafka.total() >= told.days * 24
    assert set(found.kafka.values()) == {1}
    assert found.kafka.keys() == found.delta.keys()
    assert found.lost == 0


def test_nothing_was_parked_and_no_service_reports_an_error(told: Told, system: System):
    assert system.ciclo("dlq", "list") == "no dead letters\n"
    assert system.problems() == []
