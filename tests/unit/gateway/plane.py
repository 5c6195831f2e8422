"""A control plane over fakes: what the registry wants, a Triton, Envoy and the journal."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.gateway.fakes import FakeBundles, FakeEnvoy, FakeServer

from ciclo.errors import CicloError
from ciclo_gateway.adapters.journal import SqliteJournal
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired, Placement, Rollout, Share, Stage
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.loading import Loader
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
BAKING = Desired(
    "m",
    3,
    champion=TWO,
    previous=ONE,
    rollout=Rollout("r", "c", TWO, Stage.BAKING, 0),
    shares=(Share(2, "champion", 1.0), Share(1, "champion", 0.0)),
    salt="s",
)
"""What is wanted of a model: its champion alone; a canary; the challenger as champion."""


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
