"""The registry on a real Kafka and a real blob store: whole rollouts, repeats, deaths, leases."""

import asyncio
import signal
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.registry.conftest import World
from tests.integration.registry.process import NAME, day, judged
from tests.support.eventually import eventually
from tests.unit.registry.examples import FILES

from ciclo.errors import Conflict, NotFound
from ciclo.events.v1.lease_expired_pb2 import LeaseExpired
from ciclo.events.v1.monitoring_state_pb2 import MonitoringState
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.events.v1.training_completed_pb2 import TrainingCompleted
from ciclo.registry.v1 import registry_service_pb2 as pb
from ciclo.topics import DEAD_LETTERS, REGISTRY
from ciclo_registry.registration import RegistryCrash
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.crash import RuntimeCrash

FIRST = ["LoopApplied", "VersionRegistered", "GatesEvaluated", "ModelPromoted"]
SECOND = [*FIRST, "VersionRegistered", "GatesEvaluated", "RolloutStarted"]
WHOLE = [*SECOND, *3 * ["RolloutAdvanced"], "ModelPromoted", "RolloutCompleted"]


def completed(digest: str, run: str) -> TrainingCompleted:
    return TrainingCompleted(model=NAME, bundle_digest=digest, run_id=run, as_of_time=day(0))


async def test_a_second_version_becomes_champion_by_evidence_that_is_delivered_twice(
    world: World,
) -> None:
    first = world.put_bundle(1, compared=False)
    second = world.put_bundle(2, compared=True)
    running = world.start()
    async with world.api() as api:
        applied = await api.ApplyLoop(pb.ApplyLoopRequest(files=FILES, requested_by="ada"))
        await world.publish(completed(first, "run-1"), event_id="training-1", service="trainer")
        await world.until(FIRST)
        await world.publish(completed(second, "run-2"), event_id="training-2", service="trainer")
        await world.until(SECOND)
        state = (await api.GetModel(pb.GetModelRequest(model=NAME))).state
        assert state.loop_digest == applied.loop_digest
        assert state.rollout.challenger.bundle_digest == second
        rollout_id = state.rollout.rollout_id
        steps = [("SHADOW", 1), ("CANARY", 6), ("CANARY", 11), ("BAKING", 18)]
        for stage, at in steps:
            for _ in range(2):
                message = judged(rollout_id, stage, "BETTER", at)
                await world.publish(message, event_id=f"judged-{at}")
        await world.until(WHOLE)

        state = (await api.GetModel(pb.GetModelRequest(model=NAME))).state
        assert (state.champion.version, state.previous.version) == (2, 1)
        assert {w.version: w.weight for w in state.weights} == {2: 1.0, 1: 0.0}
        versions = (await api.ListVersions(pb.ListVersionsRequest(model=NAME))).versions
        assert [(v.version.version, v.status, list(v.aliases)) for v in versions] == [
            (2, "CHAMPION", ["champion"]),
            (1, "RETIRED", ["previous"]),
        ]
        assert versions[0].metrics["champion:log_loss"] == 0.41
        (record,) = (await api.ListRollouts(pb.ListRolloutsRequest(model=NAME))).rollouts
        assert (record.verdict, record.end_reason) == ("better", "")
        audit = await api.ListAudit(pb.ListAuditRequest())
        assert audit.intact
        assert [entry.action for entry in audit.entries].count("RolloutJudged") == len(steps)
        with pytest.raises(NotFound):
            await api.GetModel(pb.GetModelRequest(model="unknown"))
        with pytest.raises(Conflict) as caught:
            await api.StartRollout(
                pb.StartRolloutRequest(model=NAME, version=2, requested_by="ada")
            )
        assert caught.value.reason == "IS_CHAMPION"
    states = await world.states()
    assert [s.generation for s in states] == list(range(1, len(states) + 1))
    assert states[-1].weights == state.weights
    assert await world.events(DEAD_LETTERS) == []
    running.terminate()
    await asyncio.to_thread(running.join, 20)
    assert running.exitcode == 0


async def test_a_registry_that_is_killed_at_every_step_does_everything_once(world: World) -> None:
    starting = world.start()
    async with world.api() as api:
        await api.ApplyLoop(pb.ApplyLoopRequest(files=FILES, requested_by="ada"))
    await world.until(FIRST[:1])
    starting.kill()
    bundles = [world.put_bundle(1, compared=False), world.put_bundle(2, compared=True)]
    for number, digest in enumerate(bundles, start=1):
        await world.publish(
            completed(digest, f"run-{number}"), event_id=f"training-{number}", service="trainer"
        )
    point: RegistryCrash | RuntimeCrash
    for point in (RegistryCrash.EXAMINED, RegistryCrash.REGISTERED):
        await die(world, point)
    living = world.start()
    await world.until(SECOND)
    living.kill()
    living.join()
    rollout_id = (await world.states())[-1].rollout.rollout_id
    judgements = [
        ("SHADOW", "UNDECIDED", 1, 0),
        ("SHADOW", "BETTER", 2, 0),
        ("CANARY", "BETTER", 3, 10),
        ("CANARY", "BETTER", 7, 50),
        ("CANARY", "BETTER", 12, 90),
        ("BAKING", "NOT_WORSE", 13, 190),
        ("BAKING", "NOT_WORSE", 19, 290),
    ]
    for (stage, verdict, at, exposed), point in zip(judgements, RuntimeCrash, strict=True):
        await world.publish(
            judged(rollout_id, stage, verdict, at, exposed), event_id=f"judged-{at}"
        )
        await die(world, point)
    world.start()
    await world.until(WHOLE)

    bytes_by_id: dict[str, set[bytes]] = {}
    for envelope, message in await world.events(REGISTRY):
        bytes_by_id.setdefault(envelope.id, set()).add(message.SerializeToString())
    assert all(len(same) == 1 for same in bytes_by_id.values()), "a repeat has its bytes"

    async def is_told() -> None:
        states = await world.states()
        assert [s.generation for s in states] == list(range(1, len(states) + 1))
        assert (states[-1].champion.version, states[-1].HasField("rollout")) == (2, False)

    await eventually(is_told)
    async with world.api() as api:
        audit = await api.ListAudit(pb.ListAuditRequest())
    assert audit.intact
    noted = [entry.event_id for entry in audit.entries if entry.action == "RolloutJudged"]
    assert noted == [f"judged-{at}" for _, _, at, _ in judgements]


async def die(world: World, point: RuntimeCrash | RegistryCrash) -> None:
    """Lets a registry run until it is killed at a named moment."""
    dying = world.start(crash_at=point.value)
    await asyncio.to_thread(dying.join, 20)
    assert dying.exitcode == -signal.SIGKILL, f"{point} was not reached"


async def test_a_canary_holds_while_the_monitor_speaks_and_no_longer(world: World) -> None:
    lease = timedelta(seconds=2)
    world.start(CICLO_LEASE=f"PT{lease.seconds}S")
    async with world.api() as api:
        await api.ApplyLoop(pb.ApplyLoopRequest(files=FILES, requested_by="ada"))
        for seed in (1, 2):
            digest = world.put_bundle(seed, compared=seed > 1)
            await api.RegisterVersion(
                pb.RegisterVersionRequest(model=NAME, bundle_digest=digest, requested_by="ada")
            )
        forced = await api.ForceRollout(
            pb.ForceRolloutRequest(model=NAME, requested_by="ada", reason="to see the lease")
        )
    first = forced.state.lease_expire_time.ToDatetime()
    rollout_id = forced.state.rollout.rollout_id

    async def newest() -> RegistryState:
        return (await world.states())[-1]

    for generation in range(1, 100):
        await world.publish(heartbeat(generation), event_id=f"beat-{generation}")
        await asyncio.sleep(0.3)
        if (await newest()).lease_expire_time.ToDatetime() > first + lease:
            break
    held = await newest()
    assert held.lease_expire_time.ToDatetime() > first + lease, "renewed beyond the first lease"
    assert held.rollout.rollout_id == rollout_id

    async def is_running_out() -> None:
        left = (await newest()).lease_expire_time.ToDatetime() - now().ToDatetime()
        assert left < timedelta(0)

    await eventually(is_running_out, 3 * lease)
    await world.publish(
        LeaseExpired(model=NAME, rollout_id=rollout_id, generation=held.generation),
        event_id="expired",
        service="gateway",
    )

    async def is_taken_back() -> None:
        state = await newest()
        assert not state.HasField("rollout")
        assert [(w.version, w.weight) for w in state.weights] == [(1, 1.0)]

    await eventually(is_taken_back)
    assert (await world.facts())[-1] == "RolloutRolledBack"


def heartbeat(generation: int) -> MonitoringState:
    return MonitoringState(
        model=NAME, generation=generation, create_time=now(), watermark_time=day(generation / 1000)
    )


def now() -> Timestamp:
    written = Timestamp()
    written.FromDatetime(SystemClock().now())
    return written
