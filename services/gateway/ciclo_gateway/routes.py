"""Sends callers where the registry wants, and only to versions that answer rightly.

A lease that runs out gives the champion the whole weight.
Nothing here is asked while a caller waits; with this process dead, Envoy and Triton go on.
"""

from collections.abc import Callable

import structlog

from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired, Placement, Share
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route, table_digest
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.control import DataPlane, Journal, TableRefused
from ciclo_runtime.clock import Clock

_log = structlog.get_logger(__name__)


class Router:
    """Its `step` is repeated by a `Reconciler`: right however often it runs.

    Args:
        catalog: What is wanted and known.
        data_plane: Envoy.
        journal: What must not be forgotten.
        metrics: Counts.
        clock: Tells which leases have run out.
    """

    def __init__(
        self,
        catalog: Catalog,
        data_plane: DataPlane,
        journal: Journal,
        *,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._data_plane = data_plane
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._refused = ""
        self._told_expired: dict[str, int] = {}

    async def step(self) -> None:
        """Publishes the table that is due, if it is not in force.

        Raises:
            Retry: Envoy or the database is away.
        """
        await self._announce_expired_leases()
        await self._route()

    async def _announce_expired_leases(self) -> None:
        for desired in list(self._catalog.desired.values()):
            told = self._told_expired.get(desired.model, -1)
            if desired.has_expired(self._clock.now()) and told < desired.generation:
                await self._journal.lease_expired(desired)
                self._told_expired[desired.model] = desired.generation
                self._metrics.leases_expired.inc()
                _log.warning("lease_expired", model=desired.model, generation=desired.generation)

    async def _route(self) -> None:
        wanted = await self._wanted_routes()
        digest = table_digest(wanted)
        if digest == self._refused:
            return
        applied = self._catalog.routes
        names = sorted({*wanted, *applied})
        changed = [
            name
            for name in names
            if name not in wanted or not wanted[name].is_like(applied.get(name))
        ]
        if not changed and (not wanted or await self._data_plane.in_force() == digest):
            return
        causes = {name: self._catalog.cause(name) for name in changed}
        try:
            await self._data_plane.publish(wanted)
        except TableRefused as error:
            self._refused = digest
            self._metrics.route_updates.labels("refused").inc()
            _log.error("routes_refused", digest=digest, error=error.message)
            generations = {name: self._generation(name) for name in changed}
            await self._journal.routes_refused(generations, causes, error.message)
            return
        await self._journal.routes_applied(wanted, causes, digest)
        self._catalog.routes = wanted
        self._refused = ""
        self._metrics.route_updates.labels("applied").inc()
        _log.info("routes_applied", digest=digest, models=changed)

    async def _wanted_routes(self) -> dict[str, Route]:
        loads = await self._journal.loads()
        routes = dict(self._catalog.routes)
        for model, desired in self._catalog.desired.items():
            shares = desired.route(
                self._catalog.answering.get((Placement.SERVING, model), frozenset()),
                {
                    number
                    for (placement, name, number), load in loads.items()
                    if (placement, name) == (Placement.SERVING, model)
                    and load.state == "quarantined"
                },
                self._clock.now(),
            )
            self._put(routes, desired, shares)
        return routes

    def _put(
        self, routes: dict[str, Route], desired: Desired, shares: tuple[Share, ...] | None
    ) -> None:
        if shares is None:
            return
        if not shares:
            routes.pop(desired.model, None)
            return
        route = Route(desired.generation, desired.salt, shares)
        present = routes.get(desired.model)
        # A renewed lease is a new generation, and nothing to tell Envoy.
        routes[desired.model] = present if present and route.is_like(present) else route

    def _generation(self, model: str) -> int:
        desired = self._catalog.desired.get(model)
        return desired.generation if desired else 0


def wanted_versions(
    catalog: Catalog, placement: Placement
) -> Callable[[], dict[str, dict[int, Version]]]:
    """Returns what says which versions a Triton must hold: wanted ones, and those still routed."""

    def versions() -> dict[str, dict[int, Version]]:
        found = {
            model: {version.number: version for version in desired.versions(placement)}
            for model, desired in catalog.desired.items()
        }
        if placement is Placement.SERVING:
            for model, route in catalog.routes.items():
                for share in route.shares:
                    version = catalog.versions.get((model, share.version))
                    if version:
                        found.setdefault(model, {}).setdefault(share.version, version[0])
        return found

    return versions
