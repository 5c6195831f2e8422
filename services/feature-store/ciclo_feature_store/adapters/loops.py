"""The loops in force: follows their state, fetches their folders, has features.py read."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from pydantic import TypeAdapter

from ciclo.errors import NotFound, Reject, Retry
from ciclo.loop import read_loop
from ciclo_bundle.store import BlobStore
from ciclo_feature_store.adapters.blobs import fetch_loop, put_loop
from ciclo_feature_store.adapters.offline_process import OfflineProcess, OfflineTimeLimit
from ciclo_feature_store.domain.definitions import (
    AppliedLoop,
    Definitions,
    FeatureService,
    LoopState,
    UnfitDefinitions,
    UnknownFeatureService,
    View,
    apply_loop,
)
from ciclo_feature_store.domain.tasks import DefineTask
from ciclo_runtime.clock import Clock
from ciclo_runtime.state_table import StateTable

ENDLESS_REST = timedelta(hours=1)
"""How long a features.py that did not end is left alone: each try holds up all other models."""

_DEFINITIONS = TypeAdapter(Definitions)
_log = structlog.get_logger(__name__)


class LoopCatalog:
    """A part, see `ports.Loops`. `step` is a reconciler's: it reads what is in force and new.

    Args:
        states: Which loop is in force, by model.
        blobs: Holds the loop folders.
        offline: Reads features.py.
        folder: Where loop folders and what was read of them are kept on this machine.
        clock: Times when a features.py that did not end is read again.
    """

    def __init__(
        self,
        states: StateTable[LoopState],
        blobs: BlobStore,
        offline: OfflineProcess,
        folder: Path,
        clock: Clock,
    ) -> None:
        self._states = states
        self._blobs = blobs
        self._offline = offline
        self._folder = folder
        self._clock = clock
        self._found: dict[str, AppliedLoop] = {}
        self._endless: dict[str, tuple[float, OfflineTimeLimit]] = {}
        self._refused: dict[str, Reject] = {}
        self._in_force: dict[str, AppliedLoop] = {}
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Returns once it is known which loops are in force; they may still have to be read."""
        await self._states.ready()

    async def stop(self) -> None:
        """Nothing is open."""

    async def step(self) -> None:
        """Makes every loop in force known. While one cannot be used, its predecessor serves.

        Raises:
            Retry: Some could not be read now; all others were.
        """
        waiting = None
        states = {m: state for m, state in self._states.items().items() if state.loop_digest}
        for gone in self._in_force.keys() - states:
            del self._in_force[gone]
        for model, state in states.items():
            try:
                self._in_force[model] = await self._read(state.loop_digest)
            except Reject as error:
                self._refused[state.loop_digest] = error
                _log.error("loop_unusable", model=model, loop=state.loop_digest, error=str(error))
            except Retry as error:
                waiting = error
        if waiting:
            raise waiting

    def folder(self, digest: str) -> Path:
        """See `ports.Loops`."""
        return self._folder / digest.removeprefix("sha256:")

    def service(self, name: str) -> FeatureService:
        """See `ports.Loops`."""
        found = {
            applied.service.digest: applied.service
            for applied in self._in_force.values()
            if applied.service.name == name
        }
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise UnfitDefinitions(
                f"two models define feature service {name!r} differently: rename one",
                field="feature_service",
            )
        self._require_read()
        raise UnknownFeatureService(
            f"no loop in force takes feature service {name!r}: apply one with `ciclo apply`",
            field="feature_service",
        )

    def applied(self, model: str) -> AppliedLoop:
        """See `ports.Loops`."""
        state = self._states.get(model)
        if state is None or not state.loop_digest:
            raise NotFound(
                f"no loop of {model!r} is in force: apply one with `ciclo apply`",
                reason="UNKNOWN_MODEL",
                field="model",
            )
        if state.loop_digest in self._found:
            return self._found[state.loop_digest]
        refused = self._refused.get(state.loop_digest)
        if refused is None:
            raise Retry(f"the loop of {model} is just being read", reason="LOOP_BEING_READ")
        raise UnfitDefinitions(
            f"the loop in force cannot be used: {refused.message}",
            reason=refused.reason,
            field=refused.field,
        ) from refused

    async def applied_at(self, model: str, digest: str) -> AppliedLoop:
        """See `ports.Loops`."""
        if not digest:
            return self.applied(model)
        found = await self._read(digest)
        if found.loop.model != model:
            raise NotFound(
                f"loop {digest} is of model {found.loop.model}, not {model}", field="loop_digest"
            )
        return found

    async def check(self, files: Mapping[str, bytes]) -> AppliedLoop:
        """See `ports.Loops`."""
        return await self._read(await put_loop(self._blobs, files))

    def view_rules(self, view: str) -> tuple[View, Collection[str]] | None:
        """Returns the definition of a view by a loop in force, and what must not be stored."""
        for applied in self._in_force.values():
            found = applied.definitions.views.get(view)
            if found:
                return found, applied.loop.privacy.never_store
        return None

    async def _read(self, digest: str) -> AppliedLoop:
        if digest in self._found:  # while another one is being read, too
            return self._found[digest]
        async with self._reading:
            if digest not in self._found:
                self._found[digest] = await self._load(digest)
            return self._found[digest]

    async def _load(self, digest: str) -> AppliedLoop:
        folder = self.folder(digest)
        await fetch_loop(self._blobs, digest, folder)
        cache = folder.with_name(f"{folder.name}.definitions.json")
        if cache.exists():
            definitions = _DEFINITIONS.validate_json(cache.read_bytes())
        else:
            definitions = await self._define(DefineTask(str(folder), digest))
            draft = cache.with_suffix(".partial")
            draft.write_bytes(_DEFINITIONS.dump_json(definitions))
            draft.rename(cache)
        loop = await asyncio.to_thread(read_loop, folder)
        _log.info("loop_read", model=loop.model, loop=digest, service=loop.features)
        return apply_loop(digest, loop, definitions)

    async def _define(self, task: DefineTask) -> Definitions:
        tried_at, before = self._endless.get(task.loop_digest, (0.0, None))
        if before and self._clock.monotonic() - tried_at < ENDLESS_REST.total_seconds():
            raise OfflineTimeLimit(before.message, metadata=before.metadata) from before
        try:
            return await self._offline.define(task)
        except OfflineTimeLimit as error:
            self._endless[task.loop_digest] = self._clock.monotonic(), error
            raise

    def _require_read(self) -> None:
        unread = [
            model
            for model, state in self._states.items().items()
            if state.loop_digest
            and state.loop_digest not in self._found
            and state.loop_digest not in self._refused
        ]
        if unread:
            raise Retry(f"loops are just being read: {', '.join(unread)}", reason="LOOP_BEING_READ")
