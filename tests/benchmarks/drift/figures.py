"""Figures beside their targets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached and what is aimed at.

    Args:
        must: Bound that must be kept.
        aim: Bound that is aimed at; None where there is none.
        at_least: Whether these are lower bounds.
        upper: Whether the upper end of the 95 % interval is judged, not the value.
        aim_from: Value below which an aim that is an upper bound is not reached either.
    """

    must: float
    aim: float | None = None
    at_least: bool = False
    upper: bool = False
    aim_from: float | None = None

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        aim = "" if self.aim is None else f", aim {sign} {self.aim:,.4g}"
        if self.aim_from is not None:
            aim += f" and value >= {self.aim_from:g}"
        return f"{'upper 95 % ' if self.upper else ''}{sign} {self.must:,.4g}{aim}"

    def keeps(self, bound: float | None, value: float) -> bool:
        """Whether a value keeps one of the bounds."""
        if bound is None:
            return False
        return value >= bound if self.at_least else value <= bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that was measured.

    Args:
        part: Section that it belongs to.
        name: What it is.
        value: The number; None if there is none, for the reason in `note`.
        unit: Its unit; empty for a ratio.
        interval: 95 % interval, where it is known.
        note: What a reader must know beside it.
        target: What it is judged by, if anything.
        is_flagged: Whether the library had said beforehand that it cannot promise this.
    """

    part: str
    name: str
    value: float | None
    unit: str = ""
    interval: Interval | None = None
    note: str = ""
    target: Target | None = None
    is_flagged: bool = False

    @property
    def verdict(self) -> str:
        """`aim`, `ok`, `MISS`, `flagged` (missed, as said beforehand); nothing without a target."""
        if self.target is None:
            return ""
        judged = self.interval[1] if self.target.upper and self.interval else self.value
        if judged is None or self.value is None:
            return "MISS"
        low = self.target.aim_from
        if self.target.keeps(self.target.aim, judged) and (low is None or self.value >= low):
            return "aim"
        if self.target.keeps(self.target.must, judged):
            return "ok"
        return "flagged" if self.is_flagged else "MISS"

    @property
    def measured(self) -> str:
        """The number with its interval, for a reader."""
        if self.value is None:
            return self.note
        spread = ""
        if self.interval is not None:
            spread = " ({} to {})".format(*(short(end) for end in self.interval))
        return f"{short(self.value)}{spread}{' ' if self.unit else ''}{self.unit}"

    def as_json(self) -> dict[str, Any]:
        """What the report holds."""
        told = asdict(self) | {"verdict": self.verdict}
        return told | {"target": None if self.target is None else str(self.target)}


def short(value: float) -> str:
    """Three figures, or all of a large number.

    Example:
        >>> short(0.8251), short(72.31), short(235_118.4)
        ('0.825', '72.3', '235,000')
    """
    if abs(value) < 1_000.0:
        return f"{value:.3g}"
    digits = len(str(int(abs(value)))) - 3
    return f"{round(value, -digits):,.0f}"
