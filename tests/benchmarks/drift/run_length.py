"""From first alarms to run lengths and delays, and to the delay at a wanted run length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2
from tests.benchmarks.drift.streams import PREFIX_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tests.benchmarks.drift.figures import Interval

    Reals = NDArray[np.float64]
    Rows = NDArray[np.int64]

LEAST_FOUND = 0.9
"""Share of the changes that must be found: the mean delay of fewer would flatter."""

NO_RUNS = np.empty(0)

BLIND = 0.5
"""A mean delay above this many run lengths is what false alarms alone would give."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Delay against run length, a point for each value of a method's parameter.

    Args:
        run_length: Mean rows between false alarms; inf without any. Shape (P,).
        delay: Mean rows to the alarm; a change that was missed counts with all its rows. (P,).
        found: Share of the changes found. Shape (P,).
        delays: Delay of each run; NaN where it alarmed before the change. Shape (S, P).
    """

    run_length: Reals
    delay: Reals
    found: Reals
    delays: Reals


@dataclass(frozen=True, slots=True)
class Delay:
    """The delay at a wanted run length.

    Args:
        rows: Mean; None if the change was missed or the run length is out of reach.
        runs: Delay of each run, NaN where it alarmed before the change. Shape (S,).
        found: Share of the changes found.
        note: Why there is no mean, else empty.
    """

    rows: float | None
    runs: Reals
    found: float
    note: str

    @property
    def told(self) -> tuple[float | None, str, Interval | None, str]:
        """Value, unit, 95 % interval and note of a figure."""
        if self.rows is None:
            return None, "rows", None, self.note
        reach = 1.96 * _error(self.runs)
        return self.rows, "rows", (self.rows - reach, self.rows + reach), ""

    def over(self, other: Delay) -> tuple[float | None, str, Interval | None, str]:
        """The same, of this delay over another on the same streams, run by run."""
        if self.rows is None or other.rows is None:
            return None, "", None, self.note or other.note
        ratio = self.rows / other.rows
        reach = 1.96 * ratio * _error(self.runs / self.rows - other.runs / other.rows)
        return ratio, "", (ratio - reach, ratio + reach), ""


def _error(runs: Reals) -> float:
    """Standard error of a mean over runs, NaN left out."""
    counted = runs[np.isfinite(runs)]
    return float(counted.std() / np.sqrt(len(counted))) if len(counted) else math.inf


def mean_run_length(alarms: Rows, rows: int) -> Reals:
    """Rows watched over alarms, runs that ended without one included.

    Args:
        alarms: First alarms, -1 = none. Shape (S, P).
        rows: Length of the streams.
    """
    watched = np.where(alarms < 0, rows, alarms + 1).sum(axis=0)
    count = (alarms >= 0).sum(axis=0)
    return np.where(count > 0, watched / np.maximum(count, 1), np.inf)


def curve(quiet: Rows, quiet_rows: int, moved: Rows, moved_rows: int) -> Curve:
    """Puts the alarms on streams without and with a change together.

    Args:
        quiet: First alarms on streams without a change, -1 = none. Shape (R, P).
        quiet_rows: Their length.
        moved: The same on streams that change after `PREFIX_ROWS`. Shape (S, P).
        moved_rows: Their length.
    """
    ends = np.where(moved < 0, moved_rows - 1, moved)
    early = ends < PREFIX_ROWS
    delays = np.where(early, np.nan, ends - PREFIX_ROWS + 1.0)
    counted = (~early).sum(axis=0)
    return Curve(
        run_length=mean_run_length(quiet, quiet_rows),
        delay=np.nansum(delays, axis=0) / np.maximum(counted, 1),
        found=((moved >= 0) & ~early).sum(axis=0) / np.maximum(counted, 1),
        delays=delays,
    )


def delay_at(measured: Curve, run_length: float) -> Delay:
    """Interpolates to the parameter that gives the wanted run length, on its log scale.

    Example:
        >>> alarms = np.full((20, 1), -1)
        >>> delay_at(curve(alarms, 4_000, alarms, 2_200), 1_000.0).note
        'missed'
    """
    if measured.found.max() < LEAST_FOUND:
        return Delay(None, NO_RUNS, float(measured.found.max()), "missed")
    order = np.argsort(measured.run_length, kind="stable")
    known = order[np.isfinite(measured.run_length[order])]
    lengths = measured.run_length[known]
    right = int(np.searchsorted(lengths, run_length))
    if right in {0, len(known)}:
        return Delay(None, NO_RUNS, 0.0, "no parameter gives this run length")
    ends = known[right - 1 : right + 1]
    part = np.log(run_length / lengths[right - 1]) / np.log(lengths[right] / lengths[right - 1])
    weights = np.array([1.0 - part, part])
    found, mean = float(measured.found[ends] @ weights), float(measured.delay[ends] @ weights)
    if found < LEAST_FOUND or mean > BLIND * run_length:
        return Delay(None, NO_RUNS, found, "missed")
    return Delay(mean, measured.delays[:, ends] @ weights, found, "")


def poisson_bounds(alarms: int, expected: float) -> tuple[float, float]:
    """95 % bounds of the ratio of a count to what was expected.

    Example:
        >>> [round(bound, 2) for bound in poisson_bounds(100, 100.0)]
        [0.81, 1.22]

    Reference:
        F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936).
    """
    low = chi2.ppf(0.025, 2 * alarms) / 2.0 if alarms else 0.0
    return float(low / expected), float(chi2.ppf(0.975, 2 * alarms + 2) / 2.0 / expected)
