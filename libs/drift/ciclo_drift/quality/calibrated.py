"""Expected performance of a classifier from its scores alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.blocks import require_between, sum_by_block
from ciclo_drift.errors import DriftInputError
from ciclo_drift.quality.binary import (
    LOSSES,
    Metric,
    as_labels,
    as_scores,
    loss_number,
    losses_of,
)
from ciclo_drift.quality.estimate import (
    DEFAULT_LIMITS,
    Estimate,
    Limits,
    bearing_rows,
    design_effect,
    half_width,
    spread,
    stretches,
)
from ciclo_drift.quality.isotonic import Calibration
from ciclo_drift.quality.trust import Reconciled, Trust
from ciclo_drift.snapshots import Snapshot, require_kind, within, without

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CalibratedQuality:
    """Estimates log loss, Brier score, error rate and accuracy from scores, without labels.

    Scores of held-out reference rows are calibrated; a live score then tells the chance of each
    label, and so the loss to be expected. Right as long as the label depends on the score as it
    did in the reference; which a shift of inputs preserves where the score says all that inputs
    say of the label, and a change of concept does not: matured labels show it (`mature`,
    `reconcile`). The interval covers the noise of labels given scores (with the design effect of
    the reference's blocks) and the noise of the calibration over its stretches of time.

    Made by `fit`; at most 100 knots and 40 stretches are kept (44 KB), no row. Time: 0.2 us a
    row; memory of a window: 4 x 102 numbers.

    Args:
        calibration: The sketch of the reference.
        threshold: Score from which on 1 is answered.
        designs: Variance of a stretch's summed excess over that of independent rows, for each of
            `LOSSES`. Shape (4,), >= 1.
        trusts: What matured labels say, for each of `LOSSES`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> chance = rng.beta(2.0, 5.0, size=10_000)
        >>> labels = (rng.random(10_000) < chance) + 0.0
        >>> quality = CalibratedQuality.fit(chance**2, labels)  # scores far too low
        >>> quality.update(rng.beta(2.0, 2.0, size=2_000) ** 2)
        >>> now = quality.estimate(Metric.ERROR_RATE)
        >>> round(now.value, 2), round(now.lower, 2), round(now.upper, 2), now.valid
        (0.38, 0.36, 0.41, True)

    Reference:
        NannyML, documentation, "Confidence-based performance estimation".
        B. Zadrozny, C. Elkan, "Transforming classifier scores into accurate multiclass
        probability estimates", KDD (2002): isotonic calibration.
        D. Guillory et al., "Predicting with confidence on unseen distributions", ICCV (2021).
    """

    KIND = "ciclo_drift.CalibratedQuality/1"

    def __init__(
        self,
        calibration: Calibration,
        threshold: float,
        designs: NDArray[np.float64],
        trusts: tuple[Trust, ...],
    ) -> None:
        self.threshold = threshold
        self._calibration, self._designs, self._trusts = calibration, designs, trusts
        self.clear()

    @classmethod
    def fit(
        cls,
        scores: NDArray[np.float64],
        labels: NDArray[np.float64],
        *,
        blocks: NDArray[np.generic] | None = None,
        threshold: float = 0.5,
        limits: Limits = DEFAULT_LIMITS,
    ) -> CalibratedQuality:
        """Calibrates on held-out reference rows in time order.

        Args:
            scores: What the model said. Shape (m,), m >= 200, in [0, 1].
            labels: What was so. Shape (m,), 0 or 1, both.
            blocks: Id of each row's time block, growing with time, where rows of a block are not
                independent; at least 5. Shape (m,).
            threshold: Score from which on 1 is answered. In [0, 1].
            limits: When an estimate is valid.

        Raises:
            DriftInputError: Too few rows or blocks, one class only, shapes differ, or a value is
                not usable.
        """
        require_between("threshold", threshold, 0.0, 1.0)
        known = as_scores(scores)
        truth = as_labels(labels, known.shape)
        stretch = stretches(len(known), blocks)
        for what, values in (("scores", known), ("labels", truth)):
            if float(np.ptp(values)) == 0.0:
                raise DriftInputError(what, f"{values[0]:g} in every row", f"{what} that vary")
        calibration = Calibration.fit(known, truth, stretch)
        expected, noise, _ = _moments(calibration, known, threshold)
        excess = losses_of(known, truth, threshold) - expected
        sums = [sum_by_block(stretch, row) for row in excess]
        designs = [
            design_effect(found, total)
            for found, total in zip(sums, noise.sum(axis=1), strict=True)
        ]
        trusts = tuple(Trust(limits, found.totals, found.rows) for found in sums)
        return cls(calibration, float(threshold), np.array(designs), trusts)

    def update(self, scores: NDArray[np.float64]) -> None:
        """Adds rows to the window; any batching gives the same.

        Args:
            scores: Shape (n,), in [0, 1].

        Raises:
            DriftInputError: A score is NaN, infinite or outside [0, 1]; no row is counted.
        """
        found = as_scores(scores)
        expected, noise, slopes = _moments(self._calibration, found, self.threshold)
        left, right, share = self._calibration.place(found)
        knots = len(self._calibration.rows)
        ends = np.broadcast_to([[knots, knots + 1]], (len(found), 2))
        places = np.column_stack([left, right, ends]).ravel()
        for number, sums in enumerate(self._sums):
            slope = slopes[number]
            parts = [slope * (1.0 - share), slope * share, expected[number], noise[number]]
            # Unbuffered, so row by row: batches of any length round alike.
            np.add.at(sums, places, np.column_stack(parts).ravel())
        low, high = self._calibration.extremes
        self._rows += len(found)
        self._outside += int(((found < low) | (found > high)).sum())

    def estimate(self, metric: Metric = Metric.LOG_LOSS) -> Estimate:
        """What a metric of the window is thought to be; changes nothing."""
        number, rows = loss_number(metric), self._rows
        sums, trust = self._sums[number], self._trusts[number]
        value, low, high, effective = math.nan, -math.inf, math.inf, 0.0
        if rows:
            value, noise = float(sums[-2] / rows), float(sums[-1] / rows**2)
            influence = self._calibration.influence
            variance = self._designs[number] * noise + spread(influence @ sums[:-2] / rows)
            half = half_width(variance, trust.limits.level, len(influence))
            low, high = max(0.0, value - half), value + half
            hats = self._sums[loss_number(Metric.POSITIVE_RATE)][:-2]
            effective = bearing_rows(hats, self._calibration.rows.astype(np.float64))
            if metric is not Metric.LOG_LOSS:
                high = min(high, 1.0)
        outside = self._outside / max(rows, 1)
        reason = trust.objection(rows, outside, effective)
        said = Estimate(metric, value, low, high, rows, effective, outside, not reason, reason)
        if metric is Metric.ACCURACY:
            return replace(said, value=1.0 - value, lower=1.0 - high, upper=1.0 - low)
        return said

    def clear(self) -> None:
        """Starts the next window; what matured labels said stays."""
        # Knots; then expected losses; then their variance.
        self._sums = np.zeros((len(LOSSES), len(self._calibration.rows) + 2))
        self._rows = self._outside = 0

    def reset(self) -> None:
        """Starts anew: no rows, and nothing matured."""
        self.clear()
        for trust in self._trusts:
            trust.reset()

    def excess(
        self,
        scores: NDArray[np.float64],
        labels: NDArray[np.float64],
        metric: Metric = Metric.LOG_LOSS,
    ) -> NDArray[np.float64]:
        """Loss of labelled rows less the loss that was to be expected of them. Shape (n,).

        Summed by time block (`LateLosses` does), this is what `mature` takes. For accuracy: of
        the error rate.

        Raises:
            DriftInputError: As for `update`, or a label is neither 0 nor 1.
        """
        found, number = as_scores(scores), loss_number(metric)
        truth = as_labels(labels, found.shape)
        return np.asarray(
            losses_of(found, truth, self.threshold)[number]
            - _moments(self._calibration, found, self.threshold)[0][number]
        )

    def mature(self, total: float, rows: int, metric: Metric = Metric.LOG_LOSS) -> None:
        """Takes the next matured block, in time order: the sum of its `excess` and its rows.

        Raises:
            DriftInputError: `total` is not finite or `rows` < 1; the block is not counted.
        """
        self._trusts[loss_number(metric)].mature(total, rows)

    def reconcile(self, estimate: Estimate, realised: float, rows: int | None = None) -> Reconciled:
        """Compares an earlier estimate with the metric of its rows, once labelled.

        Args:
            estimate: What `estimate` said.
            realised: The metric. Finite.
            rows: Rows that have a label. None: all.

        Raises:
            DriftInputError: `realised` is not finite, or `rows` is not in [1, estimate.rows].
        """
        trust = self._trusts[loss_number(Metric(estimate.metric))]
        return trust.reconcile(estimate, realised, rows)

    def snapshot(self) -> Snapshot:
        """Returns sketch, limits and state; `restore` continues from it exactly."""
        calibration = self._calibration
        state: Snapshot = {
            "kind": np.array(self.KIND),
            "threshold": np.array(self.threshold),
            "knots": np.stack([calibration.scores, calibration.probabilities]),
            "knot_rows": calibration.rows,
            "influence": calibration.influence,
            "extremes": calibration.extremes,
            "designs": self._designs,
            "sums": self._sums.copy(),
            "rows": np.array([self._rows, self._outside], dtype=np.int64),
        }
        for number, trust in enumerate(self._trusts):
            state |= within(f"trust_{number}_", trust.snapshot())
        return state

    @classmethod
    def restore(cls, snapshot: Snapshot) -> CalibratedQuality:
        """Returns what `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        names = ("influence", "extremes", "designs", "sums")
        influence, extremes, designs, sums = (np.array(snapshot[n], np.float64) for n in names)
        scores, probabilities = snapshot["knots"].astype(np.float64)
        knot_rows = snapshot["knot_rows"].astype(np.int64)
        calibration = Calibration(scores, probabilities, knot_rows, influence, extremes)
        parts = [without(f"trust_{number}_", snapshot) for number in range(len(LOSSES))]
        trusts = tuple(Trust.restore(part) for part in parts)
        quality = cls(calibration, float(snapshot["threshold"]), designs, trusts)
        quality._sums = sums
        quality._rows, quality._outside = (int(value) for value in snapshot["rows"])
        return quality


def _moments(
    calibration: Calibration, scores: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Expected loss, its variance, and loss of a 1 less loss of a 0. Shape (4, n) each."""
    left, right, share = calibration.place(scores)
    at = calibration.probabilities
    chance = (1.0 - share) * at[left] + share * at[right]
    zero = losses_of(scores, np.zeros_like(scores), threshold)
    slopes = losses_of(scores, np.ones_like(scores), threshold) - zero
    return zero + chance * slopes, chance * (1.0 - chance) * slopes**2, slopes
