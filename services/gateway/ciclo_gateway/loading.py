"""Loads versions into one Triton, one at a time, and trusts none that has not answered rightly."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from ciclo.errors import CicloError, Reject, Retry
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.control import (
    Bundle,
    Bundles,
    CorruptBundle,
    Journal,
    Load,
    LoadFailed,
    ModelServer,
    ServerGone,
    ServerSlow,
)
from ciclo_gateway.wire import inference
from ciclo_runtime.clock import Clock

MAX_ATTEMPTS: Final = 3
"""Loads of a version that may begin without an end, because this process died meanwhile."""

MAX_SLOW: Final = 5
"""Loads of a version that may take too long, before it is given up as one that never will."""

_QUARANTINED_FOR: Final[Mapping[type[CicloError], str]] = {
    ServerGone: "SERVER_DIED",
    ServerSlow: LoadFailed.reason,
}
"""What contracts call it when a version is to blame."""

_log = structlog.get_logger(__name__)

Wanted = Callable[[], Mapping[str, Mapping[int, Version]]]
"""Versions that a Triton must hold, by model and number."""


class ParityFailed(Reject):
    """A version answers, and not what its bundle says."""

    reason = "PARITY_FAILED"


class LoadPutOff(Retry):
    """A version is not loaded yet, and not to blame for it."""

    reason = "LOAD_PUT_OFF"


class Loader:
    """Brings one Triton to hold what is wanted.

    Args:
        server: The Triton.
        wanted: What it must hold.
        bundles: Where versions come from.
        journal: Is told before and after each load.
        catalog: Is told what answers.
        tolerance: Greatest difference from the parity vectors.
        on_change: Called when something answers that did not.
        metrics: Counts.
        clock: Measures loads.
    """

    def __init__(
        self,
        server: ModelServer,
        wanted: Wanted,
        bundles: Bundles,
        journal: Journal,
        catalog: Catalog,
        *,
        tolerance: float,
        on_change: Callable[[], None],
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._server = server
        self._wanted = wanted
        self._bundles = bundles
        self._journal = journal
        self._catalog = catalog
        self._tolerance = tolerance
        self._on_change = on_change
        self._metrics = metrics
        self._clock = clock
        self._slow: Counter[tuple[str, int]] = Counter()

    async def step(self) -> None:
        """Loads what is missing, then takes away what is neither wanted nor routed to.

        Raises:
            CicloError: The first thing in the way; what it did not concern is done.
        """
        troubles: list[CicloError] = []
        placement = self._server.placement
        try:
            ready = await self._server.ready()
        except ServerGone:
            for key in [key for key in self._catalog.answering if key[0] is placement]:
                del self._catalog.answering[key]
            raise
        for model, versions in self._wanted().items():
            try:
                await self._model(model, versions, ready.get(model, frozenset()))
            except CicloError as error:
                _log.warning("load_waits", model=model, placement=placement, error=error.message)
                troubles.append(error)
        if troubles:
            raise troubles[0]

    async def _model(
        self, model: str, versions: Mapping[int, Version], ready: frozenset[int]
    ) -> None:
        loads = await self._journal.loads()

        def load_of(number: int) -> Load:
            return loads.get((self._server.placement, model, number), Load("", 0))

        wanted = {n: v for n, v in versions.items() if load_of(n).state != "quarantined"}
        proven = {n for n in wanted if load_of(n).state == "loaded"}
        holds = ready & proven
        place = self._server.placement, model
        self._catalog.answering[place] = holds
        self._catalog.failing[place] = self._catalog.failing.get(place, frozenset()) - holds
        put_off: LoadPutOff | None = None
        for number, version in sorted(wanted.items()):
            if number in holds:
                continue
            if number not in proven and load_of(number).attempts >= MAX_ATTEMPTS:
                detail = f"{MAX_ATTEMPTS} loads were begun and none ended"
                await self._quarantine(version, "SERVER_DIED", detail)
                continue
            kept = {n: wanted[n] for n in holds}
            try:
                is_held = await self._load(version, kept, is_proven=number in proven)
            except LoadPutOff as error:
                put_off = put_off or error
                continue
            if is_held:
                holds |= {number}
                self._catalog.answering[place] = holds
                self._on_change()
        if put_off:
            raise put_off
        surplus = ready - set(versions) if ready else frozenset()
        if surplus and holds == set(wanted):
            await self._shrink(model, {n: wanted[n] for n in holds})

    async def _load(
        self, version: Version, kept: Mapping[int, Version], *, is_proven: bool
    ) -> bool:
        """Adds one version to those that answer; tells whether it answers rightly.

        Raises:
            LoadPutOff: It is to be loaded again; others need not wait for it.
            Retry: The server, the journal or a bundle is away.
        """
        began = self._clock.monotonic()
        beside = {n: await self._bundles.fetch(v) for n, v in kept.items()}
        try:
            bundle = await self._bundles.fetch(version)
            _require_equal_signature(bundle, beside)
        except (CorruptBundle, LoadFailed) as error:
            await self._quarantine(version, error.reason, error.message)
            return False
        await self._journal.keep_version(version, bundle.signature)
        named = replace(version, signature_digest=bundle.signature.digest)
        self._catalog.versions[version.model, version.number] = named, bundle.signature
        await self._journal.begin_load(self._server.placement, version)
        paths = {n: b.path for n, b in {**beside, version.number: bundle}.items()}
        try:
            await self._server.load(version.model, paths)
            parity_error = await self._parity_error(version, bundle)
        except (ServerGone, ServerSlow, LoadFailed, ParityFailed) as error:
            is_to_blame = self._is_to_blame(version, error, is_proven=is_proven)
            await self._not_loaded(version, error, is_to_blame=is_to_blame)
            if isinstance(error, ServerGone):
                raise
            if is_to_blame or isinstance(error, LoadFailed):
                await self._take_back(version.model, {n: b.path for n, b in beside.items()})
            if is_to_blame:
                return False
            raise LoadPutOff(error.message) from error
        await self._server.settle(version.model, paths)
        await self._loaded(named, parity_error, self._clock.monotonic() - began)
        return True

    def _is_to_blame(self, version: Version, error: CicloError, *, is_proven: bool) -> bool:
        """Tells whether a version is why its load did not end well.

        One that answered rightly before is blamed for a wrong answer alone: it has not changed.
        """
        if isinstance(error, ServerSlow):
            self._slow[version.model, version.number] += 1
            return not is_proven and self._slow[version.model, version.number] >= MAX_SLOW
        return isinstance(error, ParityFailed) or not is_proven

    async def _not_loaded(self, version: Version, error: CicloError, *, is_to_blame: bool) -> None:
        """Has a version quarantined, or loaded again later; callers are sent elsewhere."""
        place = self._server.placement, version.model
        self._catalog.failing[place] |= {version.number}
        self._on_change()
        if is_to_blame:
            reason = _QUARANTINED_FOR.get(type(error), error.reason)
            await self._quarantine(version, reason, error.message)
        else:
            self._metrics.loads.labels(self._server.placement.value, "put_off").inc()
            await self._journal.put_load_off(self._server.placement, version)

    async def _loaded(self, version: Version, parity_error: float, seconds: float) -> None:
        placement = self._server.placement
        del self._slow[version.model, version.number]
        await self._journal.end_load(
            placement,
            version,
            parity_error=parity_error,
            seconds=seconds,
            cause=self._catalog.cause(version.model),
        )
        self._metrics.loads.labels(placement.value, "loaded").inc()
        self._metrics.load_seconds.labels(placement.value).observe(seconds)
        _log.info(
            "version_loaded",
            model=version.model,
            version=version.number,
            placement=placement.value,
            parity_error=parity_error,
            seconds=round(seconds, 3),
        )

    async def _parity_error(self, version: Version, bundle: Bundle) -> float:
        try:
            answer = await self._server.infer(version.model, version.number, bundle.parity_inputs)
        except Reject as error:
            raise ParityFailed(f"the parity question was refused: {error.message}") from error
        found = {tensor.type.name: inference.unpack(tensor) for tensor in answer}
        worst = 0.0
        for name, expected in bundle.parity_outputs.items():
            if name not in found or found[name].size != expected.size:
                raise ParityFailed(f"output {name!r} is missing or has another size")
            difference = np.abs(found[name].ravel().astype(np.float64) - expected.ravel())
            # NaN where either is: never within the tolerance.
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
        if worst > self._tolerance:
            raise ParityFailed(
                f"answers differ from the parity vectors by {worst}, at most {self._tolerance}"
            )
        return worst

    async def _take_back(self, model: str, paths: Mapping[int, Path]) -> None:
        """Takes a version that was refused out again; the others go on answering."""
        if paths:
            await self._server.load(model, paths)
            await self._server.settle(model, paths)
        else:
            await self._server.unload(model)

    async def _shrink(self, model: str, kept: Mapping[int, Version]) -> None:
        """Takes versions away that nobody wants and nobody is routed to."""
        paths = {n: (await self._bundles.fetch(v)).path for n, v in kept.items()}
        await self._take_back(model, paths)
        _log.info("versions_unloaded", model=model, kept=sorted(kept))

    async def _quarantine(self, version: Version, reason: str, detail: str) -> None:
        self._metrics.loads.labels(self._server.placement.value, "quarantined").inc()
        _log.error(
            "version_quarantined",
            model=version.model,
            version=version.number,
            placement=self._server.placement.value,
            reason=reason,
            detail=detail,
        )
        await self._journal.quarantine(
            self._server.placement,
            version,
            reason=reason,
            detail=detail,
            cause=self._catalog.cause(version.model),
        )


def _require_equal_signature(bundle: Bundle, beside: Mapping[int, Bundle]) -> None:
    for number, other in beside.items():
        if other.signature.digest != bundle.signature.digest:
            raise LoadFailed(
                f"its signature {bundle.signature.digest} is not that of version {number}, "
                f"{other.signature.digest}: versions that serve together must take the same inputs"
            )
