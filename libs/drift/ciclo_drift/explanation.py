"""Explains an alarm: since when, how much, at what cost, and whether an input looks broken.

Called with a bank at rest; every stream keeps the cells of its last rows, which are weighed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from ciclo_drift import bets
from ciclo_drift.alarms import Culprit
from ciclo_drift.engine.layout import TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.bank import Bank
    from ciclo_drift.reference import Reference

TAIL_NAMES = ("tail_low", "tail_high")

CERTAINTY = 0.95
"""Coverage of the interval of the change point."""

SPREAD_NATS = 3.0
"""Information at which rows no longer may lie on the other side of the change: e^-3 is 5 %."""

FAULT_SHARE = 0.2
"""Share of rows that must newly be missing, unseen or out of range for an input to look broken."""

STUCK_SHARE = 0.5
"""Share of rows that must newly lie in one of many cells for an input to look stuck."""

FAULT_ROWS = 8
"""Last rows that are looked at for a fault by themselves: three rows without a value may alarm, and
the start of a change that was found then may lie before them."""

FAULT_NATS = 12.0
"""Evidence that a fault needs, in nats: three rows will do where none was like them before."""

MANY_CELLS = 16
"""Cells of numbers below which one value more often is no fault."""


@dataclass(frozen=True, slots=True)
class Start:
    """When a stream began to change.

    Args:
        row: Most likely first row.
        low: Lower end of the interval.
        high: Upper end.
    """

    row: int
    low: int
    high: int


def culprits_of(bank: Bank) -> tuple[Culprit, ...]:
    """Every stream's part in the evidence, the largest first; of the sums over streams too."""
    whole = max(bank.weighted(), 1e-300)
    found = _culprits(bank, whole)
    if bank.sums is not None:
        found += _culprits(bank.sums, whole)
    return tuple(sorted(found, key=lambda culprit: (-culprit.share, culprit.stream)))


def distances_of(bank: Bank) -> dict[str, float]:
    """How far the kept rows of each stream lie from its reference; see `StreamSet.distances`."""
    found = {}
    for stream, reference in enumerate(bank.references):
        before, now = _shares_then_and_now(reference, *bank.recent(stream))
        parted = now - before if bank.row else np.zeros_like(now)
        ordered = np.abs(np.cumsum(parted)).max()
        either = np.abs(parted).sum() / 2.0
        found[reference.name] = float(ordered if reference.kind == "numeric" else either)
    return found


def _culprits(bank: Bank, whole: float) -> list[Culprit]:
    shares = bank.evidence() * bank.shares / whole
    explain = {"numeric": _number, "categorical": _category}
    return [
        explain[reference.kind](bank, stream, float(shares[stream]))
        for stream, reference in enumerate(bank.references)
    ]


def _number(bank: Bank, stream: int, share: float) -> Culprit:
    reference = bank.references[stream]
    cells, phases = bank.recent(stream)
    place = bank.numeric.index(stream)
    bins = _bins(bank, stream, cells, phases)
    log_table = np.log(bank.tables[bank.table_of[place]])
    gained = _gained(log_table[bins]) + np.log(bets.bet_weights())
    evidence = bank.of_stream(stream, "evidence").astype(np.float64)
    best = int(np.argmax(evidence))
    start, peak, product = (
        float(bank.of_stream(stream, part)[best]) for part in ("start", "peak", "product")
    )
    far = _far_start(bank.row, int(start), peak * product)
    since = _start(logsumexp(gained, axis=1), float(evidence.sum()), bank.row, far)
    kept = len(cells) - (bank.row - since.row)
    mean, square = _moments(bank, stream, best, since.row, bins[max(kept, 0) :])
    change, size = _change(best, mean, square)
    if reference.whitening is not None and change not in {"wider", "narrower"}:
        size *= reference.whitening.unit
    before, now = _shares_then_and_now(reference, cells[max(kept, 0) :], phases[max(kept, 0) :])
    medians = (_median(reference, before), _median(reference, now))
    fault = _fault(reference, cells, phases, max(kept, 0))
    effect = _effect(reference, before, now)
    rows = (since.row, since.low, since.high)
    return Culprit(reference.name, *rows, share, change, size, None, *medians, effect, fault)


def _moments(
    bank: Bank, stream: int, bet: int, since: int, bins: NDArray[np.int64]
) -> tuple[float, float]:
    """Mean of the scores and of their squares since a row; `bins` are the kept ones since then."""
    if bank.row - since > len(bins):
        first, second = (float(s) / (bank.row - since) for s in bank.start_sums(stream)[:, bet])
        return first, second
    scores = bets.bin_scores()[bins]
    return (float(scores.mean()), float((scores**2).mean())) if len(scores) else (0.0, 1.0)


def _change(bet: int, mean: float, square: float) -> tuple[str, float]:
    """What the bet that won says of the change, and its size."""
    family = bets.FAMILIES[int(np.searchsorted(bets.FAMILY_ENDS, bet, side="right"))]
    if family == "mean":
        return "up" if mean > 0.0 else "down", mean
    if family == "spread":
        deviation = math.sqrt(max(square - mean**2, 0.0))
        return "wider" if deviation > 1.0 else "narrower", deviation
    if family == "tail":
        return TAIL_NAMES[(bet - bets.FAMILY_ENDS[1]) // len(bets.TAILS)], mean
    return "shape", mean


def _category(bank: Bank, stream: int, share: float) -> Culprit:
    reference = bank.references[stream]
    cells, phases = bank.recent(stream)
    peak = bank.of_stream(stream, "peak").astype(np.float64)
    best = int(np.argmax(peak))
    far = _far_start(bank.row, int(bank.of_stream(stream, "start")[best]), float(peak[best]))
    gained = _category_gains(reference, cells, phases) / reference.kappa
    start = _start(gained, 0.0, bank.row, far)
    kept = max(len(cells) - (bank.row - start.row), 0)
    before, now = _shares_then_and_now(reference, cells[kept:], phases[kept:])
    # The cell that parts the two distributions most; half a row each, lest one of them be 0.
    floor = 0.5 / max(reference.rows, 1)
    cell = int(np.argmax((now - before) * np.log((now + floor) / (before + floor))))
    name, half = reference.cell_name(cell), float(np.abs(now - before).sum()) / 2.0
    since = (start.row, start.low, start.high)
    sizes = (float(before[cell]), float(now[cell]), _effect(reference, before, now))
    fault = _fault(reference, cells, phases, kept)
    return Culprit(reference.name, *since, share, "categories", half, name, *sizes, fault)


def _category_gains(
    reference: Reference, cells: NDArray[np.int16], phases: NDArray[np.int16]
) -> NDArray[np.float64]:
    """Log evidence that rows from each kept one on have other shares of the cells. Shape (k,).

    The new shares are integrated out (Dirichlet, half a pseudo-count a cell, placed as in the
    reference), so that a few rows are not taken for the truth.
    """
    usual = reference.counts + 0.5 * (reference.counts.sum(axis=0) > 0) + TINY
    usual[:, [0, -1]] += 0.5
    shares = usual / usual.sum(axis=1, keepdims=True)
    prior = 0.5 * (usual.sum(axis=0) > 1.0).sum()
    seen, gains, gained = np.zeros(usual.shape[1]), np.empty(len(cells)), 0.0
    for place in range(len(cells) - 1, -1, -1):
        cell, rows = cells[place], len(cells) - 1 - place
        share = shares[phases[place], cell]
        gained += math.log((seen[cell] + prior * share) / (rows + prior) / share)
        gains[place] = gained
        seen[cell] += 1.0
    return gains


def _gained(log_ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """What bets that began with each of the rows have gained by the last. Shape (k, B)."""
    return np.asarray(np.cumsum(log_ratios[::-1], axis=0)[::-1])


def _start(log_gains: NDArray[np.float64], evidence: float, row: int, far: Start) -> Start:
    """Weighs all rows as starts; those before the kept ones hold what is left of the evidence.

    With a uniform prior over starts, a start's share of the Shiryaev-Roberts sum is its posterior.

    Args:
        log_gains: Log of the weighted ratio since each kept row. Shape (k,).
        evidence: Shiryaev-Roberts sum; 0 where it is not made of these ratios.
        row: Rows seen.
        far: The start, as far as it is known, if it lies before the kept rows.
    """
    first = row - len(log_gains)
    if len(log_gains) == 0 or (evidence == 0.0 and far.row < first):
        return far
    top = float(log_gains.max())
    weights = np.exp(log_gains - top)
    # Ratios are weighed by the pool as it is now: what seems left is noise, unless the running
    # maximum began there too.
    older = 0.0
    if far.row < first:
        older = max(evidence * math.exp(min(-top, 700.0)) - float(weights.sum()), 0.0)
    whole = older + float(weights.sum())
    if older > whole / 2.0:
        return far
    reached = (older + np.cumsum(weights)) / whole
    tail = (1.0 - CERTAINTY) / 2.0
    low = far.low if older > tail * whole else first + int(np.searchsorted(reached, tail))
    high = first + min(int(np.searchsorted(reached, 1.0 - tail)), len(weights) - 1)
    best = first + int(np.argmax(weights))
    return Start(best, min(low, best), max(high, best))


def _far_start(row: int, start: int, peak: float) -> Start:
    """An interval for a start of which only the ratio since then is known.

    Rows are on the other side of the change until they would have told some `SPREAD_NATS`.

    Reference:
        D. V. Hinkley, "Inference about the change-point in a sequence of random variables",
        Biometrika 57 (1970): how far the estimate errs depends on the information a row, alone.
    """
    information = math.log(max(peak, math.e)) / max(row - start, 1)
    spread = math.ceil(SPREAD_NATS / information)
    return Start(start, max(start - spread, 0), min(start + spread, max(row - 1, 0)))


def _bins(
    bank: Bank, stream: int, cells: NDArray[np.int16], phases: NDArray[np.int16]
) -> NDArray[np.int64]:
    """Bins of rows among the pools as they are now. Shape (k,)."""
    pools = bank.of_stream(stream, "counts").astype(np.int64)
    below = np.cumsum(pools, axis=1) - pools
    draws = np.random.default_rng(bank.seed).random(len(cells))
    ranks = (below[phases, cells] + draws * (pools[phases, cells] + 1.0)) / (
        pools.sum(axis=1)[phases] + 1.0
    )
    return np.asarray(np.searchsorted(bets.rank_edges(), ranks, side="right"))


def _shares_then_and_now(
    reference: Reference, cells: NDArray[np.int16], phases: NDArray[np.int16]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the cells in the reference, its phases mixed as now, and in these rows."""
    counts = reference.counts
    usual = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mixed = np.bincount(phases, minlength=len(counts)) / max(len(phases), 1)
    now = np.bincount(cells, minlength=counts.shape[1]) / max(len(cells), 1)
    return np.asarray(mixed @ usual), now


def _median(reference: Reference, shares: NDArray[np.float64]) -> float | None:
    """Median of the values that are not missing, from the shares of their cells."""
    present = shares[1:]
    if reference.whitening is not None or present.sum() <= 0.0:
        return None
    cell = int(np.searchsorted(np.cumsum(present), present.sum() / 2.0))
    edges = reference.edges
    low, high = edges[max(cell - 1, 0)], edges[min(cell, len(edges) - 1)]
    return float(low / 2.0 + high / 2.0)


def _effect(
    reference: Reference, before: NDArray[np.float64], now: NDArray[np.float64]
) -> float | None:
    """Expected mean loss now less that before, by the mean loss of each cell."""
    return float((now - before) @ reference.losses) if len(reference.losses) else None


def _fault(
    reference: Reference, cells: NDArray[np.int16], phases: NDArray[np.int16], start: int
) -> str | None:
    """What looks broken about a stream, of whose kept rows these from `start` on have changed."""
    for first in (start, max(len(cells) - FAULT_ROWS, 0)):
        before, now = _shares_then_and_now(reference, cells[first:], phases[first:])
        for fault, risen, least in _suspicions(reference, before, now):
            if _is_fault(*risen, least, len(cells) - first, reference.rows):
                return fault
    return None


def _suspicions(
    reference: Reference, before: NDArray[np.float64], now: NDArray[np.float64]
) -> list[tuple[str, tuple[float, float], float]]:
    """Faults that a stream may have: name, share of rows then and now, least rise of that share."""
    missing = ("missing", (float(before[0]), float(now[0])), FAULT_SHARE)
    if reference.kind == "categorical":
        return [missing, ("unseen", (float(before[-1]), float(now[-1])), FAULT_SHARE)]
    beyond = (float(before[1] + before[-1]), float(now[1] + now[-1]))
    found = [missing, ("out of range", beyond, FAULT_SHARE)]
    if len(now) > MANY_CELLS:
        cell = int(np.argmax(now - before))
        found.append(("stuck", (float(before[cell]), float(now[cell])), STUCK_SHARE))
    return found


def _is_fault(before: float, now: float, least: float, rows: int, known: int) -> bool:
    """Whether a share rose by at least so much, beyond chance."""
    risen = now - before >= least
    return bool(risen and now * rows * math.log(now / (before + 1.0 / known)) >= FAULT_NATS)
