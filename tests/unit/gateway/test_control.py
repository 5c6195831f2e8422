"""What is wanted becomes loaded and routed; what answers wrongly never is."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from tests.unit.gateway.fakes import FakeBundles, FakeEnvoy, FakeServer, memory

from ciclo.errors import CicloError
from ciclo.events.v1.lease_expired_pb2 import LeaseExpired
from ciclo.events.v1.routes_applied_pb2 import RoutesApplied
from ciclo.events.v1.routes_refused_pb2 import RoutesRefused
from ciclo.events.v1.version_loaded_pb2 import VersionLoaded
from ciclo.events.v1.version_quarantined_pb2 import VersionQuarantined
from ciclo_gateway.adapters.journal import SqliteJournal
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Cause, Desired, Placement, Rollout, Share, Stage
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.loading import MAX_ATTEMPTS, Loader
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.routes import Router, wanted_versions
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database

ONE = Version("m", 1, "sha256:1", "sha256:s")
TWO = Version("m", 2, "sha256:2", "sha256:s")
START = datetime(2013, 1, 1, tzinfo=UTC)
ALONE = Desired("m", 1, champion=ONE, shares=(Share(1, "champion", 1.0),), salt="s")
CANARY = Desired(
    "m",
    2,
    champion=ONE,
    rollout=Rollout("r", "c", TWO, Stage.CANARY, 0),
    shares=(Share(1, "champion", 0.9), Share(2, "challenger", 0.1)),
    salt="s",
    lease_expires=START + timedelta(minutes=1),
)


class Plane:
    """A control plane over fakes; `restart` forgets what a process would."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(START)
        self.server, self.envoy, self.bundles = FakeServer(), FakeEnvoy(), FakeBundles()
        self.catalog = Catalog()
        self.build()

    def build(self) -> None:
        journal, metrics = SqliteJournal(self.database), GatewayMetrics()
        self.journal = journal
        self.loader = Loader(
            self.server,
            wanted_versions(self.catalog, Placement.SERVING),
            self.bundles,
            journal,
            self.catalog,
            tolerance=1e-4,
            on_change=lambda: None,
            metrics=metrics,
            clock=self.clock,
        )
        self.router = Router(self.catalog, self.envoy, journal, metrics=metrics, clock=self.clock)

    async def restart(self) -> None:
        desired = self.catalog.desired
        self.catalog = Catalog()
        await self.journal.fill(self.catalog)
        self.catalog.desired = desired
        self.build()

    async def want(self, desired: Desired, steps: int = 3) -> None:
        self.catalog.desired[desired.model] = desired
        for _ in range(steps):
            try:
                await self.loader.step()
            except CicloError:
                continue
            finally:
                await self.router.step()

    async def said(self, kind: type[Any]) -> list[Any]:
        return [m for _, m in await self.database.outbox() if isinstance(m, kind)]

    def weights(self) -> dict[int, float]:
        route = self.envoy.routes.get("m")
        return {s.version: s.weight for s in route.shares} if route else {}


@pytest_asyncio.fixture
async def plane() -> AsyncIterator[Plane]:
    database = memory()
    await database.start()
    yield Plane(database)
    await database.stop()


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


async def test_an_envoy_that_forgot_its_table_gets_it_again(plane: Plane) -> None:
    await plane.want(ALONE)
    plane.envoy.routes = {}
    await plane.router.step()
    assert plane.weights() == {1: 1.0}
