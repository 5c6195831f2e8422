"""A registry in memory: the real use cases and tables, a clock that stands still, no Kafka."""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from tests.unit.registry.examples import FILES, LEASE, NAME, STALL, WALL, day, examined

from ciclo.cloudevents import Envelope
from ciclo.common.v1.version_pb2 import VersionRef
from ciclo.errors import NotFound, Reject
from ciclo.events.v1.rollout_judged_pb2 import RolloutJudged, Verdict
from ciclo.events.v1.rollout_judged_pb2 import Stage as StageOnWire
from ciclo.events.v1.training_completed_pb2 import TrainingCompleted
from ciclo_registry.acts import Setup
from ciclo_registry.adapters.books import SqlBooks
from ciclo_registry.adapters.tables import METADATA
from ciclo_registry.commands import Commands
from ciclo_registry.domain.model import Heartbeat, Model
from ciclo_registry.domain.policy import Stage
from ciclo_registry.domain.versions import Examined
from ciclo_registry.handlers import Handlers
from ciclo_registry.metrics import RegistryMetrics
from ciclo_registry.ports import Books
from ciclo_registry.registration import Registration
from ciclo_registry.vigil import Vigil
from ciclo_registry.wire import timestamp
from ciclo_runtime import ledger
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.handling import Route
from ciclo_runtime.metrics import ServiceMetrics

T = TypeVar("T")


@dataclass
class FakeBlobs:
    """A blob store that holds what a test says."""

    bundles: dict[str, Examined | Reject] = field(default_factory=dict)
    loops: list[str] = field(default_factory=list)
    examined: list[str] = field(default_factory=list)

    async def examine(self, bundle_digest: str) -> Examined:
        self.examined.append(bundle_digest)
        found = self.bundles.get(bundle_digest, NotFound("no blob"))
        if isinstance(found, Reject):
            raise found
        return found

    async def store_loop(self, files: Mapping[str, bytes]) -> str:
        digest = sha256(repr(sorted(files.items())).encode()).hexdigest()
        self.loops.append(digest)
        return digest


class Registry:
    """The registry as a test drives it."""

    def __init__(self) -> None:
        self.clock = ManualClock(WALL)
        self.blobs = FakeBlobs()
        self.heartbeats: dict[str, Heartbeat] = {}
        self.database = Database(None, METADATA, service="registry", env="test", clock=self.clock)
        numbers = itertools.count(1)
        self.service_metrics = ServiceMetrics("registry")
        self.setup = Setup(
            open_books=SqlBooks,
            metrics=RegistryMetrics(self.service_metrics),
            new_id=lambda: f"id-{next(numbers)}",
            stall=STALL,
            lease=LEASE,
        )
        self.commands = Commands(self.database, self.blobs, self.setup)
        self.registration = Registration(self.database, self.blobs, self.setup)
        self.vigil = Vigil(self.database, lambda: self.heartbeats, self.setup, since=WALL)
        self._routes = Handlers(self.setup, on_candidate=lambda: None).routes()
        self._events = itertools.count(1)

    async def deliver(
        self, message: Message, *, event_id: str = "", service: str = "monitor"
    ) -> None:
        """Hands an event over as the consumer does, inbox included."""
        envelope = Envelope(
            event_id or f"event-{next(self._events)}",
            f"/ciclo/test/{service}",
            NAME,
            self.clock.now(),
            correlation_id="cycle",
        )
        route = self._routes[type(message)]
        assert isinstance(route, Route)
        handle, decode = route.handle, route.decode

        def work(tx: Any) -> None:
            if ledger.remember(tx.connection, "registry", envelope.id, tx.now):
                handle(envelope, decode(message), tx)

        await self.database.transaction(work, cause=envelope)

    async def look(self, work: Callable[[Books], T]) -> T:
        return await self.database.read(lambda connection: work(SqlBooks(connection)))

    async def model(self) -> Model:
        return await self.commands.model(NAME)

    async def said(self) -> Sequence[tuple[Envelope, Message]]:
        """Every event that was emitted, oldest first."""
        return await self.database.outbox()

    async def facts(self) -> list[str]:
        """Types of the events that were emitted, but for the states."""
        names = [message.DESCRIPTOR.name for _, message in await self.said()]
        return [name for name in names if name != "RegistryState"]

    async def states(self) -> list[Any]:
        return [m for _, m in await self.said() if m.DESCRIPTOR.name == "RegistryState"]

    async def register(self, digest: str, **changes: Any) -> None:
        """Registers a bundle as a person does."""
        self.blobs.bundles[digest] = examined(**changes)
        await self.commands.register_version(NAME, digest, by="ada")


@pytest.fixture
async def empty() -> AsyncIterator[Registry]:
    registry = Registry()
    await registry.database.start()
    yield registry
    await registry.database.stop()


@pytest.fixture
async def registry(empty: Registry) -> Registry:
    """A registry with a loop in force and no version."""
    await empty.commands.apply_loop(FILES, by="ada")
    return empty


def completed(digest: str, model: str = NAME, run_id: str = "run-1") -> TrainingCompleted:
    return TrainingCompleted(
        model=model, run_id=run_id, bundle_digest=digest, as_of_time=timestamp(day(1))
    )


async def judged(
    registry: Registry,
    verdict: str,
    *,
    at: float,
    stage: str = "",
    exposed: int = 0,
    rollout_id: str = "",
    event_id: str = "",
) -> None:
    rollout = (await registry.model()).rollout
    assert rollout
    message = RolloutJudged(
        rollout_id=rollout_id or rollout.rollout_id,
        stage=StageOnWire.Value(f"STAGE_{stage or rollout.stage}"),
        challenger=VersionRef(model=NAME, version=rollout.challenger.number),
        verdict=Verdict.Value(f"VERDICT_{verdict}"),
        watermark_time=timestamp(day(at)),
        blocks=int(at),
        exposed_rows=exposed,
    )
    await registry.deliver(message, event_id=event_id)


@pytest.fixture
async def rolling(registry: Registry) -> Registry:
    """Version 1 serves, version 2 is in shadow."""
    await registry.register("sha256:1", compared=False)
    registry.blobs.bundles["sha256:2"] = examined()
    await registry.deliver(completed("sha256:2"), service="trainer")
    await registry.registration.step()
    rollout = (await registry.model()).rollout
    assert rollout
    assert rollout.stage is Stage.SHADOW
    return registry
