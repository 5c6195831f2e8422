"""Has the mean of a block statistic, such as a day's loss, risen above its reference?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtr, stdtrit

from ciclo_drift.blocks import (
    TINY,
    finite_vector,
    neighbour_inflation,
    require_between,
    require_block,
)
from ciclo_drift.errors import DriftInputError
from ciclo_drift.snapshots import Snapshot, require_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_PRECISION = 4.0
"""Precision of the half-normal mixture over (rise / sd of a block): rises of about half a
standard deviation."""

RESTARTS = 512
"""Live blocks that may still be the start of a rise; older ones are taken for reference. Bounds
memory (8 KB) and the time of an update (0.2 ms)."""

LEAST_REFERENCE = 5
"""Reference blocks below which nothing useful can be said about their spread."""


@dataclass(frozen=True, slots=True)
class Rise:
    """What the blocks seen so far say about the mean.

    Args:
        alarm: The evidence reached the threshold, now or earlier; stays until `reset`.
        evidence: The Shiryaev-Roberts statistic, now.
        threshold: Where it alarms.
        blocks: Live blocks seen.
        rows: Their rows.
        since_block: The most likely first block of a rise, counted from 0; None before the first.
        rise: Mean since then less mean before it (reference and live). Unit of the statistic.
        lower: Lower end of a 95 % interval of the rise, were its start known beforehand.
        upper: Upper end.
    """

    alarm: bool
    evidence: float
    threshold: float
    blocks: int
    rows: int
    since_block: int | None
    rise: float
    lower: float
    upper: float


class BlockMeanTest:
    """Watches for a rise of a block statistic's mean by more than a tolerance.

    For every live block that may be the first of a rise, a likelihood ratio compares all blocks
    from it on with all blocks before it, the reference included; mean and spread are integrated
    out, so that ten reference blocks are not taken for the truth. Their sum is the
    Shiryaev-Roberts statistic; it alarms at `budget_blocks`, which bounds the mean number of
    blocks between false alarms from below for independent normal blocks. Blocks with fewer rows
    than the reference's count less; where neighbours resemble each other blocks count as fewer.
    Blocks are fed in time order, once their labels are mature. O(512) time and memory a block.

    Args:
        reference_totals: Sum of the statistic in each held-out block. Shape (K,), K >= 5.
        reference_rows: Rows of each. Shape (K,), >= 1.
        tolerance: Rise that is not drift. Unit of the statistic, >= 0.
        budget_blocks: Mean number of blocks between false alarms. >= 10.

    Raises:
        DriftInputError: Too few or constant reference blocks, or a setting out of range.

    Example:
        >>> rng = np.random.default_rng(2)
        >>> days = np.concatenate([rng.normal(0.46, 0.1, 40), rng.normal(0.56, 0.1, 30)])
        >>> test = BlockMeanTest(900 * days[:10], np.full(10, 900), budget_blocks=365)
        >>> risen = next(r for day in days[10:] if (r := test.update(900 * day, 900)).alarm)
        >>> risen.blocks, risen.since_block, round(risen.rise, 2)
        (44, 30, 0.11)

    Reference:
        M. Pollak, "Optimal detection of a change in distribution", Annals of Statistics 13 (1985).
        M. Pollak, D. Siegmund, "Sequential detection of a change in a normal mean when the
        initial value is unknown", Annals of Statistics 19 (1991): ratios of maximal invariants.
    """

    KIND = "ciclo_drift.BlockMeanTest/1"

    def __init__(
        self,
        reference_totals: NDArray[np.float64],
        reference_rows: NDArray[np.int64],
        *,
        tolerance: float = 0.0,
        budget_blocks: float,
    ) -> None:
        totals = finite_vector("reference_totals", reference_totals, least=LEAST_REFERENCE)
        rows = finite_vector("reference_rows", reference_rows, least=LEAST_REFERENCE)
        if rows.shape != totals.shape or bool((rows < 1).any()):
            raise DriftInputError(
                "reference_rows",
                f"{len(rows)} counts, smallest {rows.min():g}",
                f"{len(totals)} counts, one for each total, all >= 1",
            )
        require_between("tolerance", tolerance, 0.0, math.inf)
        require_between("budget_blocks", budget_blocks, 10.0, 1e9)
        if float(np.ptp(totals / rows)) <= 1e-12 * float(np.abs(totals / rows).max()):
            raise DriftInputError(
                "reference_totals", "the same mean in every block", "blocks that vary"
            )
        self.tolerance, self.budget_blocks = float(tolerance), float(budget_blocks)
        self._totals, self._reference_rows = totals, rows
        self.reset()

    def reset(self) -> None:
        """Forgets all live blocks; the reference and the settings stay."""
        self._usual_rows = float(self._reference_rows.mean())
        # Everything is kept relative to the reference's mean: sums of squares stay accurate.
        self._centre = float(self._totals.sum() / self._reference_rows.sum())
        values = self._totals / self._reference_rows - self._centre
        weights = np.minimum(1.0, self._reference_rows / self._usual_rows)
        # Count, sums of w, w x, w x^2 and squared steps of the pool: reference and old live blocks.
        self._pool = np.array(
            [
                len(values),
                weights.sum(),
                weights @ values,
                weights @ values**2,
                _steps(values, weights)[1:].sum(),
            ]
        )
        self._values: list[float] = []
        self._weights: list[float] = []
        self._before = (0.0, 0.0)
        self._blocks = self._rows = 0
        self._alarm = False
        self._rise = Rise(False, 0.0, self.budget_blocks, 0, 0, None, math.nan, -math.inf, math.inf)

    def update(self, total: float, rows: int) -> Rise:
        """Takes the next matured block and returns what is known after it.

        Args:
            total: Sum of the statistic over the block's labelled rows.
            rows: Number of those rows, >= 1.

        Raises:
            DriftInputError: `total` is not finite or `rows` < 1; the block is not counted.
        """
        require_block(total, rows)
        self._blocks += 1
        self._rows += int(rows)
        self._values.append(float(total) / rows - self._centre)
        self._weights.append(min(1.0, rows / self._usual_rows))
        if len(self._values) > RESTARTS:
            self._fold_oldest()
        self._rise = self._weigh()
        self._alarm = self._rise.alarm
        return self._rise

    def judge(self) -> Rise:
        """Returns what is known now; changes nothing."""
        return self._rise

    def snapshot(self) -> Snapshot:
        """Returns settings, reference and state; `restore` continues from it exactly."""
        return {
            "kind": np.array(self.KIND),
            "settings": np.array([self.tolerance, self.budget_blocks]),
            "reference": np.array([self._totals, self._reference_rows]),
            "counts": np.array([self._blocks, self._rows, self._alarm], dtype=np.int64),
            "pool": self._pool.copy(),
            "before": np.array(self._before),
            "live": np.array([self._values, self._weights], dtype=np.float64),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> BlockMeanTest:
        """Returns the test that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        tolerance, budget = (float(value) for value in snapshot["settings"])
        totals, rows = snapshot["reference"]
        test = cls(totals, rows, tolerance=tolerance, budget_blocks=budget)
        test._blocks, test._rows, alarm = (int(value) for value in snapshot["counts"])
        test._alarm = bool(alarm)
        test._pool = np.array(snapshot["pool"], dtype=np.float64)
        test._before = (float(snapshot["before"][0]), float(snapshot["before"][1]))
        test._values, test._weights = (list(map(float, row)) for row in snapshot["live"])
        if test._values:
            test._rise = test._weigh()
        return test

    def _fold_oldest(self) -> None:
        """Moves the oldest live block into the pool."""
        value, weight = self._values.pop(0), self._weights.pop(0)
        step = _steps(np.array([self._before[0], value]), np.array([self._before[1], weight]))[1]
        self._pool = self._pool + np.array([1.0, weight, weight * value, weight * value**2, step])
        self._before = (value, weight)

    def _weigh(self) -> Rise:
        """Sums the likelihood ratios of all restarts. All arrays have shape (restarts,)."""
        values, weights = np.array(self._values), np.array(self._weights)
        steps = _steps(
            np.concatenate([[self._before[0]], values]),
            np.concatenate([[self._before[1]], weights]),
        )[1:]
        gains = np.array([np.ones_like(values), weights, weights * values, weights * values**2])
        before = self._pool[:4, None] + np.cumsum(gains, axis=1) - gains
        whole = self._pool[:4] + gains.sum(axis=1)
        since = whole[:, None] - before
        squares = sum(np.maximum(part[3] - part[2] ** 2 / part[1], 0.0) for part in (before, since))
        rise = since[2] / since[1] - before[2] / before[1]
        count = np.full_like(values, whole[0])
        variance = np.maximum(squares / (count - 2.0), TINY)
        mean_step = (self._pool[4] + steps.sum()) / (count - 2.0)
        inflation = neighbour_inflation(variance, mean_step, count)
        freedom = np.maximum(count / inflation - 1.0, 1.0)
        precision = before[1] * since[1] / whole[1] / inflation
        ratio = _rise_ratio(rise - self.tolerance, precision, squares / inflation, freedom)
        evidence, best = float(ratio.sum()), int(np.argmax(ratio))
        half = stdtrit(freedom[best], 0.975) * math.sqrt(variance[best] / precision[best])
        return Rise(
            alarm=self._alarm or evidence >= self.budget_blocks,
            evidence=evidence,
            threshold=self.budget_blocks,
            blocks=self._blocks,
            rows=self._rows,
            since_block=self._blocks - len(values) + best,
            rise=float(rise[best]),
            lower=float(rise[best] - half),
            upper=float(rise[best] + half),
        )


def _rise_ratio(
    excess: NDArray[np.float64],
    precision: NDArray[np.float64],
    squares: NDArray[np.float64],
    freedom: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Likelihood ratio of a positive shift against none, mean and scale integrated out.

    A normal mixture over (shift / sd) gives sqrt(c / (k + c)) (1 - k^2 d^2 / ((k + c) V))^(-f/2)
    with d the excess, k its precision, V the sum of squares without the shift; restricting the
    mixture to positive shifts multiplies by twice their posterior probability, a Student t.
    """
    spread = precision + PRIOR_PRECISION
    whole = np.maximum(squares + precision * excess**2, TINY)
    left = np.maximum(whole - (precision * excess) ** 2 / spread, TINY)
    two_sided = np.sqrt(PRIOR_PRECISION / spread) * (left / whole) ** (-freedom / 2.0)
    located = precision * excess / spread / np.sqrt(left / (freedom * spread))
    return np.asarray(np.minimum(two_sided * 2.0 * stdtr(freedom, located), 1e300))


def _steps(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared differences of neighbours, each of mean 2 variances; (n,), the first is 0."""
    steps = np.zeros_like(values)
    both = weights[1:] + weights[:-1]
    pull = weights[1:] * weights[:-1] / np.where(both > 0.0, both, 1.0)
    steps[1:] = 2.0 * pull * (values[1:] - values[:-1]) ** 2
    return steps
