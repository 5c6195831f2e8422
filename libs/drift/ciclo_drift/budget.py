"""What an operator allows: so many false alarms in so many rows, and what was spent of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from scipy.special import gammaincinv

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3_600.0,
    "day": 86_400.0,
    "week": 7 * 86_400.0,
    "month": 365.25 / 12 * 86_400.0,
    "year": 365.25 * 86_400.0,
}
"""Length of the units of time that a budget may name."""

PATTERN = re.compile(r"([\d_,.]+(?:e\d+)?) per (?:([\d_,.]+(?:e\d+)?) )?([a-z]+?)s?")
"""A budget in words: alarms, a number, a unit."""

EXPECTED = "so many alarms per so many rows or days, such as '1 per 100000 rows' or '2 per year'"
"""How a budget is written."""

LEAST_ROWS = 10.0
"""Rows between false alarms below which no detector can be set."""


@dataclass(frozen=True, slots=True)
class Budget:
    """False alarms that are allowed per rows or per time.

    Args:
        alarms: Number of false alarms. > 0.
        per: In so many rows, or seconds. > 0.
        timed: Whether `per` is in seconds.

    Raises:
        DriftInputError: A number is not above 0.

    Example:
        >>> Budget.parse("1 per 100000 rows").rows()
        100000.0
        >>> Budget.parse("2 per 30 days").rows(row_rate=0.01)
        12960.0
    """

    alarms: float
    per: float
    timed: bool = False

    def __post_init__(self) -> None:
        if not (0.0 < self.alarms < math.inf and 0.0 < self.per < math.inf):
            found = f"{self.alarms:g} per {self.per:g}"
            raise DriftInputError("budget", found, f"numbers above 0: {EXPECTED}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads a budget: `1 per 100000 rows`, `1 per 30 days`, `2 per year`.

        Raises:
            DriftInputError: It is written otherwise.
        """
        match = PATTERN.fullmatch(" ".join(text.lower().split()))
        unit = match[3] if match else ""
        if match is None or unit not in {"row", *SECONDS}:
            raise DriftInputError("budget", repr(text), EXPECTED)
        alarms, count = _number(match[1], text), _number(match[2] or "1", text)
        return cls(alarms, count * SECONDS.get(unit, 1.0), unit != "row")

    @classmethod
    def of(cls, given: object) -> Budget:
        """A budget as it is, in words, or as a number of rows between false alarms.

        Raises:
            DriftInputError: Something else, or as for `parse`.
        """
        if isinstance(given, Budget):
            return given
        if isinstance(given, str):
            return cls.parse(given)
        if isinstance(given, Real) and not isinstance(given, bool):
            return cls(1.0, float(given))
        raise DriftInputError("budget", f"a {type(given).__name__}", f"{EXPECTED}, or so many rows")

    def __str__(self) -> str:
        return f"{self.alarms:g} per {self.per:.12g} {'seconds' if self.timed else 'rows'}"

    def rows(self, row_rate: float | None = None) -> float:
        """Mean number of rows between false alarms.

        Args:
            row_rate: Rows a second, for a budget per time.

        Raises:
            DriftInputError: The budget is per time and no rate is known, or fewer than 10 rows.
        """
        if self.timed and not (row_rate is not None and 0.0 < row_rate < math.inf):
            found = "alarms per time, and no rate of rows is known"
            raise DriftInputError("budget", found, "times of the rows, or a budget in rows")
        rows = self.per / self.alarms * ((row_rate or 1.0) if self.timed else 1.0)
        if rows < LEAST_ROWS:
            found = f"an alarm every {rows:.3g} rows"
            raise DriftInputError("budget", found, f"one every {LEAST_ROWS:.0f} rows or fewer")
        return rows


@dataclass(frozen=True, slots=True)
class Spending:
    """Alarms beside the false alarms that the budget allows.

    Args:
        budget_rows: Mean number of rows between false alarms, as stated.
        rows: Rows watched.
        alarms: Alarms raised, each change counted once, and each rise of the mean loss.
        by_stream: Alarms of each stream, its shares of the evidence summed; and of the loss, by
            its name.

    Example:
        >>> spent = Spending(1_000.0, 3_000, 2, {"speed": 1.5, "fuel": 0.5})
        >>> spent.allowed, round(spent.ratio, 2), [round(end, 2) for end in spent.interval]
        (3.0, 0.67, [0.08, 2.41])

    Reference:
        F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936).
    """

    budget_rows: float
    rows: int
    alarms: int
    by_stream: Mapping[str, float]

    @property
    def allowed(self) -> float:
        """False alarms that the budget allows in these rows, on average."""
        return self.rows / self.budget_rows

    @property
    def ratio(self) -> float:
        """Alarms over those allowed; NaN before the first row."""
        return self.alarms / self.allowed if self.rows else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of `ratio`, were alarms a Poisson process."""
        if not self.rows:
            return 0.0, math.inf
        low = float(gammaincinv(self.alarms, 0.025)) if self.alarms else 0.0
        return low / self.allowed, float(gammaincinv(self.alarms + 1, 0.975)) / self.allowed


def _number(text: str, whole: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise DriftInputError("budget", repr(whole), EXPECTED) from None
