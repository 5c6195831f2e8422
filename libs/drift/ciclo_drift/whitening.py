"""Takes out of a stream what its last rows foretell: rows that resemble each other bet twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY_ROWS = 6
"""Rows that foretell the next one, at most."""

LEAST_NATS = 12.0
"""Log likelihood that foretelling must gain: rows that are independent do so once in 10^6 streams.
An autocorrelation of .2 does on 600 rows, long before block sums show it."""

LEAST_GAIN = 0.3
"""Share of the dependence beyond 1 that must go for whitening to be kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """Residuals of normal scores after an autoregression, a batch at a time.

    A row's score is that of the middle of its cell among the reference rows of its phase: fixed,
    so that the residuals follow from the rows alone.

    Args:
        edges: Edges between the cells of the values. Shape (E,).
        scores: Normal score of each cell, by phase; 0 for missing. Shape (S, E + 2).
        weights: Weights of the last rows, the latest first. Shape (p,), 1 <= p <= 6.
        unit: Shift of the scores' mean that shifts the residuals' by one of their deviations.
    """

    edges: NDArray[np.float64]
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    unit: float

    @classmethod
    def fit(
        cls,
        codes: NDArray[np.int16],
        phases: NDArray[np.int16],
        edges: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> Whitening | None:
        """Fits an autoregression, its order by BIC; None if it foretells nothing beyond chance.

        Args:
            codes: Cells of the reference rows in time order. Shape (m,).
            phases: Their phases. Shape (m,).
            edges: Edges between cells. Shape (E,).
            counts: Rows per phase and cell. Shape (S, E + 2).

        Reference:
            G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6 (1978).
        """
        scores = middle_scores(counts)
        scores[:, 1:] -= float(scores[phases, codes][codes > 0].mean())
        z = scores[phases, codes]
        lagged = np.stack([np.roll(z, k) for k in range(1, MEMORY_ROWS + 1)], axis=1)[MEMORY_ROWS:]
        aim = z[MEMORY_ROWS:]
        if float(np.ptp(aim)) == 0.0:
            return None
        found, best = None, len(aim) * np.log(max(float(aim @ aim), 1e-300)) - 2.0 * LEAST_NATS
        for order in range(1, MEMORY_ROWS + 1):
            weights = np.asarray(np.linalg.lstsq(lagged[:, :order], aim)[0], dtype=np.float64)
            left = aim - lagged[:, :order] @ weights
            cost = len(aim) * np.log(max(float(left @ left), 1e-300)) + order * np.log(len(aim))
            if cost < best:
                passed = max(1.0 - float(weights.sum()), 1e-3)
                found, best = cls(edges, scores, weights, float(left.std()) / passed), cost
        return found

    def residuals(
        self, codes: NDArray[np.int16], phases: NDArray[np.int16], before: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the last rows did not foretell; the same for any batching.

        Args:
            codes: Cells of the rows. Shape (n,).
            phases: Their phases. Shape (n,).
            before: Scores of the rows before, the latest last. Shape (MEMORY_ROWS,).

        Returns:
            Residuals, NaN = missing, shape (n,), and `before` of the next batch.
        """
        z = np.concatenate([before, self.scores[phases, codes]])
        left = z[MEMORY_ROWS:].copy()
        for lag, weight in enumerate(self.weights, start=1):
            left -= weight * z[MEMORY_ROWS - lag : len(z) - lag]
        return np.where(codes == 0, np.nan, left), z[-MEMORY_ROWS:]


def middle_scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Normal score of the middle of each cell among the rows of its phase that are not missing.

    Args:
        counts: Rows per phase and cell, the first one for missing. Shape (S, cells).

    Returns:
        Shape (S, cells); 0 for missing.
    """
    present = counts[:, 1:].astype(np.float64)
    middles = np.cumsum(present, axis=1) - present / 2.0
    ranks = (middles + 0.5) / (present.sum(axis=1, keepdims=True) + 1.0)
    return np.concatenate([np.zeros((len(counts), 1)), ndtri(ranks)], axis=1)
