"""The inner loops, row by row, compiled: growing conformal rank, bets, Shiryaev-Roberts sums.

`run_numeric` and `run_categorical` are long: their state is some fifteen arrays, and a call for
every row and stream that passes them on would cost as much as the work. A stream's rows are run one
after the other, so that its state stays in the processor's nearest cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import numba
import numpy as np

from ciclo_drift.layout import (
    CEILING,
    COARSE,
    EDGES,
    GROUPS,
    GUESSES,
    LARGEST,
    POOL_ROWS,
    STEP_ROWS,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(function: Function) -> Function:
    """Compiles on first call and keeps the machine code on disk."""
    return cast("Function", numba.njit(cache=True, nogil=True)(function))


def _compiled_fast(function: Function) -> Function:
    """Like `_compiled`; sums may be taken in another order, which makes them vector code."""
    may = {"reassoc", "contract", "nsz"}
    return cast("Function", numba.njit(cache=True, nogil=True, fastmath=may)(function))


@_compiled
def uniform_at(seed: int, key: int, row: int) -> float:
    """A number in [0, 1) that depends on its three arguments only (SplitMix64).

    Reference:
        G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators",
        OOPSLA 2014.
    """
    state = np.uint64(seed) ^ np.uint64(key)
    state += np.uint64(row + 1) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return float(state >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@_compiled
def grow_rank(
    cell: int,
    draw: float,
    counts: NDArray[np.int64],
    coarse: NDArray[np.int64],
    size: NDArray[np.int64],
    grow: bool,
) -> float:
    """Randomised rank of a row among the pool, in [0, 1); then the row joins the pool.

    Uniform and independent of all earlier ranks as long as the rows are exchangeable with the
    pool, whatever its size.

    Args:
        cell: Cell of the row.
        draw: Uniform number that breaks ties within the cell.
        counts: Pool per cell. Shape (cells,). Changed.
        coarse: Pool per sixteen cells. Changed.
        size: Pool size, shape (1,). Changed.
        grow: Whether the row joins.

    Reference:
        V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world" (2005), ch. 7.
    """
    group = cell // COARSE
    below = 0
    for i in range(group):
        below += coarse[i]
    for i in range(group * COARSE, cell):
        below += counts[i]
    rank = (below + draw * (counts[cell] + 1)) / (size[0] + 1.0)
    if grow:
        counts[cell] += 1
        coarse[group] += 1
        size[0] += 1
    return float(min(rank, 1.0 - 1e-16))


@_compiled
def cells_of(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int16]:
    """Cells of numbers, as `cells.numeric_codes` says, of many streams at once.

    Args:
        values: Shape (F, n), NaN = missing.
        edges: Ascending, then infinities. Shape (F, EDGES).

    Returns:
        Shape (F, n).
    """
    codes = np.empty(values.shape, dtype=np.int16)
    for f in range(values.shape[0]):
        for i in range(values.shape[1]):
            value = min(values[f, i], LARGEST)
            spot = 0
            step = EDGES // 2 + 1
            while step > 0:  # EDGES is 2^k - 1: halving without branches
                spot += step if edges[f, spot + step - 1] <= value else 0
                step //= 2
            codes[f, i] = 0 if np.isnan(values[f, i]) else spot + 1
    return codes


@_compiled
def rank_among(
    cell: int,
    draw: float,
    counts: NDArray[np.uint32],
    coarse: NDArray[np.uint32],
    size: int,
) -> float:
    """Randomised rank of a row among the pool of a numeric stream, in [0, 1]; see `grow_rank`.

    Loops of fixed length over sixteen cells become vector code.
    """
    group = cell // COARSE
    start = group * COARSE
    below = 0
    for i in range(GROUPS):
        below += coarse[i] if i < group else 0
    for i in range(COARSE):
        below += counts[start + i] if start + i < cell else 0
    return float((below + draw * (counts[cell] + 1)) / (size + 1.0))


@_compiled
def find_bin(edges: NDArray[np.float64], guesses: NDArray[np.int16], rank: float) -> int:
    """Number of edges at or below `rank`; 2 stands behind the last edge."""
    spot = int(guesses[min(int(rank * GUESSES), GUESSES - 1)])
    # Mostly none or one is left: a step without a branch, then a branch that is rarely taken.
    spot += 1 if edges[spot] <= rank else 0
    while edges[spot] <= rank:
        spot += 1
    return spot


@_compiled_fast
def run_numeric(
    codes: NDArray[np.int16],
    row: int,
    seed: int,
    keys: NDArray[np.uint64],
    edges: NDArray[np.float64],
    guesses: NDArray[np.int16],
    scores: NDArray[np.float64],
    tables: NDArray[np.float64],
    table_of: NDArray[np.int64],
    weights: NDArray[np.float64],
    shares: NDArray[np.float64],
    counts: NDArray[np.uint32],
    coarse: NDArray[np.uint32],
    sizes: NDArray[np.int64],
    sums: NDArray[np.float64],
    evidence: NDArray[np.float64],
    product: NDArray[np.float64],
    peak: NDArray[np.float64],
    start: NDArray[np.float64],
    start_sums: NDArray[np.float64],
    grow: bool,
    out: NDArray[np.float64],
) -> None:
    """Feeds rows to numeric streams; adds the weighted evidence after each row to `out`.

    Args:
        codes: Cells of the rows. Shape (F, n).
        row: Index of the first row.
        seed: Seed of the tie-breaking draws.
        keys: One key a stream. Shape (F,).
        edges: Bin edges of the rank, and 2. Shape (BINS,).
        guesses: First bin of each part of [0, 1). Shape (GUESSES,).
        scores: Normal score of a bin. Shape (BINS,).
        tables: Tempered ratios of the bets. Shape (T, BINS, BETS).
        table_of: Which of them a stream uses. Shape (F,).
        weights: Weights of the bets. Shape (BETS,).
        shares: Weights of the streams. Shape (F,).
        counts: Pools. Shape (F, GROUPS * COARSE). Changed.
        coarse: Their partial sums. Shape (F, GROUPS). Changed.
        sizes: Their sizes. Shape (F,). Changed.
        sums: Sum of scores and of their squares. Shape (F, 2). Changed.
        evidence: Shiryaev-Roberts sums, times the bets' weights. Shape (F, BETS). Changed.
        product: Likelihood ratio since the last step. Shape (F, BETS). Changed.
        peak: Largest likelihood ratio over restarts (CUSUM) at the last step. Shape (F, BETS).
            Changed.
        start: Restart of that ratio, a row index, as float: lanes of one width. Shape (F, BETS).
            Changed.
        start_sums: `sums` before that row. Shape (2, F, BETS). Changed.
        grow: Whether rows join the pools.
        out: Evidence after each row. Shape (n,). Added to.
    """
    bets = weights.shape[0]
    for f in range(codes.shape[0]):
        # Rows of the state as arrays of their own: the loops below then become vector code.
        pool, part, held_by = counts[f], coarse[f], evidence[f]
        since, top, recent = start[f], peak[f], product[f]
        since_first, since_second = start_sums[0, f], start_sums[1, f]
        table = tables[table_of[f]]
        first, second, size = sums[f, 0], sums[f, 1], sizes[f]
        for i in range(codes.shape[1]):
            now = row + i
            if now % STEP_ROWS == 0:
                for b in range(bets):
                    peaked = min(top[b] * recent[b], CEILING)
                    fresh = peaked <= 1.0
                    top[b] = 1.0 if fresh else peaked
                    since[b] = float(now) if fresh else since[b]
                    since_first[b] = first if fresh else since_first[b]
                    since_second[b] = second if fresh else since_second[b]
                    recent[b] = 1.0
            cell = codes[f, i]
            rank = rank_among(cell, uniform_at(seed, keys[f], now), pool, part, size)
            if grow and size < POOL_ROWS:
                pool[cell] += 1
                part[cell // COARSE] += 1
                size += 1
            spot = find_bin(edges, guesses, rank)
            ratios = table[spot]
            held = 0.0
            for b in range(bets):
                grown = (weights[b] + held_by[b]) * ratios[b]
                held_by[b] = grown
                held += grown
                recent[b] *= ratios[b]
            if held > CEILING:
                for b in range(bets):
                    held_by[b] = min(held_by[b], CEILING)
            first += scores[spot]
            second += scores[spot] * scores[spot]
            out[i] += shares[f] * held
        sums[f, 0], sums[f, 1], sizes[f] = first, second, size


@_compiled
def run_categorical(
    codes: NDArray[np.int16],
    row: int,
    seed: int,
    keys: NDArray[np.uint64],
    powers: NDArray[np.float64],
    keeps: NDArray[np.float64],
    shares: NDArray[np.float64],
    counts: NDArray[np.int64],
    coarse: NDArray[np.int64],
    sizes: NDArray[np.int64],
    recent: NDArray[np.float64],
    evidence: NDArray[np.float64],
    peak: NDArray[np.float64],
    start: NDArray[np.float64],
    grow: bool,
    out: NDArray[np.float64],
) -> None:
    """Feeds rows to categorical streams; adds the weighted evidence after each row to `out`.

    The bet: the next row falls into the cells as a Dirichlet prediction from recent rows says,
    half a pseudo-count a cell placed as in the pool; kappa rows count as one. It bets on the
    rank's place among the cells' shares of the pool, so it is fair for a pool of any size.

    Args:
        codes: Cells of the rows. Shape (n, G).
        row: Index of the first row.
        seed: Seed of the tie-breaking draws.
        keys: One key a stream. Shape (G,).
        powers: 1 / kappa. Shape (G,).
        keeps: Share of the recent counts kept from row to row. Shape (G, H).
        shares: Weights of the streams. Shape (G,).
        counts: Pools. Shape (G, cells). Changed.
        coarse: Their partial sums. Changed.
        sizes: Their sizes. Shape (G, 1). Changed.
        recent: Fading counts. Shape (G, H, cells). Changed.
        evidence: Shiryaev-Roberts sums. Shape (G, H). Changed.
        peak: Largest likelihood ratio over restarts. Shape (G, H). Changed.
        start: Restart of that ratio. Shape (G, H). Changed.
        grow: Whether rows join the pools.
        out: Evidence after each row. Shape (n,). Added to.
    """
    cells = counts.shape[1]
    for i in range(codes.shape[0]):
        for g in range(codes.shape[1]):
            cell = codes[i, g]
            draw = uniform_at(seed, keys[g], row + i)
            # The first cell is "missing", the last "unseen": they may be empty yet occur.
            half = 1.0
            for c in range(1, cells - 1):
                half += 0.5 if counts[g, c] > 0 else 0.0
            base = 1.0 / (sizes[g, 0] + half)
            before = sizes[g, 0]
            joined = counts[g, cell]
            rank = grow_rank(cell, draw, counts[g], coarse[g], sizes[g], False)
            place, reach = -1, 0.0
            while reach <= rank and place < cells - 1:
                place += 1
                live = counts[g, place] > 0 or place == 0 or place == cells - 1
                share = (counts[g, place] + 0.5) * base if live else 0.0
                reach += share
            for h in range(keeps.shape[1]):
                # The weights of n rows that fade by `keep` sum to (1 - keep^n) / (1 - keep).
                keep = keeps[g, h]
                size = (1.0 - keep ** (row + i)) / (1.0 - keep)
                prior = half / powers[g]
                predicted = (recent[g, h, place] + prior * share) / (size + prior)
                ratio = (predicted / share) ** powers[g]
                grown = min((1.0 + evidence[g, h]) * ratio, CEILING)
                evidence[g, h] = grown
                out[i] += shares[g] * grown / keeps.shape[1]
                fresh = peak[g, h] <= 1.0
                start[g, h] = row + i if fresh else start[g, h]
                peak[g, h] = min((1.0 if fresh else peak[g, h]) * ratio, CEILING)
                for c in range(cells):
                    recent[g, h, c] *= keep
                recent[g, h, cell] += 1.0
            if grow:
                counts[g, cell] = joined + 1
                coarse[g, cell // COARSE] += 1
                sizes[g, 0] = before + 1
