"""Loads that do not end well: whose fault it was, and who answers meanwhile."""

import pytest
from tests.unit.gateway.plane import ALONE, BAKING, CANARY, ONE, TWO, Plane

from ciclo.events.v1.version_quarantined_pb2 import VersionQuarantined
from ciclo_gateway.domain.desired import Placement
from ciclo_gateway.loading import MAX_ATTEMPTS, MAX_SLOW


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong", "PARITY_FAILED"),
        ("unloadable", "LOAD_FAILED"),
        ("deadly", "SERVER_DIED"),
        ("corrupt", "CORRUPT_BUNDLE"),
    ],
)
async def test_a_bad_challenger_is_quarantined_once_and_the_champion_has_its_share(
    plane: Plane, fault: str, reason: str
) -> None:
    await plane.want(ALONE)
    if fault == "corrupt":
        plane.bundles.corrupt.add(TWO.bundle_digest)
    else:
        getattr(plane.server, fault).add(2)
    await plane.want(CANARY)
    await plane.restart()
    await plane.want(CANARY)
    (quarantined,) = await plane.said(VersionQuarantined)
    assert (quarantined.reason, quarantined.version.version) == (reason, 2)
    assert plane.server.holds == plane.server.settled == {"m": {1}}
    assert plane.weights() == {1: 1.0}


async def test_a_proven_version_is_not_blamed_for_a_server_that_died(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.server.holds.clear()
    plane.server.settled.clear()
    plane.server.deadly.add(1)
    await plane.want(ALONE)
    assert await plane.said(VersionQuarantined) == []
    plane.server.deadly.clear()
    await plane.want(ALONE)
    assert plane.server.holds == {"m": {1}}


async def test_loads_that_never_end_are_given_up(plane: Plane) -> None:
    for _ in range(MAX_ATTEMPTS):
        await plane.journal.begin_load(Placement.SERVING, ONE)
    await plane.want(ALONE)
    (quarantined,) = await plane.said(VersionQuarantined)
    assert quarantined.reason == "SERVER_DIED"
    assert plane.server.holds == {}


async def test_a_load_that_takes_too_long_is_tried_again(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.server.slow.add(2)
    await plane.want(CANARY, steps=MAX_ATTEMPTS + 1)
    assert await plane.said(VersionQuarantined) == []
    assert plane.weights() == {1: 1.0}
    plane.server.slow.clear()
    await plane.want(CANARY)
    assert plane.weights() == {1: 0.9, 2: 0.1}


async def test_loads_that_take_too_long_again_and_again_are_given_up(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.server.slow.add(2)
    await plane.want(CANARY, steps=MAX_SLOW + 2)
    (quarantined,) = await plane.said(VersionQuarantined)
    assert (quarantined.version.version, quarantined.reason) == (2, "LOAD_FAILED")
    assert plane.weights() == {1: 1.0}


@pytest.mark.parametrize("fault", ["slow", "deadly", "unloadable"])
async def test_a_proven_version_is_loaded_again_however_often_that_fails(
    plane: Plane, fault: str
) -> None:
    await plane.want(ALONE)
    plane.server.holds.clear()
    plane.server.settled.clear()
    faulty = getattr(plane.server, fault)
    faulty.add(1)
    await plane.want(ALONE, steps=2 * MAX_SLOW)
    assert await plane.said(VersionQuarantined) == []
    assert plane.weights() == {1: 1.0}, "nothing can stand in for it"
    faulty.clear()
    await plane.want(ALONE)
    assert plane.server.holds == {"m": {1}}


@pytest.mark.parametrize("fault", ["slow", "unloadable", "wrong"])
async def test_the_previous_champion_stands_in_for_one_that_the_server_lost(
    plane: Plane, fault: str
) -> None:
    await plane.want(BAKING)
    assert plane.weights() == {2: 1.0, 1: 0.0}
    plane.server.holds["m"] = {1}
    faulty = getattr(plane.server, fault)
    faulty.add(2)
    await plane.want(BAKING)
    assert plane.weights() == {1: 1.0}
    (share,) = plane.envoy.routes["m"].shares
    assert share.variant == "champion"
    if fault != "wrong":  # who answers wrongly is not asked again
        faulty.clear()
        await plane.want(BAKING)
        assert plane.weights() == {2: 1.0, 1: 0.0}


async def test_a_challenger_that_the_server_lost_gets_nothing(plane: Plane) -> None:
    await plane.want(CANARY)
    plane.server.holds["m"] = {1}
    plane.server.slow.add(2)
    await plane.want(CANARY)
    assert plane.weights() == {1: 1.0}


@pytest.mark.parametrize("fault", ["slow", "unloadable"])
async def test_a_champion_does_not_wait_for_the_previous_one(plane: Plane, fault: str) -> None:
    await plane.want(BAKING)
    plane.server.holds["m"] = set()
    getattr(plane.server, fault).add(1)
    await plane.want(BAKING, steps=1)
    assert plane.weights() == {2: 1.0}
    assert plane.server.holds == {"m": {2}}
