"""An estimate of quality without labels, the limits of its validity, and its interval."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.special import stdtrit

from ciclo_drift.blocks import TINY, BlockSums, require_between
from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRETCHES = 40
"""Stretches of time over which the reference's noise is measured: enough for a t interval (2 %
wider than a normal one), few enough to be kept."""

LEAST_STRETCHES = 5
"""Declared blocks below which nothing can be said about how much blocks differ."""

LEAST_REFERENCE = 200
"""Rows below which there is no reference."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a metric is thought to be on rows whose labels are not known.

    Args:
        metric: Its name.
        value: The estimate. NaN without rows.
        lower: Lower end of the interval in which the metric of these very rows, once labelled,
            lies with the stated probability, as long as `valid`.
        upper: Upper end.
        rows: Rows that it is about.
        effective_rows: Reference rows that bear it: few where live rows lie where the reference
            had few.
        outside: Share of rows with an input that the reference never had.
        valid: Nothing speaks against it.
        reason: What does; empty where `valid`.
    """

    metric: str
    value: float
    lower: float
    upper: float
    rows: int
    effective_rows: float
    outside: float
    valid: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """When an estimate is valid.

    Args:
        level: Probability with which an interval holds. In [0.5, 0.999].
        least_rows: Rows below which nothing is estimated. >= 1.
        least_effective: Reference rows that must bear an estimate. >= 1.
        most_outside: Largest share of rows outside the reference. In [0, 1].
        tolerance: Mean difference of realised and expected that does not matter. Unit of the
            loss, >= 0.
        budget_blocks: Mean number of matured blocks, or of reconciled windows, between
            objections that are false. In [10, 1e8].

    Raises:
        DriftInputError: A limit is out of range.
    """

    level: float = 0.95
    least_rows: int = 100
    least_effective: float = 100.0
    most_outside: float = 0.05
    tolerance: float = 0.0
    budget_blocks: float = 1_000.0

    def __post_init__(self) -> None:
        require_between("level", self.level, 0.5, 0.999)
        require_between("least_rows", self.least_rows, 1, 1e12)
        require_between("least_effective", self.least_effective, 1.0, 1e12)
        require_between("most_outside", self.most_outside, 0.0, 1.0)
        require_between("tolerance", self.tolerance, 0.0, math.inf)
        require_between("budget_blocks", self.budget_blocks, 10.0, 1e8)

    def array(self) -> NDArray[np.float64]:
        """The limits for a snapshot. Shape (6,)."""
        return np.array(astuple(self))

    @classmethod
    def of(cls, array: NDArray[np.generic]) -> Self:
        """The limits that `array` was made from."""
        level, rows, *others = (float(value) for value in array)
        return cls(level, int(rows), *others)


DEFAULT_LIMITS = Limits()
"""Limits that suit windows of some hundred rows and more."""


def stretches(rows: int, blocks: NDArray[np.generic] | None) -> NDArray[np.int64]:
    """Numbers the stretch of time that each reference row belongs to. Shape (rows,).

    Declared blocks stay whole; without them rows in time order are cut into equal stretches.

    Args:
        rows: Reference rows. >= LEAST_REFERENCE.
        blocks: Id of each row's time block, growing with time. Shape (rows,). None: none
            declared.

    Raises:
        DriftInputError: Too few rows or blocks, or shapes differ.

    Example:
        >>> np.bincount(stretches(400, None))[:3]
        array([10, 10, 10])
    """
    if rows < LEAST_REFERENCE:
        raise DriftInputError("reference", f"{rows} rows", f"at least {LEAST_REFERENCE}")
    count, place = rows, np.arange(rows)
    if blocks is not None:
        if np.shape(blocks) != (rows,):
            raise DriftInputError("blocks", f"shape {np.shape(blocks)}", f"shape ({rows},)")
        found, place = np.unique(blocks, return_inverse=True)
        count = len(found)
    if count < LEAST_STRETCHES:
        expected = f"at least {LEAST_STRETCHES}, or None for independent rows"
        raise DriftInputError("blocks", f"{count} blocks", expected)
    return np.asarray(place * min(count, STRETCHES) // count, dtype=np.int64)


def spread(sums: NDArray[np.float64]) -> float:
    """Variance of a total from its sums over stretches. Shape (B,), mean about 0."""
    return float((sums**2).sum() * len(sums) / (len(sums) - 1))


def design_effect(sums: BlockSums, variance: float) -> float:
    """Variance of a summed error over that of independent rows, `variance`; >= 1."""
    centred = sums.totals - sums.rows * (sums.totals.sum() / sums.rows.sum())
    return max(1.0, spread(centred) / max(variance, TINY))


def half_width(variance: float, level: float, stretches_seen: int) -> float:
    """Half of a Student t interval whose variance was measured over stretches."""
    return float(stdtrit(stretches_seen - 1, (1.0 + level) / 2.0)) * math.sqrt(variance)


def bearing_rows(live: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Reference rows that bear a mean over live rows: Kish's effective sample size.

    Args:
        live: Live rows of each cell. Shape (C,), not all 0.
        reference: Reference rows of each cell. Shape (C,). Cells without one bear nothing.

    Reference:
        L. Kish, "Survey sampling" (1965), ch. 11.
    """
    borne = reference > 0
    whole = float(live[borne].sum())
    return whole**2 / float((live[borne] ** 2 / reference[borne]).sum()) if whole else 0.0
