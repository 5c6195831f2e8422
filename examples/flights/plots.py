"""The plots of the page, as SVG that takes its colours and its font from the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from curves import (
    ALARM,
    INK,
    LINEAR_GAIN,
    PAPER,
    VERSIONS,
    colour_of,
    draw_drift,
    draw_evidence,
    draw_judgements,
    draw_losses,
    draw_weights,
)
from labels import LINE_POINTS, MUTED
from matplotlib.figure import Figure
from narrative import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes

STYLE: Final = {INK: "ink", MUTED: "muted", PAPER: "paper", ALARM: "alarm"} | {
    colour: f"v{place}" for place, colour in enumerate(VERSIONS)
}
"""Variable of the page's style behind each stand-in for a colour."""

WIDTHS: Final = {"wide": 9.6, "narrow": 4.2}
"""Inches of 72 points: a plot is drawn for a desk and for a phone, and the page shows one."""

LEFT: Final = 0.65
LEFT_OF_NAMES: Final = 1.45
RIGHT: Final = 0.15
BOTTOM: Final = 0.3
TOP: Final = 0.1
"""Inches around the axes: the same for all plots over time, so that days lie below each other."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A plot that the page has.

    Args:
        needs: Lists of the figures, of which one must not be empty.
        title: What it shows.
        note: How to read it.
        draw: Draws it and returns how many lines of labels it wrote above.
        height: Of the axes, in inches.
        left: Room for the names of its rows or ticks, in inches.
    """

    needs: tuple[str, ...]
    title: str
    note: str
    draw: Callable[[Axes, Mapping[str, Any]], int]
    height: float
    left: float = LEFT


KINDS: Final = (
    Kind(
        ("loss_by_day",),
        "Loss by day and version",
        "Mean log loss over the labelled flights of a day; lower is better. Solid: answers that "
        "callers got. Dashed: shadow answers to the same requests, which nobody got.",
        draw_losses,
        3.4,
    ),
    Kind(
        ("evidence",),
        "Evidence that the served version has degraded",
        "Each day's labels raise or lower it; it starts anew with each served version. Above the "
        "threshold, which the false-alarm budget sets, the alarm is raised.",
        draw_evidence,
        2.6,
    ),
    Kind(
        ("weights", "evidence"),
        "Who answers",
        "Share of the requests that each version answers.",
        draw_weights,
        1.8,
    ),
    Kind(
        ("judgements",),
        "Challenger against champion",
        "Champion's loss less challenger's on the same flights, as known day by day, with its "
        "confidence sequence. Above 0 the challenger is better, below 0 worse. "
        f"The axis is logarithmic beyond ±{LINEAR_GAIN:g}.",
        draw_judgements,
        3.2,
    ),
    Kind(
        ("drift_by_feature",),
        "What moved",
        "Inputs by their share of the evidence for drift, how far each moved (sd: standard "
        "deviations of the reference), and since when.",
        draw_drift,
        2.4,
        LEFT_OF_NAMES,
    ),
)


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn plot.

    Args:
        title: What it shows.
        note: How to read it.
        svg: By width (`wide`, `narrow`), safe to put into HTML; empty where nothing was recorded.
    """

    title: str
    note: str
    svg: Mapping[str, str]


def colour_name(version: int) -> str:
    """Returns the variable of the page's style with a version's colour."""
    return STYLE[colour_of(version)]


def draw_plots(figures: Mapping[str, Any]) -> list[Plot]:
    """Draws every plot. Cost: about two seconds."""
    return [
        Plot(
            kind.title,
            kind.note,
            {
                name: _svg(f"{kind.needs[0]}-{name}", kind, width, figures)
                for name, width in WIDTHS.items()
                if any(listed(figures, key) for key in kind.needs)
            },
        )
        for kind in KINDS
    ]


def _svg(name: str, kind: Kind, width: float, figures: Mapping[str, Any]) -> str:
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    rules: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text, in the page's font
        "svg.hashsalt": name,
        "text.parse_math": False,  # a stream may be called `$`
        "axes.unicode_minus": True,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    } | dict.fromkeys(inked, INK)
    with mpl.rc_context(rules):
        figure = Figure(figsize=(width, kind.height))
        axes = figure.subplots()
        above = TOP + kind.draw(axes, figures) * LINE_POINTS / 72
        height = kind.height + BOTTOM + above
        figure.set_size_inches(width, height)
        figure.subplots_adjust(
            kind.left / width, BOTTOM / height, 1 - RIGHT / width, 1 - above / height
        )
        text = StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=no_metadata)
    return _inlined(text.getvalue(), name)


def _inlined(svg: str, name: str) -> str:
    """Without prologue, namespaces and fixed size; ids in use become the plot's own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in STYLE.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
