"""Load, prove, route: on real Triton and Envoy."""

import time
from collections import Counter
from datetime import timedelta

import grpc
import numpy as np
import pytest
from tests.integration.gateway import bundles
from tests.integration.gateway.world import (
    FIRST_BIAS,
    SOON,
    Caller,
    World,
    first_model,
    routed,
    rows,
)
from tests.support.eventually import eventually

from ciclo.events.v1.lease_expired_pb2 import LeaseExpired
from ciclo.events.v1.registry_state_pb2 import Rollout
from ciclo.events.v1.rollout_judged_pb2 import STAGE_CANARY
from ciclo.events.v1.version_loaded_pb2 import VersionLoaded
from ciclo.events.v1.version_quarantined_pb2 import VersionQuarantined
from ciclo_gateway.wire import inference


async def test_a_version_is_loaded_proven_and_routed(world: World, caller: Caller) -> None:
    version = await first_model(world)
    said, (late,) = await caller.ask("first", rows(4))
    np.testing.assert_allclose(
        inference.unpack(late).ravel(),
        bundles.expected(
            np.array([0.0, 10, 20, 30]),
            np.array([0.0, 1, 2, 3]),
            ["EWR", "JFK", "EWR", "JFK"],
            FIRST_BIAS,
        ),
        rtol=1e-6,
    )
    assert (said["x-ciclo-version"], said["x-ciclo-variant"]) == ("1", "champion")
    ((_, loaded),) = await world.heard(VersionLoaded, "first")
    assert loaded.placement == "SERVING"
    assert loaded.parity_error < 1e-5
    assert loaded.version == version


async def test_weights_are_respected_and_a_lost_lease_returns_them(
    world: World, caller: Caller
) -> None:
    one, two = world.bundle("split", 1, 0.0), world.bundle("split", 2, 1.0)
    rollout = Rollout(rollout_id="r", cycle_id="c", challenger=two, stage=STAGE_CANARY)
    generation = await world.want(
        "split", one, {1: 0.9, 2: 0.1}, rollout=rollout, lease=timedelta(seconds=30)
    )
    await routed(world, "split", generation)
    said = [(await caller.ask("split", rows(1), key=f"k{n}"))[0] for n in range(300)]
    counts = Counter(s["x-ciclo-version"] for s in said)
    assert 12 <= counts["2"] <= 52, counts  # 30 expected, deviation 5.2: four of them
    assert {s["x-ciclo-variant"] for s in said if s["x-ciclo-version"] == "2"} == {"challenger"}

    generation = await world.want(
        "split", one, {1: 0.9, 2: 0.1}, rollout=rollout, lease=timedelta(seconds=1)
    )

    async def expired() -> None:
        found = await world.heard(LeaseExpired, "split")
        assert [(m.rollout_id, m.generation) for _, m in found] == [("r", generation)]
        assert found[0][0].correlation_id == "c"

    await eventually(expired, SOON)

    async def all_champion() -> None:
        said = [(await caller.ask("split", rows(1), key=f"k{n}"))[0] for n in range(60)]
        assert {s["x-ciclo-version"] for s in said} == {"1"}

    await eventually(all_champion, SOON)


@pytest.mark.parametrize("fault", ["CORRUPT_BUNDLE", "PARITY_FAILED"])
async def test_a_bad_version_is_quarantined_and_the_champion_goes_on(
    world: World, caller: Caller, fault: str
) -> None:
    model = fault.lower().replace("_", "-")
    one = world.bundle(model, 1, 0.0)
    await routed(world, model, await world.want(model, one, {1: 1.0}))
    if fault == "PARITY_FAILED":
        two = world.bundle(model, 2, 0.5, parity_shift=0.01)
    else:
        two = world.bundle(model, 2, 0.75)
        world.damage(model, 2, 0.75)
    rollout = Rollout(rollout_id=f"r-{model}", challenger=two, stage=STAGE_CANARY)
    await world.want(model, one, {1: 0.5, 2: 0.5}, rollout=rollout, lease=timedelta(seconds=60))

    async def quarantined() -> None:
        found = [m for _, m in await world.heard(VersionQuarantined, model)]
        assert {(m.placement, m.reason) for m in found} == {("SERVING", fault), ("SHADOW", fault)}
        assert {m.version.version for m in found} == {2}

    await eventually(quarantined, SOON)
    said = [(await caller.ask(model, rows(1), key=f"k{n}"))[0] for n in range(20)]
    assert {s["x-ciclo-version"] for s in said} == {"1"}


@pytest.mark.parametrize(
    ("tensors", "code", "about"),
    [
        ("unknown model", grpc.StatusCode.NOT_FOUND, "nobody"),
        ("wrong shape", grpc.StatusCode.INVALID_ARGUMENT, "distance"),
        ("wrong type", grpc.StatusCode.INVALID_ARGUMENT, "distance"),
        ("missing input", grpc.StatusCode.INVALID_ARGUMENT, "expected 4 inputs but got 3"),
        ("unknown version", grpc.StatusCode.NOT_FOUND, "9"),
    ],
)
async def test_a_bad_question_by_tensor_is_told_what_is_wrong(
    world: World, caller: Caller, tensors: str, code: grpc.StatusCode, about: str
) -> None:
    await first_model(world)
    flight, origin, distance, temp = rows(2)
    whole = inference.pack("distance", np.array([1, 2]))
    wide = inference.pack("distance", np.zeros((2, 3), np.float32))
    asked = {
        "wrong shape": [flight, origin, wide, temp],
        "wrong type": [flight, origin, whole, temp],
        "missing input": [flight, origin, temp],
    }.get(tensors, [flight, origin, distance, temp])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.ask(
            "nobody" if tensors == "unknown model" else "first",
            asked,
            version=9 if tensors == "unknown version" else None,
        )
    assert refused.value.code() is code, refused.value.details()
    assert about in (refused.value.details() or "")


async def test_an_event_time_far_ahead_of_envoys_clock_is_refused(
    world: World, caller: Caller
) -> None:
    await first_model(world)
    now_us = time.time_ns() // 1_000
    hour_us = 3_600_000_000
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.ask("first", rows(1), event_time_us=now_us + 49 * hour_us)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == (
        "x-ciclo-event-time is 2 days ahead: expected microseconds since 1970, at most one day "
        "ahead of the clock"
    )
    with pytest.raises(grpc.aio.AioRpcError, match="days ahead"):
        await caller.ask("first", rows(1), event_time_us=time.time_ns())
    said, _ = await caller.ask("first", rows(1), event_time_us=now_us + 23 * hour_us)
    assert said["x-ciclo-version"] == "1"


async def test_a_triton_that_was_killed_serves_again_with_the_gateway_dead(
    world: World, caller: Caller
) -> None:
    await first_model(world)
    world.gateway.kill()
    world.stack.kill("triton-serving")

    async def serves() -> None:
        try:
            said, _ = await caller.ask("first", rows(1))
        except grpc.aio.AioRpcError as error:
            raise AssertionError(error.details()) from error
        assert said["x-ciclo-version"] == "1"

    try:
        await eventually(serves, SOON)
    finally:
        await world.gateway.start()
