"""Delay against run length, as SVG: equal figures give equal bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from tests.benchmarks.drift import streams
from tests.benchmarks.drift.run_length import LEAST_FOUND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.benchmarks.drift.run_length import Curve

SETTINGS = {
    "svg.fonttype": "none",  # text stays text, no font is embedded
    "svg.hashsalt": "ciclo",  # ids are drawn from it, else at random
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

RUN_LENGTHS = (300, 40_000)
"""What is drawn: below, few runs reach the change; above, false alarms are too few to count."""

POINTS = 12
"""Points of a curve: more are not seen, and make a large file."""


def draw(measured: Sequence[tuple[str, Mapping[str, Curve]]], target: Path) -> None:
    """Draws a panel for each change, a curve for each method.

    Args:
        measured: As `delays.plot` returns it.
        target: The SVG.
    """
    methods = list(dict.fromkeys(method for method, _ in measured))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(10.0, 6.4), layout="constrained")
        panels = figure.subplots(2, 3).flat
        colors = [mpl.colormaps["tab20"](number % 20) for number in range(len(methods))]
        for change, axes in zip(streams.CHANGES, panels, strict=False):
            for method, color in zip(methods, colors, strict=True):
                x, y = _points([c[change] for m, c in measured if m == method])
                axes.plot(x, y, color=color, linewidth=1.2, label=method)
            axes.set(xscale="log", yscale="log", title=change)
            axes.minorticks_off()  # most of the file, else
            axes.set(xlabel="mean rows between false alarms", ylabel="mean rows to the alarm")
        legend = panels_after(figure, len(streams.CHANGES))
        legend.legend(*figure.axes[0].get_legend_handles_labels(), loc="center", frameon=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, metadata={"Date": None, "Creator": None})


def _points(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """The points worth drawing: changes were found, run lengths are known."""
    x, y = (np.concatenate([getattr(c, name) for c in curves]) for name in ("run_length", "delay"))
    found = np.concatenate([c.found for c in curves])
    order = np.argsort(x, kind="stable")
    low, high = RUN_LENGTHS
    kept = order[(found[order] >= LEAST_FOUND) & (x[order] >= low) & (x[order] <= high)]
    if len(kept) > POINTS:
        kept = kept[np.linspace(0, len(kept) - 1, POINTS).astype(int)]
    return x[kept], y[kept]


def panels_after(figure: Figure, used: int):
    """The first panel that is left over, emptied."""
    for axes in figure.axes[used:]:
        axes.set_axis_off()
    return figure.axes[used]
