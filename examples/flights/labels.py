"""Labels above a plot, each tied by a line to its time and placed where it covers no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from narrative import short_day

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from matplotlib.axes import Axes

MUTED: Final = "#020202"
"""Stands in for the page's colour of what is less important."""

LINE_POINTS: Final = 12
"""Height of a line of labels."""

LETTER_POINTS: Final = 5.2
"""Room that a letter takes, on average: the page's font is not known here."""


class Label(NamedTuple):
    """A text above the axes, tied to a time by a line."""

    time: datetime
    text: str
    colour: str


def day_number(time: datetime) -> float:
    """Returns days since 1970-01-01T00:00:00Z: the unit of a time axis."""
    return time.timestamp() / 86_400


def stack(axes: Axes, labels: Sequence[Label]) -> int:
    """Writes labels above the axes, each in the lowest line with room; returns how many lines.

    In the left half a text begins at its time, in the right half it ends there; those in the
    middle lie lowest, so that few texts are in the way of another's line down to the axes.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    start, end = axes.get_xlim()
    letters = (figure.get_figwidth() - 0.8) * 72 / LETTER_POINTS  # that fit across
    placed = sorted(((day_number(label.time) - start) / (end - start), label) for label in labels)
    left = [item for item in placed if item[0] <= 0.5]
    right = [item for item in placed if item[0] > 0.5]
    lines: list[list[tuple[float, float]]] = []  # what is taken of each
    for place, label in right + left[::-1]:
        text = f"{short_day(label.time.isoformat())} {label.text}"
        is_left, width = place <= 0.5, (len(text) + 1) / letters
        taken = (place, place + width) if is_left else (place - width, place)
        line = _free_line(lines, taken, place)
        lines += [[] for _ in range(line + 1 - len(lines))]
        lines[line].append(taken)
        for below in lines[:line]:
            below.append((place, place))
        _write(axes, label, text, place, line)
    return len(lines)


def _free_line(
    lines: Sequence[Sequence[tuple[float, float]]], text: tuple[float, float], place: float
) -> int:
    for line, taken in enumerate(lines):
        if not any(low < text[1] and text[0] < high for low, high in taken):
            below = [span for each in lines[:line] for span in each]
            if not any(low < place < high for low, high in below):
                return line
    return len(lines)


def _write(axes: Axes, label: Label, text: str, place: float, line: int) -> None:
    foot = 5 + LINE_POINTS * line
    side = "left" if place <= 0.5 else "right"
    axes.annotate(
        text, (place, 1), (3 if side == "left" else -3, foot), ha=side,
        xycoords="axes fraction", textcoords="offset points", color=label.colour,
    )  # fmt: skip
    axes.annotate(
        "", (place, 1), (0, foot + 8), xycoords="axes fraction", textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.8, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
