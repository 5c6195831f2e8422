"""The control plane's memory in SQLite; what it publishes is committed with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.sqlite import insert

from ciclo_gateway.adapters.tables import LEASE, LOAD, ROUTE, STATE, VERSION
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Cause, Desired, Placement
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route, decode_route, encode_route
from ciclo_gateway.domain.tensors import Field, Signature
from ciclo_gateway.ports.control import Load
from ciclo_gateway.wire import events
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import Tx


class SqliteJournal:
    """Implements `ports.Journal`, and fills the catalog at start.

    Args:
        database: The gateway's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(self, catalog: Catalog) -> None:
        """Puts what an earlier process knew into a catalog."""

        def work(tx: Tx) -> None:
            for row in tx.connection.execute(select(STATE)):
                catalog.desired[row.model] = events.decode_state(row.content)
            for row in tx.connection.execute(select(ROUTE)):
                catalog.routes[row.model] = decode_route(row.content)
            for row in tx.connection.execute(select(VERSION)):
                version = Version(row.model, row.number, row.bundle_digest, row.signature_digest)
                catalog.versions[row.model, row.number] = version, _decode(row.signature)

        await self._database.transaction(work)

    async def keep_state(self, model: str, generation: int, content: bytes) -> None:
        """Keeps the registry's newest state of a model."""
        values = {"generation": generation, "content": content}
        await self._database.transaction(
            lambda tx: (
                tx.connection.execute(
                    insert(STATE)
                    .values(model=model, **values)
                    .on_conflict_do_update(index_elements=[STATE.c.model], set_=values)
                )
                and None
            )
        )

    async def keep_version(self, version: Version, signature: Signature) -> None:
        """Keeps what a version takes and gives; never changes it."""
        row = {
            "model": version.model,
            "number": version.number,
            "bundle_digest": version.bundle_digest,
            "signature_digest": signature.digest,
            "signature": json.dumps(asdict(signature)),
        }
        await self._database.transaction(
            lambda tx: (
                tx.connection.execute(insert(VERSION).values(row).on_conflict_do_nothing()) and None
            )
        )

    async def loads(self) -> Mapping[tuple[Placement, str, int], Load]:
        """Returns every load that was ever begun."""
        return await self._database.read(
            lambda connection: {
                (Placement(row.placement), row.model, row.number): Load(row.state, row.attempts)
                for row in connection.execute(select(LOAD))
            }
        )

    async def begin_load(self, placement: Placement, version: Version) -> None:
        """Writes down that a load begins, before it does."""

        def work(tx: Tx) -> None:
            row = _load_row(placement, version, state="loading", attempts=1)
            tx.connection.execute(
                insert(LOAD)
                .values(row)
                .on_conflict_do_update(
                    index_elements=_LOAD_KEY,
                    # `loaded` stays: a version that was right once is not blamed later.
                    set_={"attempts": LOAD.c.attempts + 1},
                )
            )

        await self._database.transaction(work)

    async def put_load_off(self, placement: Placement, version: Version) -> None:
        """Writes down that a load ended without a verdict: it was begun, and is not counted."""
        key = _load_row(placement, version)
        named = [column == key[column.name] for column in _LOAD_KEY]
        values = {"attempts": LOAD.c.attempts - 1}
        await self._database.transaction(
            lambda tx: tx.connection.execute(update(LOAD).where(*named).values(values)) and None
        )

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

        def work(tx: Tx) -> None:
            _put(
                tx,
                _load_row(
                    placement, version, state="loaded", attempts=0, parity_error=parity_error
                ),
            )
            tx.emit(
                events.version_loaded(version, placement, parity_error, seconds),
                subject=version.model,
                correlation_id=cause.cycle_id,
                causation_id=cause.event_id,
            )

        await self._database.transaction(work)

    async def quarantine(
        self, placement: Placement, version: Version, *, reason: str, detail: str, cause: Cause
    ) -> None:
        """Writes down that a version is not loaded again; `VersionQuarantined`."""

        def work(tx: Tx) -> None:
            text = f"{reason}: {detail}"
            _put(tx, _load_row(placement, version, state="quarantined", attempts=0, detail=text))
            tx.emit(
                events.version_quarantined(version, placement, reason, detail),
                subject=version.model,
                correlation_id=cause.cycle_id,
                causation_id=cause.event_id,
            )

        await self._database.transaction(work)

    async def routes_applied(
        self, routes: Mapping[str, Route], changed: Mapping[str, Cause], digest: str
    ) -> None:
        """Keeps the table; `RoutesApplied` for each changed model."""

        def work(tx: Tx) -> None:
            tx.connection.execute(delete(ROUTE))
            for model, route in routes.items():
                tx.connection.execute(
                    insert(ROUTE).values(model=model, content=encode_route(route))
                )
            for model, cause in changed.items():
                if model in routes:
                    found = routes[model]
                    tx.emit(
                        events.routes_applied(model, found.generation, found.shares, digest),
                        subject=model,
                        correlation_id=cause.cycle_id,
                        causation_id=cause.event_id,
                    )

        await self._database.transaction(work)

    async def routes_refused(
        self, generations: Mapping[str, int], causes: Mapping[str, Cause], detail: str
    ) -> None:
        """`RoutesRefused` for each model."""

        def work(tx: Tx) -> None:
            for model, generation in generations.items():
                tx.emit(
                    events.routes_refused(model, generation, detail),
                    subject=model,
                    correlation_id=causes[model].cycle_id,
                    causation_id=causes[model].event_id,
                )

        await self._database.transaction(work)

    async def lease_expired(self, desired: Desired) -> None:
        """`LeaseExpired`, once for a generation."""
        model, generation, rollout = desired.model, desired.generation, desired.rollout

        def work(tx: Tx) -> None:
            known = tx.connection.execute(
                select(LEASE.c.generation).where(LEASE.c.model == model)
            ).scalar_one_or_none()
            if known is not None and known >= generation:
                return
            tx.connection.execute(
                insert(LEASE)
                .values(model=model, generation=generation)
                .on_conflict_do_update(
                    index_elements=[LEASE.c.model], set_={"generation": generation}
                )
            )
            tx.emit(
                events.lease_expired(model, rollout.id if rollout else "", generation),
                subject=model,
                correlation_id=desired.cause.cycle_id,
                causation_id=desired.cause.event_id,
            )

        await self._database.transaction(work)


_LOAD_KEY = [LOAD.c.placement, LOAD.c.model, LOAD.c.number]


def _load_row(placement: Placement, version: Version, **values: object) -> dict[str, object]:
    key = {"placement": placement.value, "model": version.model, "number": version.number}
    return {"detail": "", "parity_error": None, **key, **values}


def _put(tx: Tx, row: dict[str, object]) -> None:
    tx.connection.execute(
        insert(LOAD).values(row).on_conflict_do_update(index_elements=_LOAD_KEY, set_=row)
    )


def _decode(text: str) -> Signature:
    found = json.loads(text)
    return Signature(
        found["digest"],
        tuple(Field(**field) for field in found["inputs"]),
        tuple(Field(**field) for field in found["outputs"]),
    )
