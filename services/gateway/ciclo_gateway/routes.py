"""Sends callers where the registry wants, and only to versions that answer rightly.

A lease that runs out gives the champion the whole weight, whether or not that can be written down.
Nothing here is asked while a caller waits; with this process dead, Envoy and Triton go on.
"""

import random
from collections.abc import Callable, Mapping, Set
from datetime import timedelta
from typing import Final

import structlog

from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Cause, Desired, Placement, Share
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route, table_digest
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.control import DataPlane, Journal, TableRefused
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import Clock

REFUSED_AGAIN: Final = Backoff(first=timedelta(seconds=5), cap=timedelta(minutes=1))
"""Waits before a table that Envoy refused is offered again: it may have been another Envoy, or one
short of something; and the table may be what takes a canary back."""

_log = structlog.get_logger(__name__)


class Router:
    """Its `step` is repeated by a `Reconciler`: right however often it runs.

    Args:
        catalog: What is wanted and known.
        data_plane: Envoy.
        journal: What must not be forgotten.
        metrics: Counts.
        clock: Tells which leases have run out.
        rng: Jitter of the waits.
    """

    def __init__(
        self,
        catalog: Catalog,
        data_plane: DataPlane,
        journal: Journal,
        *,
        metrics: GatewayMetrics,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._catalog = catalog
        self._data_plane = data_plane
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()
        self._refused = ""
        self._refusals = 0
        self._offer_at = 0.0
        self._told_missing: set[tuple[str, int]] = set()
        self._told_expired: dict[str, int] = {}

    async def step(self) -> None:
        """Publishes the table that is due, if it is not in force, and then says so.

        Raises:
            Retry: Envoy or the database is away.
        """
        try:
            await self._route()
        finally:
            await self._announce_expired_leases()

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
        if digest == self._refused and self._clock.monotonic() < self._offer_at:
            return
        applied = self._catalog.routes
        names = sorted({*wanted, *applied})
        changed = [
            name
            for name in names
            if name not in wanted or not wanted[name].is_like(applied.get(name))
        ]
        if not changed and not wanted:
            return
        is_in_force = await self._data_plane.in_force() == digest
        if not changed and is_in_force:
            return
        causes = {name: self._catalog.cause(name) for name in changed}
        try:
            if not is_in_force:  # it may be, and could not be written down when it came to be
                await self._data_plane.publish(wanted)
        except TableRefused as error:
            generations = {name: self._generation(name) for name in changed}
            await self._put_off(digest, error, generations, causes)
            return
        await self._journal.routes_applied(wanted, causes, digest)
        self._catalog.routes = wanted
        self._refused, self._refusals = "", 0
        self._metrics.route_updates.labels("applied").inc()
        _log.info("routes_applied", digest=digest, models=changed)

    async def _put_off(
        self,
        digest: str,
        error: TableRefused,
        generations: Mapping[str, int],
        causes: Mapping[str, Cause],
    ) -> None:
        """Remembers when to offer a refused table again; tells of its first refusal."""
        is_told = digest == self._refused
        self._refusals = self._refusals + 1 if is_told else 1
        wait = REFUSED_AGAIN.delay(self._refusals, self._rng)
        self._refused, self._offer_at = digest, self._clock.monotonic() + wait.total_seconds()
        self._metrics.route_updates.labels("refused").inc()
        _log.error("routes_refused", digest=digest, error=error.message)
        if not is_told:
            await self._journal.routes_refused(generations, causes, error.message)

    async def _wanted_routes(self) -> dict[str, Route]:
        loads = await self._journal.loads()
        routes = dict(self._catalog.routes)
        for model, desired in self._catalog.desired.items():
            place = Placement.SERVING, model
            serving = self._catalog.answering.get(place, frozenset())
            unable = self._catalog.failing.get(place, frozenset()) | {
                number
                for (*where, number), load in loads.items()
                if tuple(where) == place and load.state == "quarantined"
            }
            shares = desired.route(serving, unable, self._clock.now())
            self._put(routes, desired, shares)
            self._tell_missing(desired, unable - serving)
        return routes

    def _tell_missing(self, desired: Desired, missing: Set[int]) -> None:
        """Says once, until it is held again, that the server does not hold a champion."""
        number = desired.champion.number if desired.champion else 0
        if number not in missing:
            self._told_missing.discard((desired.model, number))
        elif (desired.model, number) not in self._told_missing:
            self._told_missing.add((desired.model, number))
            _log.error("champion_not_held", model=desired.model, version=number)

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
