"""The inner loops, row by row, compiled: growing conformal rank, bets, Shiryaev-Roberts sums.

Lengths in `layout` are powers of two: a mask costs less than a remainder, which has a sign here.
`run_numeric` and `run_categorical` are long: their state is some fifteen arrays, and a call for
every row and stream that passes them on would cost as much as the work. A stream's rows are run one
after the other, so that its state stays in the processor's nearest cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import numba
import numpy as np

from ciclo_drift.bets import BETS
from ciclo_drift.engine.layout import (
    CEILING,
    COARSE,
    EDGES,
    GROUPS,
    GUESSES,
    LARGEST,
    POOL_ROWS,
    RECENT,
    STEP_ROWS,
    TINY,
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
    # Divisors are never 0: without the check for it, a row takes a fortieth less.
    return cast(
        "Function",
        numba.njit(cache=True, nogil=True, fastmath=may, error_model="numpy")(function),
    )


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


@_compiled_fast
def run_numeric(  # noqa: C901 -- see above: a call would cost as much as the work
    codes: NDArray[np.int16],
    phases: NDArray[np.int16],
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
    recent: NDArray[np.int16],
    grow: bool,
    dense: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Feeds rows to numeric streams; adds the weighted evidence after each row to `out`.

    A row's rank among the pool of its phase, ties broken at random, is uniform and independent of
    all earlier ranks as long as rows of a phase are exchangeable, whatever the pool's size.

    Args:
        codes: Cells of the rows. Shape (F, n).
        phases: Seasonal phase of each row. Shape (n,).
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
        counts: Pools. Shape (F, S, GROUPS * COARSE). Changed.
        coarse: Their partial sums. Shape (F, S, GROUPS). Changed.
        sizes: Their sizes. Shape (F, S). Changed.
        sums: Sum of scores and of their squares. Shape (F, 2). Changed.
        evidence: Shiryaev-Roberts sums, times the bets' weights. Shape (F, BETS). Changed.
        product: Likelihood ratio since the last step. Shape (F, BETS). Changed.
        peak: Largest likelihood ratio over restarts (CUSUM) at the last step. Shape (F, BETS).
            Changed.
        start: Restart of that ratio, a row index, as float: lanes of one width. Shape (F, BETS).
            Changed.
        start_sums: `sums` before that row. Shape (2, F, BETS). Changed.
        recent: Cells of the last rows, row r at r % RECENT. Shape (F, RECENT). Changed.
        grow: Whether rows join the pools.
        dense: Sums over the streams of scores and of their squares. Shape (2, n). Added to.
        out: Evidence after each row. Shape (n,). Added to.

    Reference:
        V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world" (2005), ch. 7.
    """
    for f in range(codes.shape[0]):
        # Rows of the state as arrays of their own: the loops below then become vector code.
        pools, parts, size, held_by = counts[f], coarse[f], sizes[f], evidence[f]
        since, top, gained, kept = start[f], peak[f], product[f], recent[f]
        since_first, since_second = start_sums[0, f], start_sums[1, f]
        table, key, share = tables[table_of[f]], keys[f], shares[f]
        first, second = sums[f, 0], sums[f, 1]
        for i in range(codes.shape[1]):
            now = row + i
            if now & (STEP_ROWS - 1) == 0:
                for b in range(BETS):
                    top[b] = min(top[b] * gained[b], CEILING)
                    fresh = top[b] <= 1.0
                    since[b] = float(now) if fresh else since[b]
                    since_first[b] = first if fresh else since_first[b]
                    since_second[b] = second if fresh else since_second[b]
                    top[b] = 1.0 if fresh else top[b]
                    gained[b] = 1.0
            cell, phase = codes[f, i], phases[i]
            group, offset = cell // COARSE, cell & (COARSE - 1)
            # Loops of fixed length over sixteen cells become vector code.
            below = 0
            for j in range(GROUPS):
                below += parts[phase, j] if j < group else 0
            for j in range(COARSE):
                below += pools[phase, group * COARSE + j] if j < offset else 0
            draw = uniform_at(seed, key, now)
            rank = (below + draw * (pools[phase, cell] + 1)) / (size[phase] + 1.0)
            if grow and size[phase] < POOL_ROWS:
                pools[phase, cell] += 1
                parts[phase, group] += 1
                size[phase] += 1
            kept[now & (RECENT - 1)] = cell
            spot = int(guesses[min(int(rank * GUESSES), GUESSES - 1)])
            # Mostly none or one edge is left: a step without a branch, then a rare branch.
            spot += 1 if edges[spot] <= rank else 0
            while edges[spot] <= rank:
                spot += 1
            ratios = table[spot]
            held = 0.0
            for b in range(BETS):
                grown = (weights[b] + held_by[b]) * ratios[b]
                held_by[b] = grown
                held += grown
                gained[b] *= ratios[b]
            if held > CEILING:
                for b in range(BETS):
                    held_by[b] = min(held_by[b], CEILING)
            score = scores[spot]
            first += score
            second += score * score
            dense[0, i] += score
            dense[1, i] += score * score
            out[i] += share * held
        sums[f, 0], sums[f, 1] = first, second


@_compiled_fast
def run_categorical(
    codes: NDArray[np.int16],
    phases: NDArray[np.int16],
    row: int,
    seed: int,
    keys: NDArray[np.uint64],
    powers: NDArray[np.float64],
    keeps: NDArray[np.float64],
    shares: NDArray[np.float64],
    counts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    fading: NDArray[np.float64],
    awaited: NDArray[np.float64],
    evidence: NDArray[np.float64],
    peak: NDArray[np.float64],
    start: NDArray[np.float64],
    recent: NDArray[np.int16],
    grow: bool,
    out: NDArray[np.float64],
) -> None:
    """Feeds rows to categorical streams; adds the weighted evidence after each row to `out`.

    The bet: a cell is met as many times as often as its phase's pool says as it was in recent
    rows, half a pseudo-count a cell placed as in the pool; kappa rows count as one. It bets on
    the rank's place among the cells' shares of the pool, so it is fair for a pool of any size.

    Args:
        codes: Cells of the rows. Shape (G, n).
        phases: Seasonal phase of each row. Shape (n,).
        row: Index of the first row.
        seed: Seed of the tie-breaking draws.
        keys: One key a stream. Shape (G,).
        powers: 1 / kappa. Shape (G,).
        keeps: Share of the recent counts kept from row to row. Shape (G, H).
        shares: Weights of the streams. Shape (G,).
        counts: Pools. Shape (G, S, cells). Changed.
        sizes: Their sizes. Shape (G, S). Changed.
        fading: Fading counts of the cells met. Shape (G, H, cells). Changed.
        awaited: Fading sums of the cells' shares of the pools. Shape (G, H, cells). Changed.
        evidence: Shiryaev-Roberts sums. Shape (G, H). Changed.
        peak: Largest likelihood ratio over restarts. Shape (G, H). Changed.
        start: Restart of that ratio. Shape (G, H). Changed.
        recent: Cells of the last rows, row r at r % RECENT. Shape (G, RECENT). Changed.
        grow: Whether rows join the pools.
        out: Evidence after each row. Shape (n,). Added to.

    Reference:
        R. E. Krichevsky, V. K. Trofimov, "The performance of universal encoding", IEEE
        Transactions on Information Theory 27 (1981): half a pseudo-count a cell.
    """
    cells = counts.shape[2]
    share = np.empty(cells)
    for g in range(codes.shape[0]):
        for i in range(codes.shape[1]):
            cell, phase, now = codes[g, i], phases[i], row + i
            # The first cell is "missing", the last "unseen": they may be empty yet occur.
            half = 1.0
            for c in range(1, cells - 1):
                half += 0.5 if counts[g, phase, c] > 0 else 0.0
            base = 1.0 / (sizes[g, phase] + half)
            below = 0
            for c in range(cells):
                live = counts[g, phase, c] > 0 or c == 0 or c == cells - 1
                share[c] = (counts[g, phase, c] + 0.5) * base if live else 0.0
                below += counts[g, phase, c] if c < cell else 0
            draw = uniform_at(seed, keys[g], now)
            rank = (below + draw * (counts[g, phase, cell] + 1)) / (sizes[g, phase] + 1.0)
            place, reach = -1, 0.0
            while reach <= rank and place < cells - 1:
                place += 1
                reach += share[place]
            for h in range(keeps.shape[1]):
                prior = half / powers[g]
                whole, lift = 0.0, 1.0
                for c in range(cells):
                    due = prior * share[c] + TINY
                    met = (fading[g, h, c] + due) / (awaited[g, h, c] + due)
                    whole += share[c] * met
                    lift = met if c == place else lift
                ratio = (lift / whole) ** powers[g]
                grown = min((1.0 + evidence[g, h]) * ratio, CEILING)
                evidence[g, h] = grown
                out[i] += shares[g] * grown / keeps.shape[1]
                fresh = peak[g, h] <= 1.0
                start[g, h] = now if fresh else start[g, h]
                peak[g, h] = min((1.0 if fresh else peak[g, h]) * ratio, CEILING)
                for c in range(cells):
                    fading[g, h, c] *= keeps[g, h]
                    awaited[g, h, c] = keeps[g, h] * awaited[g, h, c] + share[c]
                fading[g, h, cell] += 1.0
            recent[g, now & (RECENT - 1)] = cell
            if grow:
                counts[g, phase, cell] += 1
                sizes[g, phase] += 1
