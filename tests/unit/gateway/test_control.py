"""What is wanted becomes loaded and routed; what answers wrongly never is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.gateway.plane import ALONE, CANARY, ONE, START, Plane

from ciclo.errors import Retry
from ciclo.events.v1.lease_expired_pb2 import LeaseExpired
from ciclo.events.v1.routes_applied_pb2 import RoutesApplied
from ciclo.events.v1.routes_refused_pb2 import RoutesRefused
from ciclo.events.v1.version_loaded_pb2 import VersionLoaded
from ciclo_gateway.domain.desired import Cause, Desired
from ciclo_gateway.routes import REFUSED_AGAIN


async def test_a_champion_is_loaded_settled_and_routed_once(plane: Plane) -> None:
    await plane.want(ALONE)
    assert plane.server.holds == plane.server.settled == {"m": {1}}
    assert plane.weights() == {1: 1.0}
    assert len(await plane.said(VersionLoaded)) == 1
    (applied,) = await plane.said(RoutesApplied)
    assert (applied.generation, applied.weights[0].version) == (1, 1)
    await plane.restart()
    await plane.want(ALONE)
    assert plane.envoy.published == 1
    assert len(await plane.said(VersionLoaded)) == 1


async def test_a_challenger_comes_beside_and_goes_after_its_routes(plane: Plane) -> None:
    await plane.want(ALONE)
    await plane.want(CANARY)
    assert plane.server.holds == {"m": {1, 2}}
    assert plane.weights() == {1: 0.9, 2: 0.1}
    plane.catalog.desired["m"] = Desired("m", 3, champion=ONE, shares=ALONE.shares, salt="s")
    await plane.loader.step()
    assert plane.server.holds == {"m": {1, 2}}, "it is routed to until Envoy knows better"
    await plane.router.step()
    await plane.loader.step()
    assert plane.server.holds == plane.server.settled == {"m": {1}}


async def test_what_follows_names_the_cause_and_the_cycle_of_what_is_wanted(plane: Plane) -> None:
    await plane.want(replace(CANARY, cause=Cause("event-7", "cycle-3")))
    plane.clock.advance(timedelta(minutes=1))
    await plane.router.step()
    said = await plane.database.outbox()
    assert {type(message) for _, message in said} == {VersionLoaded, RoutesApplied, LeaseExpired}
    assert {(e.causation_id, e.correlation_id) for e, _ in said} == {("event-7", "cycle-3")}


async def test_a_renewed_lease_is_nothing_to_tell_envoy(plane: Plane) -> None:
    await plane.want(CANARY)
    told = plane.envoy.published
    later = START + timedelta(minutes=2)
    await plane.want(
        Desired(
            "m", 3, champion=ONE, rollout=CANARY.rollout, shares=CANARY.shares, salt="s",
            lease_expires=later,
        )
    )  # fmt: skip
    assert plane.envoy.published == told
    plane.clock.advance(timedelta(seconds=90))
    await plane.router.step()
    assert plane.weights() == {1: 0.9, 2: 0.1}
    assert await plane.said(LeaseExpired) == []


async def test_a_lost_lease_is_announced_once_and_the_champion_has_all(plane: Plane) -> None:
    await plane.want(CANARY)
    plane.clock.advance(timedelta(minutes=1))
    await plane.router.step()
    await plane.restart()
    await plane.want(CANARY)
    assert plane.weights() == {1: 1.0, 2: 0.0}
    (expired,) = await plane.said(LeaseExpired)
    assert (expired.rollout_id, expired.generation) == ("r", 2)


@pytest.mark.parametrize("cannot", ["write", "say"])
async def test_a_lost_lease_gives_the_champion_all_even_if_nothing_can_be_written_down(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, cannot: str
) -> None:
    await plane.want(CANARY)
    plane.clock.advance(timedelta(minutes=1))

    async def full(*_: object) -> None:
        raise Retry("the disk is full")

    with monkeypatch.context() as patched:
        if cannot == "write":
            patched.setattr(plane.database, "transaction", full)
        else:
            patched.setattr(plane.journal, "lease_expired", full)
        for _ in range(2):
            with pytest.raises(Retry):
                await plane.router.step()
        assert plane.weights() == {1: 1.0, 2: 0.0}
    told = plane.envoy.published
    await plane.router.step()
    assert plane.envoy.published == told, "it is in force already"
    assert len(await plane.said(LeaseExpired)) == 1
    assert [w.weight for w in (await plane.said(RoutesApplied))[-1].weights] == [1.0, 0.0]


async def test_a_lost_lease_is_announced_with_envoy_away(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.want(CANARY)
    plane.clock.advance(timedelta(minutes=1))

    async def away() -> str:
        raise Retry("Envoy is away")

    monkeypatch.setattr(plane.envoy, "in_force", away)
    with pytest.raises(Retry):
        await plane.router.step()
    assert len(await plane.said(LeaseExpired)) == 1


async def test_routes_stand_while_the_server_is_away(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.server.is_up = False
    await plane.want(ALONE)
    assert plane.weights() == {1: 1.0}


async def test_a_refused_table_is_reported_once_and_the_last_good_one_stays(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.envoy.is_refusing = True
    await plane.want(CANARY)
    (refused,) = await plane.said(RoutesRefused)
    assert (refused.model, refused.generation) == ("m", 2)
    assert plane.weights() == {1: 1.0}


async def test_a_refused_table_is_offered_again_after_a_while(plane: Plane) -> None:
    await plane.want(CANARY)
    plane.envoy.is_refusing = True
    plane.clock.advance(timedelta(minutes=1))
    await plane.router.step()
    plane.envoy.is_refusing = False  # it was another Envoy that refused, or none at all
    await plane.router.step()
    assert plane.weights() == {1: 0.9, 2: 0.1}
    plane.clock.advance(REFUSED_AGAIN.first)
    await plane.router.step()
    assert plane.weights() == {1: 1.0, 2: 0.0}


async def test_a_table_that_is_refused_again_is_not_reported_again(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.envoy.is_refusing = True
    for _ in range(5):
        await plane.want(CANARY)
        plane.clock.advance(timedelta(seconds=10))
    assert 2 <= plane.envoy.refused <= 5
    assert len(await plane.said(RoutesRefused)) == 1


async def test_an_envoy_that_forgot_its_table_gets_it_again(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.envoy.routes = {}
    await plane.router.step()
    assert plane.weights() == {1: 1.0}
