"""What events do to the registry: state, events out, audit; each once."""

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.registry.conftest import Registry, completed, judged
from tests.unit.registry.examples import (
    LEASE,
    NAME,
    STALL,
    WALL,
    day,
    examined,
)

from ciclo.common.v1.version_pb2 import VersionRef
from ciclo.errors import NotFound, Reject
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.lease_expired_pb2 import LeaseExpired
from ciclo.events.v1.rollout_judged_pb2 import RolloutJudged
from ciclo.events.v1.training_failed_pb2 import TrainingFailed
from ciclo.events.v1.version_quarantined_pb2 import VersionQuarantined
from ciclo_registry.domain.model import Heartbeat
from ciclo_registry.domain.policy import EndReason
from ciclo_registry.domain.versions import Status
from ciclo_registry.wire import timestamp


async def last_fact(registry: Registry) -> Any:
    return [m for _, m in await registry.said() if m.DESCRIPTOR.name != "RegistryState"][-1]


async def test_each_statement_names_the_event_by_which_it_came_about(rolling: Registry) -> None:
    await judged(rolling, "BETTER", at=10)
    said = await rolling.said()
    names = {envelope.id: message.DESCRIPTOR.name for envelope, message in said}
    states = [(e, m) for e, m in said if m.DESCRIPTOR.name == "RegistryState"]
    assert [names[m.cause_event_id] for _, m in states] == [
        "LoopApplied", "ModelPromoted", "RolloutStarted", "RolloutStarted", "RolloutAdvanced",
    ]  # fmt: skip
    assert all(e.correlation_id == m.cycle_id for e, m in states)
    assert {m.cycle_id for _, m in states[2:]} == {"cycle"}


async def test_the_first_bundle_is_registered_judged_and_serves_at_once(registry: Registry) -> None:
    registry.blobs.bundles["sha256:1"] = examined(compared=False)
    await registry.deliver(completed("sha256:1"), service="trainer")
    assert await registry.facts() == ["LoopApplied"]
    await registry.registration.step()
    assert await registry.facts() == [
        "LoopApplied",
        "VersionRegistered",
        "GatesEvaluated",
        "ModelPromoted",
    ]
    state = (await registry.states())[-1]
    assert state.champion.version == 1
    assert [(w.version, w.weight) for w in state.weights] == [(1, 1.0)]


async def test_what_a_training_brings_belongs_to_its_cycle_and_names_its_cause(
    registry: Registry,
) -> None:
    registry.blobs.bundles["sha256:1"] = examined(compared=False)
    await registry.deliver(completed("sha256:1"), event_id="training", service="trainer")
    await registry.registration.step()
    envelopes = [envelope for envelope, _ in (await registry.said())[2:]]
    assert {envelope.correlation_id for envelope in envelopes} == {"cycle"}
    assert {envelope.causation_id for envelope in envelopes} == {"training"}


async def test_a_second_bundle_begins_a_rollout_that_starts_with_its_datasets_cut(
    rolling: Registry,
) -> None:
    state = (await rolling.states())[-1]
    assert state.rollout.challenger.version == 2
    assert state.rollout.shadow_since_time == timestamp(day(1))
    assert state.salt == state.rollout.rollout_id
    started = next(e for e, m in await rolling.said() if m.DESCRIPTOR.name == "RolloutStarted")
    assert state.rollout.cause_event_id == started.id


async def test_judgements_lead_a_rollout_to_its_end(rolling: Registry) -> None:
    for verdict, at in [("BETTER", 1), ("BETTER", 6), ("BETTER", 11), ("NOT_WORSE", 18)]:
        await judged(rolling, verdict, at=at)
    assert (await rolling.facts())[-5:] == [
        "RolloutAdvanced",
        "RolloutAdvanced",
        "RolloutAdvanced",
        "ModelPromoted",
        "RolloutCompleted",
    ]
    versions = (await rolling.commands.versions(NAME))[1]
    assert [version.status for version in versions] == [Status.CHAMPION, Status.RETIRED]


async def test_an_event_that_is_delivered_twice_has_its_effect_once(rolling: Registry) -> None:
    await judged(rolling, "BETTER", at=1, event_id="twice")
    before = (await rolling.model(), len(await rolling.said()), await rolling.commands.audit(""))
    await judged(rolling, "BETTER", at=1, event_id="twice", stage="SHADOW")
    assert before == (
        await rolling.model(),
        len(await rolling.said()),
        await rolling.commands.audit(""),
    )


async def test_a_judgement_under_a_new_id_that_says_nothing_new_only_leaves_a_trace(
    rolling: Registry,
) -> None:
    await judged(rolling, "UNDECIDED", at=1)
    before = await rolling.model()
    await judged(rolling, "WORSE", at=1)
    await judged(rolling, "WORSE", at=9, rollout_id="another")
    await judged(rolling, "WORSE", at=9, stage="CANARY")
    assert await rolling.model() == before
    ignored = rolling.service_metrics.registry.get_sample_value(
        "ciclo_registry_judgements_ignored_total", {"model": NAME}
    )
    assert ignored == 3


async def test_a_judgement_without_a_watermark_is_rejected(rolling: Registry) -> None:
    with pytest.raises(Reject) as caught:
        await rolling.deliver(RolloutJudged(rollout_id="x"))
    assert caught.value.field == "watermark_time"


async def test_a_challenger_that_is_taken_back_is_never_offered_again(rolling: Registry) -> None:
    await judged(rolling, "WORSE", at=1)
    assert (await rolling.facts())[-1] == "RolloutRolledBack"
    await rolling.deliver(completed("sha256:2", run_id="run-2"), service="trainer")
    await rolling.registration.step()
    assert (await rolling.model()).rollout is None
    (newest, _) = (await rolling.commands.versions(NAME))[1]
    assert (newest.ref.number, newest.status) == (2, Status.ROLLED_BACK)


async def test_refused_gates_are_told_and_nothing_starts(registry: Registry) -> None:
    await registry.register("sha256:1", compared=False)
    await registry.register("sha256:2", high=0.5)
    assert (await registry.facts())[-1] == "GatesEvaluated"
    assert (await registry.model()).rollout is None
    assert (await registry.model()).failed_cycles == 1


async def test_a_bundle_that_is_broken_is_refused_once_and_fails_a_cycle(
    registry: Registry,
) -> None:
    registry.blobs.bundles["sha256:1"] = Reject("model.onnx: is missing", reason="BUNDLE_UNFIT")
    await registry.deliver(completed("sha256:1"), service="trainer")
    await registry.registration.step()
    await registry.registration.step()
    assert (await registry.model()).failed_cycles == 1
    entries, _ = await registry.commands.audit(NAME)
    assert [e.action for e in entries].count("BundleRefused") == 1


async def test_a_bundle_is_examined_once_whatever_comes_of_it(registry: Registry) -> None:
    registry.blobs.bundles["sha256:good"] = examined(compared=False)
    for digest in ("sha256:good", "sha256:missing"):
        await registry.deliver(completed(digest), service="trainer")
    for _ in range(2):
        await registry.registration.step()
    assert registry.blobs.examined == ["sha256:good", "sha256:missing"]


async def test_a_bundle_of_another_model_is_refused(registry: Registry) -> None:
    registry.blobs.bundles["sha256:1"] = examined(model="another")
    await registry.deliver(completed("sha256:1"), service="trainer")
    await registry.registration.step()
    assert (await registry.commands.versions(NAME))[1] == []


async def test_a_bundle_that_comes_while_the_loop_is_paused_starts_when_it_is_resumed(
    registry: Registry,
) -> None:
    await registry.register("sha256:1", compared=False)
    await registry.commands.pause_loop(NAME, by="ada", reason="holiday")
    await registry.register("sha256:2")
    assert (await registry.model()).rollout is None
    await registry.commands.resume_loop(NAME, by="ada", reason="back")
    assert (await registry.model()).rollout is not None


async def test_a_training_for_an_unknown_model_is_rejected(registry: Registry) -> None:
    with pytest.raises(NotFound):
        await registry.deliver(completed("sha256:1", model="unknown"), service="trainer")


async def test_three_failed_trainings_pause_the_loop(registry: Registry) -> None:
    for _ in range(3):
        await registry.deliver(TrainingFailed(model=NAME, reason="NOT_FINITE"), service="trainer")
    assert (await registry.states())[-1].paused
    paused = await last_fact(registry)
    assert (paused.DESCRIPTOR.name, paused.requested_by) == ("LoopPaused", "ciclo")


async def test_a_challenger_that_cannot_be_loaded_is_taken_back(rolling: Registry) -> None:
    message = VersionQuarantined(
        version=VersionRef(model=NAME, version=2), placement="SHADOW", reason="PARITY_FAILED"
    )
    await rolling.deliver(message, service="gateway")
    fact = await last_fact(rolling)
    assert fact.reason == EndReason.LOAD_FAILED.value
    assert (await rolling.commands.versions(NAME))[1][0].status is Status.QUARANTINED


async def test_a_lease_that_ran_out_takes_the_canary_back(rolling: Registry) -> None:
    await judged(rolling, "BETTER", at=1)
    rollout = (await rolling.model()).rollout
    assert rollout
    expired = LeaseExpired(model=NAME, rollout_id=rollout.rollout_id)
    await rolling.deliver(expired, service="gateway")
    assert (await rolling.model()).rollout is not None
    rolling.clock.advance(LEASE)
    await rolling.deliver(expired, service="gateway")
    assert (await rolling.model()).rollout is None


async def test_a_lease_is_renewed_by_publishing_anew(rolling: Registry) -> None:
    await judged(rolling, "BETTER", at=1)
    before = (await rolling.states())[-1]
    rolling.clock.advance(LEASE / 3)
    rolling.heartbeats[NAME] = Heartbeat(1, rolling.clock.now(), day(2))
    await rolling.vigil.step()
    after = (await rolling.states())[-1]
    assert after.generation == before.generation + 1
    assert after.lease_expire_time == timestamp(rolling.clock.now() + LEASE)
    await rolling.vigil.step()
    assert (await rolling.states())[-1] == after


async def test_a_rollout_on_which_nothing_moves_is_taken_back(rolling: Registry) -> None:
    rolling.clock.advance(STALL - timedelta(seconds=1))
    await rolling.vigil.step()
    assert (await rolling.model()).rollout is not None
    rolling.clock.advance(timedelta(seconds=1))
    await rolling.vigil.step()
    fact = await last_fact(rolling)
    assert fact.reason == EndReason.TIMEOUT.value


async def test_every_control_event_is_audited_and_the_chain_holds(rolling: Registry) -> None:
    await rolling.deliver(DriftDetected(episode_id="e-1"), event_id="drift")
    await judged(rolling, "WORSE", at=1, event_id="judged")
    entries, intact = await rolling.commands.audit(NAME)
    assert intact
    assert {("DriftDetected", "monitor", "drift"), ("RolloutJudged", "monitor", "judged")} <= {
        (entry.action, entry.actor, entry.event_id) for entry in entries
    }
    said = {envelope.id for envelope, m in await rolling.said() if "State" not in str(type(m))}
    assert said <= {entry.event_id for entry in entries}


async def test_generations_grow_by_one_with_each_statement(rolling: Registry) -> None:
    for verdict, at in [("UNDECIDED", 1), ("BETTER", 2), ("BETTER", 7), ("WORSE", 8)]:
        await judged(rolling, verdict, at=at, exposed=int(at))
    generations = [state.generation for state in await rolling.states()]
    assert generations == list(range(1, len(generations) + 1))
    assert (await rolling.states())[-1].create_time.ToDatetime(tzinfo=WALL.tzinfo) >= WALL
