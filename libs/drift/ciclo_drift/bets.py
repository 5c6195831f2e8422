"""The bets: what the rank of a row would look like if its stream had changed in one of 36 ways."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from ciclo_drift.engine.layout import GUESSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MEANS = (-1.7, -1.1, -0.7, -0.4, -0.2, 0.2, 0.4, 0.7, 1.1, 1.7)
"""Shifts of the mean, in standard deviations of the reference."""
DEVIATIONS = (0.5, 0.75, 1.3, 1.7, 2.5)
"""Ratios of the standard deviation to the reference's."""
TAILS = (0.0008, 0.006, 0.04)
"""Shares of the reference beyond which, on either side, more rows than before may fall. A bet on
.0001 would find 5 % of far outliers an eighth sooner, and would take one customer's unheard-of
value, met three times in a day, for a change."""
TAIL_MASS = 0.05
"""Share of rows that a tail bet moves there."""
BUMPS = 15
"""Fifteenths of the reference into which more rows than before may fall."""
BUMP_MASS = 0.2
"""Share of rows that a bump moves there."""

FAMILIES = ("mean", "spread", "tail", "bump")
"""Kinds of bet; serial dependence is measured for each."""
FAMILY_ENDS = (10, 15, 21, 36)
"""Where each family ends among the bets."""
BETS = FAMILY_ENDS[-1]
"""Number of bets."""
FAMILY_WEIGHTS = (0.5, 0.25, 0.15, 0.10)
"""Prior weight of each family."""

BINS = 256
"""Cells of the rank: fine in the tails, all bets are constant within one."""
KAPPA_STEP = 1.25
"""Ratio of neighbouring tempering levels."""
LEVELS = 28
"""Tempering levels: dependence ratios up to 1.25^27 = 413; beyond, nothing is certifiable."""


@lru_cache(maxsize=1)
def rank_edges() -> NDArray[np.float64]:
    """Inner edges of the rank's bins, equidistant as normal scores. Shape (BINS - 1,)."""
    return np.asarray(ndtr(np.linspace(-4.0, 4.0, BINS - 1)))


@lru_cache(maxsize=1)
def rank_bins() -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """`rank_edges` with a last one that no rank reaches, and first guesses for `find_bin`."""
    parts = np.arange(GUESSES) / GUESSES
    guesses = np.searchsorted(rank_edges(), parts, side="right").astype(np.int16)
    return np.append(rank_edges(), 2.0), guesses


@lru_cache(maxsize=1)
def bin_scores() -> NDArray[np.float64]:
    """The normal score that stands for each bin. Shape (BINS,)."""
    inner = np.linspace(-4.0, 4.0, BINS - 1)
    return np.concatenate([[-4.2], (inner[1:] + inner[:-1]) / 2.0, [4.2]])


@lru_cache(maxsize=1)
def bet_weights() -> NDArray[np.float64]:
    """Prior weights of the bets, summing to 1. Shape (BETS,)."""
    sizes = np.diff((0, *FAMILY_ENDS))
    return np.repeat(np.array(FAMILY_WEIGHTS) / sizes, sizes)


@lru_cache(maxsize=1)
def likelihood_ratios() -> NDArray[np.float64]:
    """Density of each bet in each bin; its mean over a uniform rank is 1. Shape (BINS, BETS)."""
    edges = np.concatenate([[0.0], rank_edges(), [1.0]])
    scores = np.concatenate([[-math.inf], np.linspace(-4.0, 4.0, BINS - 1), [math.inf]])
    masses = [np.diff(ndtr(scores - mean)) for mean in MEANS]
    masses += [np.diff(ndtr(scores / deviation)) for deviation in DEVIATIONS]
    uniform = np.diff(edges)
    spots = [(0.0, tail) for tail in TAILS] + [(1.0 - tail, 1.0) for tail in TAILS]
    masses += [_with_spot(edges, low, high, TAIL_MASS) for low, high in spots]
    parts = np.linspace(0.0, 1.0, BUMPS + 1)
    masses += [_with_spot(edges, low, high, BUMP_MASS) for low, high in itertools.pairwise(parts)]
    return np.stack(masses, axis=1) / uniform[:, None]


@lru_cache(maxsize=1)
def log_ratios() -> NDArray[np.float64]:
    """Logarithms of `likelihood_ratios`. Shape (BINS, BETS)."""
    return np.asarray(np.log(likelihood_ratios()))


def own_bins(
    codes: NDArray[np.int16], phases: NDArray[np.int16], counts: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Bins of a reference's own rows among those of their phase, ties broken at random. Shape (m,).

    Args:
        codes: Cells of the rows. Shape (m,).
        phases: Their phases. Shape (m,).
        counts: Rows per phase and cell. Shape (S, cells).
        seed: Seed of the ties.
    """
    below = np.cumsum(counts, axis=1) - counts
    draws = np.random.default_rng(seed).random(len(codes))
    ranks = below[phases, codes] + draws * counts[phases, codes]
    sizes = np.maximum(counts.sum(axis=1), 1)[phases]
    return np.asarray(np.searchsorted(rank_edges(), ranks / sizes, side="right"))


@lru_cache(maxsize=1)
def tempered_ratios() -> NDArray[np.float64]:
    """The ratios to the power 1 / kappa, for every level of kappa. Shape (LEVELS, BINS, BETS).

    By Jensen their mean over a uniform rank is at most 1, so tempered bets stay fair.
    """
    kappas = KAPPA_STEP ** np.arange(LEVELS, dtype=np.float64)
    return np.asarray(likelihood_ratios()[None] ** (1.0 / kappas)[:, None, None])


def tables_of(
    kappas: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The ratios that each stream bets with, equal ones once.

    Args:
        kappas: Dependence ratio per family, one array a stream. Shape (4,) each.

    Returns:
        Tables, shape (T, BINS, BETS), and which of them a stream uses, shape (F,).
    """
    levels = [tuple(tempering_level(float(k)) for k in row) for row in kappas]
    used = sorted(set(levels))
    table_of = np.array([used.index(row) for row in levels], dtype=np.int64)
    tables = np.empty((len(used), BINS, BETS))
    for table, row in zip(tables, used, strict=True):
        level_of_bet = np.repeat(row, np.diff((0, *FAMILY_ENDS)))
        table[:] = tempered_ratios()[level_of_bet, :, np.arange(BETS)].T
    return tables, table_of


def tempering_level(kappa: float) -> int:
    """The lowest level whose kappa is at least the given one (the last one, if none is).

    Example:
        >>> tempering_level(1.0), tempering_level(1.3), tempering_level(1e9)
        (0, 2, 27)
    """
    level = math.ceil(math.log(max(kappa, 1.0)) / math.log(KAPPA_STEP) - 1e-9)
    return min(level, LEVELS - 1)


def _with_spot(
    edges: NDArray[np.float64], low: float, high: float, moved: float
) -> NDArray[np.float64]:
    """Bin masses of a uniform of which `moved` was moved into [low, high]."""
    overlap = np.clip(edges, low, high)
    return (1.0 - moved) * np.diff(edges) + moved * np.diff(overlap) / (high - low)
