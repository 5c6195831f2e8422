"""The methods whose delays are compared: the limit, ours, and those of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tests.benchmarks.drift import peers, streams

from ciclo_drift import RankBank, Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ciclo_drift import Alarm

    Reals = NDArray[np.float64]

BATCH_ROWS = 250
"""Rows that a detector gets at a time; their number changes nothing but the time it takes."""

LIMIT = "clairvoyant CUSUM"
OURS = "RankBank"

BUDGETS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5)
"""Stated budgets of `RankBank`, in wanted run lengths."""

THRESHOLDS = np.linspace(0.2, 10.0, 99)
"""Thresholds of the clairvoyant."""

PEER_REFERENCE_ROWS = 500


class Detector(Protocol):
    """What `first_alarm` feeds."""

    def update(self, values: Any, /) -> Alarm | None:
        """Takes rows."""


def first_alarm(detector: Detector, rows: Reals) -> int:
    """Feeds rows until an alarm; returns its row, -1 without one."""
    for start in range(0, len(rows), BATCH_ROWS):
        if alarm := detector.update(rows[start : start + BATCH_ROWS]):
            return alarm.row
    return -1


def clairvoyant(log_ratios: Reals, thresholds: Reals) -> NDArray[np.int64]:
    """CUSUM of log likelihood ratios that are known: nothing can be faster.

    Args:
        log_ratios: Shape (K, rows).
        thresholds: Ascending. Shape (P,).

    Returns:
        First alarms, -1 = none. Shape (K, P).

    Reference:
        G. V. Moustakides, "Optimal stopping times for detecting changes in distributions",
        Annals of Statistics 14 (1986).
    """
    walk = np.cumsum(log_ratios, axis=1)
    lowest = np.minimum.accumulate(np.minimum(walk, 0.0), axis=1)
    highest = np.maximum.accumulate(walk - lowest, axis=1)
    found = np.array([np.searchsorted(row, thresholds) for row in highest])
    return np.where(found < log_ratios.shape[1], found, -1)


def watch_limit(run_length: int, numbers: range, counts: Mapping[str, int]) -> dict[str, Any]:
    """The clairvoyant's first alarms; each change has a statistic and nulls of its own."""
    found: dict[str, Any] = {"parameters": THRESHOLDS.tolist()}
    quiet = [streams.nulls(number, counts["null"], run_length) for number in numbers]
    for name, change in streams.CHANGES.items():
        moved = [streams.changed(name, number, counts["changed"]) for number in numbers]
        for key, rows in ((f"null {name}", quiet), (name, moved)):
            found[key] = [clairvoyant(change.log_ratio(r), THRESHOLDS).tolist() for r in rows]
    return found


def watch_ours(
    reference_rows: int, run_length: int, numbers: range, counts: Mapping[str, int]
) -> dict[str, Any]:
    """First alarms of `RankBank` at several budgets."""
    budgets = [part * run_length for part in BUDGETS]
    found: dict[str, Any] = {"parameters": budgets, "null": []}
    found |= {name: [] for name in streams.CHANGES}
    for number in numbers:
        reference = Reference.numeric(streams.reference(reference_rows, number))
        for name in ("null", *streams.CHANGES):
            rows = _streams(name, number, counts, run_length)
            found[name].append(
                [
                    [first_alarm(RankBank(reference, budget_rows=b, seed=k), r) for b in budgets]
                    for k, r in enumerate(rows)
                ]
            )
    return found


def watch_peer(
    method: str, run_length: int, numbers: range, counts: Mapping[str, int]
) -> dict[str, Any]:
    """First alarms of a method of another library, on the first of the same streams."""
    references = [streams.reference(PEER_REFERENCE_ROWS, number) for number in numbers]
    given = {
        name: np.stack([_streams(name, number, counts, run_length) for number in numbers])
        for name in ("null", *streams.CHANGES)
    }
    found = peers.watch(method, np.stack(references), given, seed=1 + numbers.start)
    return {name: alarms.tolist() for name, alarms in found.items()}


def _streams(name: str, number: int, counts: Mapping[str, int], run_length: int) -> Reals:
    if name == "null":
        return streams.nulls(number, counts["null"], run_length)
    return streams.changed(name, number, counts["changed"])
