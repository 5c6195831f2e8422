"""Bundles and loop definitions in the blob store, verified before anything is believed."""

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from ciclo.errors import NotFound, Reject, Retry
from ciclo_bundle import BlobMissing, Bundle, BundleError, verify_bundle
from ciclo_bundle.digest import require_safe
from ciclo_bundle.store import BlobStore
from ciclo_registry.domain.gates import Evidence, Interval, Slice
from ciclo_registry.domain.versions import Examined

LATENCY_ROWS = "1"
"""Rows in the request whose latency counts: what most callers send."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class BundleUnfit(Reject):
    """A bundle cannot become a version; says which file is wrong and why."""

    reason = "BUNDLE_UNFIT"


class BlobExaminer:
    """See `ports.Examiner`. Folders are fetched, read and removed again.

    Args:
        store: Where blobs are.
        scratch: Folder for what is being examined.
    """

    def __init__(self, store: BlobStore, scratch: Path) -> None:
        self._store = store
        self._scratch = scratch

    async def examine(self, bundle_digest: str) -> Examined:
        """See `Examiner.examine`."""
        return await asyncio.to_thread(self._within, bundle_digest, _examined)

    async def store_loop(self, files: Mapping[str, bytes]) -> str:
        """See `Examiner.store_loop`."""
        return await asyncio.to_thread(self._put, files)

    def _within(self, digest: str, read: Callable[[Path], T]) -> T:
        with self._folder() as folder:
            try:
                return read(self._store.fetch(digest, folder / "blob"))
            except BlobMissing as error:
                raise NotFound(
                    f"{error}; put the folder there first, as trainings do", field="bundle_digest"
                ) from error
            except BundleError as error:
                raise BundleUnfit(f"{digest}: {error}", field="bundle_digest") from error
            except OSError as error:
                raise Retry(f"the blob store does not give {digest}: {error}") from error

    def _put(self, files: Mapping[str, bytes]) -> str:
        with self._folder() as folder:
            try:
                for name, content in files.items():
                    path = folder / require_safe(name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                return self._store.put_folder(folder)
            except BundleError as error:
                raise Reject(f"a loop's folder: {error}", field="files") from error
            except OSError as error:
                raise Retry(f"the loop cannot be stored: {error}") from error

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            yield Path(folder)


def _examined(folder: Path) -> Examined:
    bundle = verify_bundle(folder)
    manifest = bundle.manifest
    try:
        return Examined(
            model=manifest.model,
            signature_digest=manifest.signature_digest,
            dataset_digest=manifest.dataset_digest,
            as_of_time=_time(manifest.created_event_time_us),
            newest_event_time=_time(manifest.newest_event_time_us),
            evidence=_evidence(bundle),
        )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever a bundle says, it must not hold up those behind it
        raise BundleUnfit(
            f"evidence/ or manifest.json: {error!r} where {_EXPECTED} was expected",
            field="bundle_digest",
        ) from error


_EXPECTED = (
    "a ciclo.metrics/v1 document (and, if any, a ciclo.latency/v1 one) with finite numbers, and "
    "times from year 1 to 9999"
)


def _evidence(bundle: Bundle) -> Evidence:
    metrics = json.loads((bundle.path / "evidence" / "metrics.json").read_bytes())
    latency = bundle.path / "evidence" / "latency.json"
    return Evidence(
        confidence=_number(metrics["confidence"]),
        metrics=_intervals(metrics["model"]),
        champion=_intervals(metrics.get("champion")),
        difference=_intervals(metrics.get("difference")),
        slices=tuple(
            Slice(column, value, int(_number(part["rows"])), _intervals(part.get("difference")))
            for column, parts in metrics.get("slices", {}).items()
            for value, part in parts.items()
        ),
        limitation=str(metrics.get("limitation", "")),
        latency_p95_seconds=_p95(json.loads(latency.read_bytes())) if latency.is_file() else {},
    )


def _intervals(document: dict[str, dict[str, Any]] | None) -> dict[str, Interval]:
    def end(found: Any) -> float | None:
        return None if found is None else _number(found)

    return {
        name: Interval(end(found["value"]), end(found.get("low")), end(found.get("high")))
        for name, found in (document or {}).items()
    }


def _p95(document: dict[str, Any]) -> dict[str, float]:
    names = {"model": "version", "champion": "champion"}
    return {
        names[whose]: _number(sizes[LATENCY_ROWS]["p95_us"]) / 1e6
        for whose, sizes in document["rows"].items()
    }


def _number(found: Any) -> float:
    """A text or NaN would be believed here, and break the gates or the books later."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{found!r} is no finite number")
    return float(found)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
