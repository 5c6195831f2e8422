"""Where to put the threshold so that dependent rows keep the budget, and whether that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ciclo_drift.bank import Bank
    from ciclo_drift.rows import Rows

NUMERIC_SLACK = 0.78
"""e^-.25: on independent numbers the sum overshoots its threshold, so a lower one keeps the budget.
Categories overshoot too little for that."""

CAUTION = 1.5
"""Dependent rows aim at this many times the budget, and at more by the number of times that the
reference fits into it: a reference of 90 days holds no day that comes once a year."""

SEGMENTS = 64
"""Resampled histories of which the largest evidence is taken."""

LARGEST_LOG = 700.0
"""Evidence beyond e^700 has no double: such a threshold is never reached, and the certificate says
that the reference promises nothing."""

FEW_SEGMENTS = 16
"""The same where the budget cannot be promised anyway: the threshold is then an indication."""

EFFORT = 5_000_000
"""Rows times streams that one calibration may simulate, some seconds."""

BLOCK_KAPPAS = 24
"""Length of a resampled block in units of kappa, where no blocks were declared."""

LEAST_INDEPENDENT = 100
"""Rows over kappa below which a reference certifies nothing."""

LEAST_BLOCKS = 20
"""Declared blocks below which a reference certifies nothing."""

REACH_ROWS = 2.0
"""Dependent rows: a budget of at most this many lengths of the reference is certified."""

REACH_BLOCKS = 1.0
"""The same where blocks were declared: a year is not promised on a quarter of one. Measured at
four lengths: up to 3.5 times the budget."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether a reference is long enough to promise a budget.

    Args:
        certified: It is. If not: report, do not trigger.
        rows_needed: Rows that would do; those of the reference where it is certified.
        reason: One sentence for an operator.
        longest_rows: The largest budget that the reference can promise; infinite where rows are
            independent, 0 where it can promise none.
    """

    certified: bool
    rows_needed: int
    reason: str
    longest_rows: float


def certify(
    *,
    rows: int,
    kappa: float,
    dependent: bool,
    still_grows: bool,
    blocks: int | None,
    budget_rows: float,
) -> Certificate:
    """Says whether a reference of `rows` rows can promise `budget_rows` between false alarms.

    Args:
        rows: Rows of the reference.
        kappa: Its dependence ratio, after whitening.
        dependent: Whether its threshold is resampled: rows depend, did so before whitening, or
            blocks were declared.
        still_grows: Whether that still grows at the longest blocks that it holds.
        blocks: Declared time blocks in it; None where none were declared.
        budget_rows: Mean number of rows between false alarms.

    Example:
        >>> found = certify(
        ...     rows=500, kappa=9.0, dependent=True, still_grows=False, blocks=None, budget_rows=1e3
        ... )
        >>> found.reason
        'budget not certifiable: needs about 900 rows (rows depend on each other, kappa 9.0)'
    """
    needed, cause = rows, ""
    if rows < LEAST_INDEPENDENT * kappa:
        needed, cause = math.ceil(LEAST_INDEPENDENT * kappa), "rows depend on each other"
    if blocks is not None and blocks < LEAST_BLOCKS:
        needed = max(needed, math.ceil(rows / blocks * LEAST_BLOCKS))
        cause = f"{blocks} blocks seen, {LEAST_BLOCKS} needed"
    if still_grows:
        needed, cause = max(needed, 4 * rows), "memory longer than the reference can measure"
    reach = REACH_BLOCKS if blocks is not None else REACH_ROWS
    longest = 0.0 if cause else reach * rows if dependent else math.inf
    if dependent and budget_rows > reach * rows:
        needed = max(needed, math.ceil(budget_rows / reach))
        cause = cause or "budget beyond reference"
    if not cause:
        return Certificate(True, rows, f"certified on {rows} rows, kappa {kappa:.1f}", longest)
    reason = f"budget not certifiable: needs about {needed} rows ({cause}, kappa {kappa:.1f})"
    return Certificate(False, needed, reason, longest)


def independent_threshold(kinds: Iterable[str], budget_rows: float) -> float:
    """Threshold for independent rows of streams of these kinds.

    Example:
        >>> independent_threshold(["numeric"], 1_000.0)
        780.0
    """
    slack = NUMERIC_SLACK if all(kind == "numeric" for kind in kinds) else 1.0
    return slack * budget_rows


def moving_blocks(rows: int, kappa: float) -> NDArray[np.int64]:
    """Starts of equal blocks to resample where none were declared. Shape (B,)."""
    length = min(max(math.ceil(BLOCK_KAPPAS * kappa), 1), max(rows // LEAST_BLOCKS, 1))
    return np.arange(0, rows - length + 1, length, dtype=np.int64)


def thresholds_for(
    bank: Bank,
    rows: Rows,
    starts: NDArray[np.int64] | None,
    budgets_rows: Sequence[float],
    seed: int,
    segments: int = SEGMENTS,
) -> list[float]:
    """Thresholds of streams with these reference rows: resampled where rows depend.

    Args:
        bank: The streams; its state is lost.
        rows: The reference rows, in time order. Length m.
        starts: First row of each declared block, shape (B,); None where none were declared.
        budgets_rows: Mean numbers of rows between false alarms.
        seed: Seed of the draws.
        segments: Histories that are resampled.
    """
    if starts is None and not bank.depends:
        kinds = [reference.kind for reference in bank.references]
        return [independent_threshold(kinds, budget) for budget in budgets_rows]
    pieces = moving_blocks(len(rows), bank.kappa) if starts is None else starts
    return calibrate(bank, rows, pieces, budgets_rows, seed, segments)


def calibrate(
    bank: Bank,
    rows: Rows,
    starts: NDArray[np.int64],
    budgets_rows: Sequence[float],
    seed: int,
    segments: int = SEGMENTS,
) -> list[float]:
    """Finds thresholds by resampling whole blocks of the reference.

    Each of some histories draws blocks with replacement twice: once for the pool, so that the
    reference is uncertain as it is in life, and once for the rows that follow. The largest
    evidence in a history follows a Gumbel law on the log scale; its fit, carried to the budget
    and a `CAUTION` beyond, gives the threshold. Blocks are drawn for all streams at once.

    Args:
        bank: The streams; its state is lost.
        rows: The reference rows, in time order. Length m.
        starts: First row of each block. Shape (B,).
        budgets_rows: Mean numbers of rows between false alarms.
        seed: Seed of the draws.
        segments: Histories.

    Returns:
        One threshold a budget, never below that for independent numbers.

    Reference:
        E. J. Gumbel, "Statistics of extremes" (1958); H. R. Kuensch, "The jackknife and the
        bootstrap for general stationary observations", Annals of Statistics 17 (1989).
    """
    rng = np.random.default_rng(seed)
    ends = np.append(starts[1:], len(rows))
    mean_rows = len(rows) / len(starts)
    wanted = min(EFFORT / segments / len(rows.codes), max(budgets_rows))
    length = max(math.ceil(wanted / mean_rows), 8)
    tops = np.array(
        [_largest_log_evidence(bank, rows, starts, ends, length, rng) for _ in range(segments)]
    )
    scale = float(tops.std(ddof=1)) * math.sqrt(6.0) / math.pi
    place = float(tops.mean()) - np.euler_gamma * scale
    aims = [CAUTION * budget * max(1.0, budget / len(rows)) for budget in budgets_rows]
    spans = [aim / (length * mean_rows) for aim in aims]
    return [
        max(math.exp(min(place + scale * math.log(span), LARGEST_LOG)), NUMERIC_SLACK * budget)
        for span, budget in zip(spans, budgets_rows, strict=True)
    ]


def _largest_log_evidence(
    bank: Bank,
    rows: Rows,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    length: int,
    rng: np.random.Generator,
) -> float:
    """Largest log evidence in one resampled history of `length` blocks."""
    pool = _gather(rows, starts, ends, rng.integers(0, len(starts), len(starts)))
    live = _gather(rows, starts, ends, rng.integers(0, len(starts), length))
    bank.refill(pool, int(rng.integers(0, 2**62)))
    return math.log(max(float(bank.run(live, grow=True).max()), 1e-300))


def _gather(
    rows: Rows, starts: NDArray[np.int64], ends: NDArray[np.int64], drawn: NDArray[np.int64]
) -> Rows:
    """The rows of the drawn blocks, one block after the other."""
    return rows.take(np.concatenate([np.arange(starts[b], ends[b]) for b in drawn]))
