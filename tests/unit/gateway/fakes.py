"""What the gateway's use cases talk to in unit tests: worlds in memory that fail when told to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ciclo.errors import Retry
from ciclo_gateway.adapters.tables import METADATA
from ciclo_gateway.domain.desired import Placement
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route, table_digest
from ciclo_gateway.domain.tensors import Field, Signature, Tensor
from ciclo_gateway.ports.control import (
    Bundle,
    CorruptBundle,
    LoadFailed,
    ServerGone,
    ServerSlow,
    TableRefused,
)
from ciclo_gateway.ports.shipping import Outgoing, Segment, WriteFailureCount
from ciclo_gateway.wire import inference
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database

SIGNATURE = Signature(
    "sha256:s", (Field("x", "float32", "request"),), (Field("late", "float32", "output"),)
)


def memory() -> Database:
    """Returns the gateway's database without a file; start it."""
    return Database(None, METADATA, service="gateway", env="test", clock=ManualClock())


def twice(x: np.ndarray) -> tuple[Tensor, ...]:
    """Returns what every right version answers."""
    return (inference.pack("late", (x * 2).astype(np.float32)),)


@dataclass
class FakeSpool:
    """Files in memory; an inode for each, never changed."""

    files: dict[str, bytes] = field(default_factory=dict)
    inodes: dict[str, int] = field(default_factory=dict)
    next_inode: int = 1
    failures: WriteFailureCount | None = None

    def write(self, name: str, content: bytes) -> None:
        if name not in self.files:
            self.inodes[name] = self.next_inode
            self.next_inode += 1
        self.files[name] = self.files.get(name, b"") + content

    async def segments(self) -> list[Segment]:
        names = sorted(self.files)
        return [Segment(n, self.inodes[n], len(self.files[n]), n != names[-1]) for n in names]

    async def read(self, name: str, start: int, limit: int) -> bytes:
        return self.files[name][start : start + limit]

    async def rotate(self, segment: Segment) -> None:
        stem = segment.name.removesuffix(".log")
        if "." not in stem:
            rotated = f"{stem}.{self.next_inode:06d}.log"
            self.files[rotated] = self.files.pop(segment.name)
            self.inodes[rotated] = self.inodes.pop(segment.name)
        self.write(f"{stem.split('.')[0]}.log", b"")

    async def delete(self, name: str) -> None:
        self.files.pop(name, None)
        self.inodes.pop(name, None)

    async def write_failures(self) -> WriteFailureCount | None:
        return self.failures


@dataclass
class FakeTopic:
    """A partition; `plan` says how many events of each next sending arrive before it fails."""

    events: list[Outgoing] = field(default_factory=list)
    plan: list[int] = field(default_factory=list)

    async def end(self) -> int:
        return len(self.events)

    async def ids_since(self, offset: int) -> frozenset[str]:
        return frozenset(event.id for event in self.events[offset:])

    async def send(self, events: Sequence[Outgoing]) -> int:
        if self.plan:
            self.events += events[: self.plan.pop(0)]
            raise Retry("Kafka is away")
        self.events += events
        return len(self.events)


@dataclass
class FakeBundles:
    """Bundles by digest; those that are corrupt are named."""

    corrupt: set[str] = field(default_factory=set)

    async def fetch(self, version: Version) -> Bundle:
        if version.bundle_digest in self.corrupt:
            raise CorruptBundle(f"{version.bundle_digest} is damaged")
        x = np.array([1.0, 2.0], np.float32)
        return Bundle(
            Path(version.bundle_digest), SIGNATURE, (inference.pack("x", x),), {"late": x * 2}
        )


@dataclass
class FakeServer:
    """A Triton: holds versions by model; answers twice the input, or wrongly, or late, or dies."""

    placement: Placement = Placement.SERVING
    holds: dict[str, set[int]] = field(default_factory=dict)
    settled: dict[str, set[int]] = field(default_factory=dict)
    wrong: set[int] = field(default_factory=set)
    unloadable: set[int] = field(default_factory=set)
    deadly: set[int] = field(default_factory=set)
    slow: set[int] = field(default_factory=set)
    refuses: Callable[[np.ndarray], Exception | None] = lambda _: None
    is_up: bool = True
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def ready(self) -> Mapping[str, frozenset[int]]:
        if not self.is_up:
            raise ServerGone("it is down")
        return {model: frozenset(numbers) for model, numbers in self.holds.items() if numbers}

    async def load(self, model: str, versions: Mapping[int, Path]) -> None:
        if self.deadly & set(versions):
            self.restart()
            raise ServerGone("the connection broke")
        if self.slow & set(versions):
            raise ServerSlow("it took too long")
        if self.unloadable & set(versions):
            raise LoadFailed("no such operator")
        self.holds[model] = set(versions)

    async def settle(self, model: str, versions: Mapping[int, Path]) -> None:
        self.settled[model] = set(versions)

    async def unload(self, model: str) -> None:
        self.holds.pop(model, None)
        self.settled.pop(model, None)

    async def infer(
        self, model: str, version: int, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        assert version in self.holds.get(model, set()), "asked for a version that is not loaded"
        x = inference.unpack(tensors[0]).ravel()
        self.asked.append((version, len(x)))
        error = self.refuses(x)
        if error:
            raise error
        return twice(x + 1 if version in self.wrong else x)

    def restart(self) -> None:
        """Starts again as a real one does: with what was settled."""
        self.holds = {model: set(numbers) for model, numbers in self.settled.items()}


@dataclass
class FakeEnvoy:
    """Takes tables, or refuses them."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    published: int = 0
    refused: int = 0
    is_refusing: bool = False

    async def in_force(self) -> str:
        return table_digest(self.routes)

    async def publish(self, routes: Mapping[str, Route]) -> None:
        if self.is_refusing:
            self.refused += 1
            raise TableRefused("update_rejected grew")
        self.routes = dict(routes)
        self.published += 1
