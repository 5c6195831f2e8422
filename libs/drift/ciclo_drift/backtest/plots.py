"""The plots of the page, as SVG that takes its colours and its font from the page."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ciclo_drift.backtest.result import Backtest, Picture

COLOURS = {"#010101": "ink", "#020202": "muted", "#030303": "then", "#040404": "alarm"}
"""Stand-ins that matplotlib draws with, and the variable of the page that replaces each."""

INK, MUTED, THEN, ALARM = COLOURS

LEAST_EVIDENCE = 1.0
"""Where the axis of the evidence ends: less says nothing."""

MARKED = 60
"""Changes that are marked: the first ones."""

NAME_LENGTH = 22
"""Letters of a category's name that are shown."""


def evidence_plot(found: Backtest) -> str:
    """Evidence against the threshold over the rows of the stream, as SVG."""
    figure, axes = _figure(9.6, 3.0)
    rows, evidence = found.trace[:, 0], found.trace[:, 1]
    top = max(found.threshold, float(np.nanmax(evidence)))
    axes.plot(rows, np.maximum(evidence, LEAST_EVIDENCE), color=THEN, linewidth=1.1)
    axes.axhline(found.threshold, color=ALARM, linewidth=1.0, linestyle=(0, (5, 3)))
    axes.set_yscale("log")
    axes.set_ylim(LEAST_EVIDENCE, top * 9.0)
    axes.set_xlim(0, found.rows)
    axes.text(0, found.threshold * 1.25, " alarm", color=ALARM, va="bottom", fontsize=9)
    for number, episode in enumerate(found.episodes[:MARKED], start=1):
        axes.plot(episode.first_row, top * 1.6, "v", color=ALARM, markersize=6)
        axes.text(
            episode.first_row,
            top * 2.6,
            str(number),
            color=INK,
            fontsize=9,
            weight="bold",
            ha="center",
        )
    axes.set_xlabel("row of the stream", color=MUTED)
    axes.set_ylabel("evidence", color=MUTED)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return _svg(figure, "evidence")


def distribution_plot(picture: Picture) -> str:
    """A stream then and now, as SVG."""
    figure, axes = _figure(4.4, 2.5)
    if isinstance(picture.places, tuple):
        _draw_categories(axes, picture)
    else:
        _draw_numbers(axes, picture)
    return _svg(figure, f"{picture.episode} {picture.stream}")


def _draw_numbers(axes: Axes, picture: Picture) -> None:
    edges = np.asarray(picture.places)
    axes.stairs(picture.before[:-1], edges, fill=True, color=THEN, alpha=0.35)
    axes.stairs(picture.now[:-1], edges, color=ALARM, linewidth=1.6)
    axes.set_ylim(0, 1.08 * max(picture.before[:-1].max(), picture.now[:-1].max(), 1e-9))
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.yaxis.set_major_formatter(_percent)


def _draw_categories(axes: Axes, picture: Picture) -> None:
    names = [*picture.places, "(missing)"]
    shares = np.stack([picture.before, picture.now])
    kept = [bar for bar in range(len(names)) if shares[:, bar].max() > 0.0]
    places = np.arange(len(kept), dtype=np.float64)
    axes.barh(places - 0.2, shares[0, kept], height=0.38, color=THEN, alpha=0.45)
    axes.barh(places + 0.2, shares[1, kept], height=0.38, color=ALARM, alpha=0.85)
    axes.set_yticks(places, [_short(str(names[bar])) for bar in kept])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(_percent)


def _percent(value: float, _: float) -> str:
    return f"{100 * value:.3g} %"


def _short(name: str) -> str:
    name = name.replace("$", r"\$")
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure that is drawn without a screen or a global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    """The figure as an element of a page: no date, no address, colours by name."""
    import matplotlib as mpl

    written = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
