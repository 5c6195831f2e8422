"""What the control plane needs: bundles, model servers, Envoy, a journal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ciclo.errors import Reject, Retry
from ciclo_gateway.domain.desired import Cause, Desired, Placement
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route
from ciclo_gateway.domain.tensors import Signature, Tensor


class CorruptBundle(Reject):
    """A bundle is not what its digest or its manifest says."""

    reason = "CORRUPT_BUNDLE"


class LoadFailed(Reject):
    """A model server runs, and says that it cannot load a model."""

    reason = "LOAD_FAILED"


class ServerGone(Retry):
    """A model server does not answer."""

    reason = "SERVER_GONE"


class ServerSlow(Retry):
    """A model server did not do in time what it was asked; it may still be at it."""

    reason = "SERVER_SLOW"


class TableRefused(Reject):
    """Envoy refused a routing table; the last good one is back in its place."""

    reason = "ROUTES_REFUSED"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle on this machine.

    Attributes:
        path: Its folder.
        signature: What it takes and gives.
        parity_inputs: A question whose answer is known.
        parity_outputs: The answer [rows], by output.
    """

    path: Path
    signature: Signature
    parity_inputs: tuple[Tensor, ...]
    parity_outputs: Mapping[str, NDArray[np.float32]]


class Bundles(Protocol):
    """Where bundles come from."""

    async def fetch(self, version: Version) -> Bundle:
        """Returns a version's bundle. Raises `CorruptBundle`; `Retry` if it is not there yet."""
        ...


class ModelServer(Protocol):
    """A Triton, with its repository of models."""

    placement: Placement

    async def ready(self) -> Mapping[str, frozenset[int]]:
        """Returns which versions of which models can be asked. Raises `ServerGone`."""
        ...

    async def load(self, model: str, versions: Mapping[int, Path]) -> None:
        """Makes a model hold these versions and no others; what it held answers meanwhile.

        Raises `LoadFailed`, `ServerSlow`, `ServerGone`.
        """
        ...

    async def settle(self, model: str, versions: Mapping[int, Path]) -> None:
        """Makes the server start with these versions next time, and forgets files of others."""
        ...

    async def unload(self, model: str) -> None:
        """Takes a model from the server, now and at its next start; its files go with it.

        Raises `Retry`: the server may hold it still, so its files are left.
        """
        ...

    async def infer(
        self, model: str, version: int, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Asks a version. Raises `Reject` for a question that it refuses, `Retry` otherwise."""
        ...


class DataPlane(Protocol):
    """Envoy, as far as it is told how to route."""

    async def in_force(self) -> str:
        """Returns the digest of the table that routes now. Raises `Retry` if Envoy is away."""
        ...

    async def publish(self, routes: Mapping[str, Route]) -> None:
        """Puts a table into force; returns when Envoy said so. Raises `TableRefused`, `Retry`."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """Where a load stands.

    Attributes:
        state: loading; loaded, once it has answered rightly; or quarantined.
        attempts: Loads begun since the last that ended well.
    """

    state: str
    attempts: int


class Journal(Protocol):
    """What the control plane must not forget, and the events that it publishes with it."""

    async def keep_version(self, version: Version, signature: Signature) -> None:
        """Keeps what a version takes and gives; never changes it."""
        ...

    async def loads(self) -> Mapping[tuple[Placement, str, int], Load]:
        """Returns every load that was ever begun."""
        ...

    async def begin_load(self, placement: Placement, version: Version) -> None:
        """Writes down that a load begins, before it does."""
        ...

    async def put_load_off(self, placement: Placement, version: Version) -> None:
        """Writes down that a load ended without a verdict: it was begun, and is not counted."""
        ...

    async def end_load(
        self,
        placement: Placement,
        version: Version,
        *,
        parity_error: float,
        seconds: float,
        cause: Cause,
    ) -> None:
        """Writes down that a version answers rightly; `VersionLoaded`."""
        ...

    async def quarantine(
        self, placement: Placement, version: Version, *, reason: str, detail: str, cause: Cause
    ) -> None:
        """Writes down that a version is not loaded again; `VersionQuarantined`."""
        ...

    async def routes_applied(
        self,
        routes: Mapping[str, Route],
        changed: Mapping[str, Cause],
        digest: str,
    ) -> None:
        """Keeps the table; `RoutesApplied` for each changed model."""
        ...

    async def routes_refused(
        self, generations: Mapping[str, int], causes: Mapping[str, Cause], detail: str
    ) -> None:
        """`RoutesRefused` for each model."""
        ...

    async def lease_expired(self, desired: Desired) -> None:
        """`LeaseExpired`, once for a generation."""
        ...
