"""The loss to be expected of a row: an additive model on the cells of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from ciclo_drift.blocks import sum_by_block
from ciclo_drift.quality.estimate import design_effect

if TYPE_CHECKING:
    from numpy.typing import NDArray

PENALTIES = (1.0, 10.0, 100.0, 1_000.0)
"""Ridge penalties tried, in rows: a cell with as many rows keeps half of its effect."""

FOLDS = 5
"""Parts of the reference, in time, on which a model of the others is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Additive:
    """Expected loss and its noise, as sums over cells.

    Args:
        effects: Expected loss of each cell; the last one is added to every row. Shape (P + 1,).
        noise: The same for the squared error. Shape (P + 1,).
        influence: What each stretch of the reference contributed to the error of `effects`.
            Shape (B, P + 1).
        design: Variance of a stretch's summed errors over that of independent rows, >= 1.
    """

    effects: NDArray[np.float64]
    noise: NDArray[np.float64]
    influence: NDArray[np.float64]
    design: float

    def expected(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Expected loss of rows, input by input so that no batching rounds differently.

        Args:
            places: Cells of the rows. Shape (n, F).
        """
        summed = np.full(len(places), self.effects[-1])
        for column in places.T:
            summed += self.effects[column]
        return summed


def fit_additive(
    places: NDArray[np.int64], losses: NDArray[np.float64], stretch: NDArray[np.int64], cells: int
) -> tuple[Additive, NDArray[np.float64]]:
    """Fits by ridge regression; the penalty and all noise come from out-of-fold errors.

    Args:
        places: Cells of the reference rows. Shape (m, F).
        losses: Their losses. Shape (m,).
        stretch: Their stretch of time, 0 to B - 1. Shape (m,).
        cells: Number of cells, P.

    Returns:
        The model, and the error of each row under a model that had not seen its fold. Shape (m,).
    """
    design = _one_hot(places, cells)
    fold = stretch * FOLDS // (int(stretch.max()) + 1)
    parts = [np.flatnonzero(fold == number) for number in range(FOLDS)]
    grams = np.stack([(design[part].T @ design[part]).toarray() for part in parts])
    sides = np.stack([design[part].T @ losses[part] for part in parts])
    gram, side = grams.sum(axis=0), sides.sum(axis=0)
    tried = np.empty((len(PENALTIES), len(losses)))
    for penalty, errors in zip(PENALTIES, tried, strict=True):
        for part, own, known in zip(parts, grams, sides, strict=True):
            effects = _solved(gram - own, side - known, penalty)
            errors[part] = losses[part] - design[part] @ effects
    best = int(np.argmin(np.mean(tried**2, axis=1)))
    errors = tried[best].copy()
    members = csr_array((errors, (stretch, np.arange(len(losses)))))
    wanted = np.column_stack([side, design.T @ errors**2, (members @ design).toarray().T])
    effects, noise, *influence = _solved(gram, wanted, PENALTIES[best]).T
    inflation = design_effect(sum_by_block(stretch, errors), float(errors @ errors))
    return Additive(effects, noise, np.stack(influence), inflation), errors


def _one_hot(places: NDArray[np.int64], cells: int) -> csr_array:
    """Indicator of each cell, and a column of ones. Shape (m, P + 1)."""
    rows = len(places)
    columns = np.concatenate([places, np.full((rows, 1), cells)], axis=1)
    starts = np.arange(rows + 1) * columns.shape[1]
    return csr_array((np.ones(columns.size), columns.ravel(), starts), shape=(rows, cells + 1))


def _solved(
    gram: NDArray[np.float64], sides: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    """Solves the normal equations with the penalty on all but the last column."""
    ridge = np.full(len(gram), penalty)
    ridge[-1] = 0.0
    return np.asarray(cho_solve(cho_factor(gram + np.diag(ridge)), sides), dtype=np.float64)
