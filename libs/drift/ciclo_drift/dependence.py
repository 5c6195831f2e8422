"""How far rows in time order are from independent: block-variance ratios at several lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Reals = NDArray[np.float64]
    Pooling = Callable[[Reals, Reals, Reals], tuple[float, float]]

LEAST_GROUPS = 15
"""Blocks of one length below which their variance says too little."""

CHANCE = 1e-7
"""Chance that a ratio of independent rows counts. Some 400 are looked at for a stream, and one
stream of 64 that seems dependent costs all of them the threshold of dependent rows."""

STRIPES = 40
"""Pieces into which a reference without declared blocks is cut where one half of it is fitted on:
a slow wave is in both halves."""

GROWTH = 1.8
"""A ratio that grew this much over the last two doublings of length still grows."""


@dataclass(frozen=True, slots=True, eq=False)
class Dependence:
    """Block-variance ratios of one stream.

    Args:
        lengths: Block lengths, in rows (means, where blocks were declared). Shape (L,).
        ratios: Variance of block sums over what independent rows give; the largest over
            families. Shape (L,).
        kappas: The largest ratio beyond noise, per family of scores; 1 = independent.
        still_grows: The ratio rises at the longest blocks: memory exceeds what was seen.
    """

    lengths: NDArray[np.float64]
    ratios: NDArray[np.float64]
    kappas: NDArray[np.float64]
    still_grows: bool

    def or_worse(self, other: Dependence) -> Dependence:
        """The larger ratio of each family; memory is too long if it is in either."""
        longer = max(self, other, key=lambda known: float(known.kappas.max()))
        kappas = np.maximum(self.kappas, other.kappas)
        grows = self.still_grows or other.still_grows
        return Dependence(longer.lengths, longer.ratios, kappas, grows)


def block_starts(blocks: NDArray[np.generic]) -> NDArray[np.int64]:
    """Row at which each declared block starts. Shape (B,).

    Raises:
        DriftInputError: The rows of one block do not lie together.

    Example:
        >>> block_starts(np.array([3, 3, 4, 4, 4]))
        array([0, 2])
    """
    starts = np.flatnonzero(np.concatenate([[True], blocks[1:] != blocks[:-1]]))
    if len(np.unique(blocks[starts])) != len(starts):
        raise DriftInputError(
            "blocks", "a block whose rows do not lie together", "rows in time order, block by block"
        )
    return starts.astype(np.int64)


def largest_ratio(ratios: Reals, weights: Reals, variances: Reals) -> tuple[float, float]:
    """The ratio of the most dependent score: each bet runs alone, so each must be fair.

    Args:
        ratios: Variance of block sums over that of independent rows, per score. Shape (k,).
        weights: Variance of each score. Shape (k,).
        variances: Variance of each ratio, were rows independent. Shape (k,).

    Returns:
        The largest ratio, and the largest one beyond chance (1: none).
    """
    usable = ratios[weights > 0.0]
    beyond = np.where(usable > _chance_limit(variances[weights > 0.0]), usable, 1.0)
    return float(usable.max(initial=1.0)), float(beyond.max(initial=1.0))


def mean_ratio(ratios: Reals, weights: Reals, variances: Reals) -> tuple[float, float]:
    """The ratio of all scores together: categories are bet on together, and many are rare.

    Arguments and result as for `largest_ratio`.
    """
    shares = weights / max(float(weights.sum()), 1e-300)
    found = float(shares @ ratios)
    limit = float(_chance_limit(np.array([shares**2 @ variances]))[0])
    return found, found if found > limit else 1.0


def _chance_limit(variances: Reals) -> Reals:
    """What a ratio with mean 1 and this variance exceeds by `CHANCE`, as a scaled chi-square."""
    freedom = 2.0 / np.maximum(variances, 1e-12)
    return np.asarray(chdtri(freedom, CHANCE) / freedom)


def measure_dependence(
    scores: NDArray[np.float64],
    families: NDArray[np.int64],
    starts: NDArray[np.int64] | None,
    pool: Pooling,
) -> Dependence:
    """Measures how much more block sums vary than sums of independent rows.

    Args:
        scores: What is bet on, per row in time order. Shape (m, k).
        families: Family of each score, 0-based. Shape (k,). Ratios are pooled within one.
        starts: Starts of declared blocks, whose multiples are then measured; None: any rows.
        pool: `largest_ratio` or `mean_ratio`.

    Returns:
        Ratios at lengths 1, 2, 4, ... (declared blocks or rows) while `LEAST_GROUPS` fit.
    """
    centred = scores - scores.mean(axis=0)
    rows = len(scores)
    variance = np.einsum("ij,ij->j", centred, centred) / rows
    excess = np.einsum("ij,ij->j", centred**2, centred**2) / rows
    excess = excess / np.maximum(variance**2, 1e-300) - 3.0
    base = np.arange(rows, dtype=np.int64) if starts is None else starts
    names = np.unique(families)
    lengths, ratios = [], []
    kappas = np.ones(len(names))
    step = 1 if starts is not None else 2
    while len(base) // step >= LEAST_GROUPS:
        edges = base[::step][: len(base) // step]
        end = base[len(edges) * step] if len(edges) * step < len(base) else rows
        sums = np.add.reduceat(centred[:end], edges, axis=0)
        groups = len(edges)
        length = end / groups
        moved = ((sums - sums.mean(axis=0)) ** 2).sum(axis=0) / (groups - 1)
        found = moved / np.maximum(variance * length, 1e-300)
        # The variance of a variance grows with the kurtosis, which sums of many rows lose.
        spread = (2.0 + np.maximum(excess, 0.0) / length) / (groups - 1)
        pooled = [pool(*(part[families == n] for part in (found, variance, spread))) for n in names]
        kappas = np.maximum(kappas, [beyond for _, beyond in pooled])
        lengths.append(length)
        ratios.append(max(ratio for ratio, _ in pooled))
        step *= 2
    still = len(ratios) > 2 and kappas.max() > 1.0 and ratios[-1] > GROWTH * ratios[-3]
    return Dependence(np.array(lengths), np.array(ratios), kappas, bool(still))


def declared_starts(blocks: NDArray[np.generic] | None, rows: int) -> NDArray[np.int64] | None:
    """Starts of declared blocks, if any.

    Raises:
        DriftInputError: Not one id a row, or the rows of one block do not lie together.
    """
    if blocks is None:
        return None
    if np.shape(blocks) != (rows,):
        raise DriftInputError("blocks", f"shape {np.shape(blocks)}", f"shape ({rows},)")
    return block_starts(np.asarray(blocks))


def every_other(rows: int, starts: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """Every other declared block, or stripe, to fit on; what is ranked is the rest. Shape (m,).

    Raises:
        DriftInputError: One block is declared.
    """
    if starts is None:
        starts = np.linspace(0, rows, STRIPES, endpoint=False).astype(np.int64)
    if len(starts) < 2:
        raise DriftInputError("blocks", "one block", "two or more: half of them is fitted on")
    number = np.searchsorted(starts, np.arange(rows), side="right")
    return np.asarray(number % 2 == 1)
