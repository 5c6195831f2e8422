"""The probability of a label given a score: isotonic regression on cells, kept as knots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import isotonic_regression

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELL_ROWS = 50
"""Reference rows of a cell of scores, at least."""

MAX_CELLS = 100
"""Cells of scores, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Probability of the label 1 given the score: a line through knots, never falling.

    Args:
        scores: Mean reference score at each knot, ascending. Shape (K,).
        probabilities: Probability of the label 1 there. Shape (K,).
        rows: Reference rows that it stands for. Shape (K,).
        influence: What each stretch of time contributed to its error. Shape (B, K).
        extremes: Smallest and largest reference score. Shape (2,).
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    rows: NDArray[np.int64]
    influence: NDArray[np.float64]
    extremes: NDArray[np.float64]

    @classmethod
    def fit(
        cls, scores: NDArray[np.float64], labels: NDArray[np.float64], stretch: NDArray[np.int64]
    ) -> Calibration:
        """Isotonic regression on quantile cells; its level sets are the knots.

        Args:
            scores: Shape (m,), in [0, 1].
            labels: Shape (m,), 0 or 1, both.
            stretch: Stretch of time of each row. Shape (m,).
        """
        wanted = min(max(len(scores) // CELL_ROWS, 2), MAX_CELLS)
        cuts = np.quantile(scores, np.linspace(0.0, 1.0, wanted + 1)[1:-1], method="lower")
        cell = np.unique(np.searchsorted(np.unique(cuts), scores, "right"), return_inverse=True)[1]
        sizes = np.bincount(cell)
        levels = isotonic_regression(np.bincount(cell, labels) / sizes, weights=sizes).blocks
        knot = np.searchsorted(levels, cell, side="right") - 1
        rows = np.bincount(knot)
        # One row of the base rate in each: a knot without errors does not promise none.
        probabilities = (np.bincount(knot, labels) + labels.mean()) / (rows + 1)
        count = len(rows)
        sums = np.bincount(
            stretch * count + knot,
            labels - probabilities[knot],
            minlength=(int(stretch.max()) + 1) * count,
        )
        return cls(
            scores=np.bincount(knot, scores) / rows,
            probabilities=np.maximum.accumulate(probabilities),
            rows=rows.astype(np.int64),
            influence=sums.reshape(-1, count) / rows,
            extremes=np.array([scores.min(), scores.max()]),
        )

    def place(
        self, scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Knots left and right of scores, and how far from left to right they lie. Shape (n,)."""
        position = np.interp(scores, self.scores, np.arange(len(self.scores)))
        left = position.astype(np.int64)
        return left, np.minimum(left + 1, len(self.scores) - 1), position - left
