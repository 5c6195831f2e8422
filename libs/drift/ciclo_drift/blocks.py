"""Sums over time blocks: rows of one block are not independent, sums of blocks nearly are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)

TINY = float(np.finfo(np.float64).tiny)
"""Smallest positive float: an open lower bound for `require_between`."""

GUARD_BLOCKS = 10.0
"""Blocks by which a measured correlation of neighbours is shrunk towards none. With it AR(.3)
blocks keep their budget, and independent ones are decided some tenth later."""


@dataclass(frozen=True, slots=True)
class BlockSums:
    """Sums of a row statistic over time blocks.

    Args:
        ids: Block ids, ascending, each once. Shape (B,).
        totals: Sum of the statistic over the block's rows. Shape (B,), unit of the statistic.
        rows: Number of rows in the block. Shape (B,), >= 1.
    """

    ids: NDArray[np.generic]
    totals: NDArray[np.float64]
    rows: NDArray[np.int64]

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean of the statistic in each block. Shape (B,)."""
        return self.totals / self.rows


def sum_by_block(block_ids: NDArray[Number], values: NDArray[np.float64]) -> BlockSums:
    """Sums `values` within blocks.

    Args:
        block_ids: The block of each row (a day number, a date, a name). Shape (n,), n >= 1.
        values: The statistic of each row. Shape (n,), finite.

    Raises:
        DriftInputError: Shapes differ, no rows, or a value is not finite.

    Example:
        >>> sums = sum_by_block(np.array([7, 7, 8]), np.array([1.0, 2.0, 5.0]))
        >>> sums.means
        array([1.5, 5. ])
    """
    ids = np.asarray(block_ids)
    summed = finite_vector("values", values, least=1)
    if ids.shape != summed.shape:
        raise DriftInputError(
            "block_ids", f"shape {ids.shape}", f"the shape of values, {summed.shape}"
        )
    unique, inverse = np.unique(ids, return_inverse=True)
    totals = np.bincount(inverse, weights=summed, minlength=len(unique)).astype(np.float64)
    return BlockSums(unique, totals, np.bincount(inverse, minlength=len(unique)).astype(np.int64))


def finite_vector(what: str, values: object, *, least: int) -> NDArray[np.float64]:
    """Returns `values` as float64 of shape (n,), or says what is wrong with them.

    Raises:
        DriftInputError: Not one-dimensional, fewer than `least` values, or one is NaN or infinite.
    """
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DriftInputError(what, f"values that are not numbers ({error})", "numbers") from error
    if vector.ndim != 1:
        raise DriftInputError(what, f"shape {vector.shape}", "one dimension")
    if len(vector) < least:
        raise DriftInputError(what, f"{len(vector)} values", f"at least {least}")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise DriftInputError(what, f"{vector[bad[0]]} at position {bad[0]}", "finite numbers")
    return vector


def neighbour_inflation(
    squares: NDArray[np.float64], steps: NDArray[np.float64], count: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many dependent blocks carry the information of one independent block, >= 1.

    (1 + r) / (1 - r) for the lag-one correlation r that von Neumann's ratio gives, shrunk by
    `GUARD_BLOCKS` and never below 0.

    Args:
        squares: Mean square around the mean. Shape (k,).
        steps: Mean square of the difference of neighbours. Shape (k,).
        count: Blocks that these were measured on. Shape (k,).

    Reference:
        J. von Neumann, "Distribution of the ratio of the mean square successive difference to
        the variance", Annals of Mathematical Statistics 12 (1941).
    """
    raw = 1.0 - steps / (2.0 * np.maximum(squares, TINY))
    correlation = np.clip(raw * count / (count + GUARD_BLOCKS), 0.0, 0.9)
    return np.asarray((1.0 + correlation) / (1.0 - correlation))


def require_block(total: float, rows: int) -> None:
    """Refuses a block without rows or whose sum is not a number.

    Raises:
        DriftInputError: `total` is not finite or `rows` < 1.
    """
    if not math.isfinite(total):
        raise DriftInputError("total", f"{total}", "a finite sum: leave rows without a label out")
    if rows < 1 or int(rows) != rows:
        raise DriftInputError("rows", f"{rows}", "a whole number >= 1: leave empty blocks out")


def require_between(what: str, value: float, low: float, high: float) -> None:
    """Refuses a setting outside [low, high] or one that is NaN.

    Raises:
        DriftInputError: `value` is outside.
    """
    if not low <= value <= high:
        raise DriftInputError(what, f"{value}", f"between {low} and {high}")
