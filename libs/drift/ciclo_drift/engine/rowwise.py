"""The inner loops without a compiler: row by row, all streams of a row at once, in NumPy.

Takes the same arguments as `kernels` and decides the same; sums are rounded otherwise. Some 100 us
a row, whatever the number of streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.engine.layout import CEILING, COARSE, LARGEST, POOL_ROWS, RECENT, STEP_ROWS, TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
"""Constants of SplitMix64."""


def uniforms_at(seed: int, keys: NDArray[np.uint64], row: int) -> NDArray[np.float64]:
    """`kernels.uniform_at` for many keys. Shape (F,)."""
    with np.errstate(over="ignore"):
        state = (np.uint64(seed) ^ keys) + np.uint64(row + 1) * GOLDEN
        state = (state ^ (state >> np.uint64(30))) * FIRST
        state = (state ^ (state >> np.uint64(27))) * SECOND
    state ^= state >> np.uint64(31)
    return np.asarray((state >> np.uint64(11)) * (1.0 / 9007199254740992.0))


def cells_of(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int16]:
    """See `kernels.cells_of`."""
    codes = [
        np.searchsorted(own, np.minimum(column, LARGEST), side="right") + 1
        for column, own in zip(values, edges, strict=True)
    ]
    return np.where(np.isnan(values), 0, np.stack(codes)).astype(np.int16)


def run_numeric(
    codes: NDArray[np.int16],
    phases: NDArray[np.int16],
    row: int,
    seed: int,
    keys: NDArray[np.uint64],
    edges: NDArray[np.float64],
    guesses: NDArray[np.int16],  # noqa: ARG001 -- for the compiler's loop
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
    """See `kernels.run_numeric`."""
    streams = np.arange(codes.shape[0])
    for i, (cells, phase) in enumerate(zip(codes.T, phases, strict=True)):
        now = row + i
        if now % STEP_ROWS == 0:
            peaked = np.minimum(peak * product, CEILING)
            fresh = peaked <= 1.0
            peak[:] = np.where(fresh, 1.0, peaked)
            start[fresh] = now
            start_sums[:] = np.where(fresh, sums.T[:, :, None], start_sums)
            product[:] = 1.0
        pools, size = counts[:, phase], sizes[:, phase]
        here = pools[streams, cells].astype(np.int64)
        below = np.cumsum(pools, axis=1, dtype=np.int64)[streams, cells] - here
        ranks = (below + uniforms_at(seed, keys, now) * (here + 1)) / (size + 1.0)
        joins = (size < POOL_ROWS) & grow
        pools[streams, cells] += joins.astype(np.uint32)
        coarse[streams, phase, cells // COARSE] += joins.astype(np.uint32)
        size += joins
        recent[:, now % RECENT] = cells
        spots = np.searchsorted(edges, ranks, side="right")
        ratios = tables[table_of, spots]
        evidence[:] = (weights + evidence) * ratios
        product *= ratios
        held = evidence.sum(axis=1)
        if held.max() > CEILING:
            np.minimum(evidence, CEILING, out=evidence)
        moments = np.stack([scores[spots], scores[spots] ** 2])
        sums += moments.T
        dense[:, i] += moments.sum(axis=1)
        out[i] += shares @ held


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
    """See `kernels.run_categorical`."""
    streams = np.arange(codes.shape[0])
    for i, (cells, phase) in enumerate(zip(codes.T, phases, strict=True)):
        now = row + i
        pools, size = counts[:, phase], sizes[:, phase]
        live = pools > 0
        live[:, [0, -1]] = True
        half = 0.5 * live.sum(axis=1)
        share = np.where(live, (pools + 0.5) / (size + half)[:, None], 0.0)
        here = pools[streams, cells]
        below = np.cumsum(pools, axis=1)[streams, cells] - here
        ranks = (below + uniforms_at(seed, keys, now) * (here + 1)) / (size + 1.0)
        places = (np.cumsum(share, axis=1) <= ranks[:, None]).sum(axis=1)
        places = np.minimum(places, pools.shape[1] - 1)
        due = (half / powers)[:, None, None] * share[:, None] + TINY
        lifts = (fading + due) / (awaited + due)
        whole = (share[:, None] * lifts).sum(axis=2)
        ratios = (lifts[streams, :, places] / whole) ** powers[:, None]
        evidence[:] = np.minimum((1.0 + evidence) * ratios, CEILING)
        out[i] += shares @ evidence.mean(axis=1)
        fresh = peak <= 1.0
        start[fresh] = now
        peak[:] = np.minimum(np.where(fresh, 1.0, peak) * ratios, CEILING)
        fading *= keeps[:, :, None]
        fading[streams, :, cells] += 1.0
        awaited[:] = keeps[:, :, None] * awaited + share[:, None]
        recent[:, now % RECENT] = cells
        if grow:
            pools[streams, cells] += 1
            size += 1
