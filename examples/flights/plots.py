"""The plots of the page, as SVG that takes its colours and its font from the page."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, date2num, num2date
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from narrative import finite, instant, listed, moments, short_day

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from narrative import Moment

INK: Final = "#010101"
MUTED: Final = "#020202"
PAPER: Final = "#030303"
ALARM: Final = "#040404"
VERSIONS: Final = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05", "#0a0a06")
"""Stand-ins: each becomes a variable of the page's style, so that a plot follows light and dark."""

STYLE: Final = {INK: "ink", MUTED: "muted", PAPER: "paper", ALARM: "alarm"} | {
    colour: f"v{place}" for place, colour in enumerate(VERSIONS)
}
"""Name of the style variable of each stand-in."""

WIDTHS: Final = {"wide": 9.6, "narrow": 4.9}
"""Inches of 72 points: a plot is drawn for a desk and for a phone, and the page shows one."""

FEATURES_SHOWN: Final = 10
"""Streams in the plot of drift, strongest first."""

LETTER_POINTS: Final = 6.0
"""Room that a letter takes at most, on average: the page's font is not known here."""

TIMES: Final = {
    "loss_by_day": "day",
    "evidence": "event_time",
    "weights": "event_time",
    "judgements": "event_time",
}
"""Where each list says its event time."""

EVIDENCE_FLOOR: Final = 0.1
"""Evidence is often exactly 0, which a logarithmic axis cannot show."""


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
    """Returns the style variable of a version's colour: six of them, in turn."""
    return STYLE[_colour(version)]


def draw_plots(figures: Mapping[str, Any]) -> list[Plot]:
    """Draws every plot. Cost: about a second."""
    kinds: list[tuple[str, str, str, Callable[[Axes, Mapping[str, Any]], None], float]] = [
        ("loss_by_day", "Loss by day and version", _LOSS, _draw_losses, 3.6),
        ("evidence", "Evidence that the served version has degraded", _EVIDENCE, _draw_evidence, 3),
        ("weights", "Who answers", _WEIGHTS, _draw_weights, 2.4),
        ("judgements", "Challenger against champion", _JUDGED, _draw_judgements, 3.2),
        ("drift_by_feature", "What moved", _DRIFT, _draw_drift, 2.8),
    ]
    return [
        Plot(title, note, _both(key, draw, height, figures) if listed(figures, key) else {})
        for key, title, note, draw, height in kinds
    ]


_LOSS = (
    "Mean log loss over the labelled flights of a day; lower is better. Solid: answers that "
    "callers got. Dashed: shadow answers to the same requests, seen by nobody."
)
_EVIDENCE = (
    "Each day's labels raise or lower it; it starts anew with each served version. Above the "
    "threshold, which the false-alarm budget sets, the alarm is raised."
)
_WEIGHTS = "Share of the requests that each version answers."
_JUDGED = (
    "Champion's loss less challenger's on the same flights, with its confidence sequence. Above "
    "0 the challenger is better, below 0 worse; it is acted upon when the whole band is."
)
_DRIFT = "Inputs by their share of the evidence for drift, with size, direction and beginning."


def _both(
    name: str, draw: Callable[[Axes, Mapping[str, Any]], None], height: float, figures: Any
) -> dict[str, str]:
    return {
        width: _svg(f"{name}-{width}", draw, (inches, height), figures)
        for width, inches in WIDTHS.items()
    }


def _svg(name: str, draw: Callable[..., None], size: tuple[float, float], figures: Any) -> str:
    rules = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    } | dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    )
    with mpl.rc_context(rules):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots(), figures)
        text = StringIO()
        figure.savefig(
            text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    return _inlined(text.getvalue(), name)


def _inlined(svg: str, name: str) -> str:
    """Without prologue, namespaces and fixed size; ids that are used are made the page's own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r' height="[^"]*pt"', "", svg, count=1))
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg
    )
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in STYLE.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg


def _draw_losses(axes: Axes, figures: Mapping[str, Any]) -> None:
    series: dict[tuple[int, bool], list[tuple[datetime, float]]] = {}
    for row in listed(figures, "loss_by_day"):
        if day := instant(row["day"]):
            series.setdefault((row["version"], row["served"]), []).append((day, finite(row["loss"])))
    for (version, served), points in sorted(series.items()):
        times, values = _with_gaps(sorted(points))
        axes.plot(
            times, values, color=_colour(version), linestyle="-" if served else (0, (3, 1.5)), lw=1.6
        )
    ends = [(points[-1], key) for key, points in series.items()]
    for (time, value), (version, served) in ends:
        _say(axes, time, value, f"version {version}{'' if served else ', shadow'}", _colour(version))
    axes.set_ylabel("log loss")
    _mark(axes, figures, labelled=True)


def _draw_evidence(axes: Axes, figures: Mapping[str, Any]) -> None:
    rows = [row for row in listed(figures, "evidence") if instant(row["event_time"])]
    for version in sorted({row["version"] for row in rows}):
        points = [
            (instant(row["event_time"]), max(finite(row["performance"]), EVIDENCE_FLOOR))
            for row in rows
            if row["version"] == version
        ]
        axes.plot([p[0] for p in points], [p[1] for p in points], color=_colour(version), lw=1.6)
        if points:
            _say(axes, points[-1][0], points[-1][1], f"version {version}", _colour(version))
    axes.set_yscale("log")
    threshold = finite(rows[-1]["threshold"]) if rows else math.nan
    if math.isfinite(threshold):
        axes.axhline(threshold, color=ALARM, linestyle="--", lw=1.2)
        axes.annotate(
            f"threshold {threshold:g}", (1, threshold), (0, 3), ha="right", color=ALARM,
            xycoords=("axes fraction", "data"), textcoords="offset points",
        )  # fmt: skip
    axes.set_ylabel("evidence")
    _mark(axes, figures)


def _draw_weights(axes: Axes, figures: Mapping[str, Any]) -> None:
    start, end = _span(figures)
    changes = [
        (max(instant(row["event_time"]) or start, start), row["weights"])
        for row in listed(figures, "weights")
    ]
    changes.append((max(end, changes[-1][0]), changes[-1][1]))
    times = [date2num(time) for time, _ in changes]
    floor = [0.0] * len(changes)
    for version in sorted({int(name) for _, weights in changes for name in weights}):
        shares = [finite(weights.get(str(version), 0)) for _, weights in changes]
        ceiling = [low + share for low, share in zip(floor, shares, strict=True)]
        axes.fill_between(times, floor, ceiling, step="post", color=_colour(version), alpha=0.75, lw=0)
        spans = [(b - a, a, place) for place, (a, b) in enumerate(pairwise(times))]
        width, left, place = max((span for span in spans if shares[span[2]] > 0), default=(0, 0, 0))
        if width and shares[place] > 0.2:
            axes.text(
                left + width / 2, floor[place] + shares[place] / 2, f"version {version}",
                ha="center", va="center", color=PAPER, fontweight="bold", clip_on=True,
            )  # fmt: skip
        floor = ceiling
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    _mark(axes, figures)


def _draw_judgements(axes: Axes, figures: Mapping[str, Any]) -> None:
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in listed(figures, "judgements"):
        if instant(row["event_time"]):
            series.setdefault((row["rollout_id"], row["stage"]), []).append(row)
    gains = [abs(finite(row["mean_gain"])) for rows in series.values() for row in rows]
    reach = 1.6 * max((gain for gain in gains if math.isfinite(gain)), default=0.1) + 0.02
    axes.axhline(0, color=INK, lw=0.9)
    for (_, stage), rows in series.items():
        times = [instant(row["event_time"]) for row in rows]
        low, high = ([finite(row[key]) for row in rows] for key in ("gain_low", "gain_high"))
        colour = _colour(rows[0]["version"])
        axes.fill_between(date2num(times), low, high, color=colour, alpha=0.25, lw=0)
        axes.plot(times, [finite(row["mean_gain"]) for row in rows], color=colour, lw=1.6, marker=".")
        text = f"version {rows[-1]['version']} in {_word(stage)}:\n{_word(rows[-1]['verdict'])}"
        _say(axes, times[-1], finite(rows[-1]["mean_gain"]), text, colour)
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("gain of log loss")
    _mark(axes, figures)


def _draw_drift(axes: Axes, figures: Mapping[str, Any]) -> None:
    rows = sorted(listed(figures, "drift_by_feature"), key=lambda row: -finite(row["share"]))
    rows = rows[:FEATURES_SHOWN][::-1]
    shares = [finite(row["share"]) for row in rows]
    axes.barh(range(len(rows)), shares, color=VERSIONS[0], height=0.65)
    axes.set_yticks(range(len(rows)), [str(row["stream"])[:32] for row in rows])
    for place, (row, share) in enumerate(zip(rows, shares, strict=True)):
        axes.annotate(
            f"{share:.0%}, {_moved(row)}", (share, place), (4, 0), textcoords="offset points",
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, 1.7 * max(max(shares, default=0), 1e-9))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _mark(axes: Axes, figures: Mapping[str, Any], *, labelled: bool = False) -> None:
    """Spans the played time and marks the moments, named above the plot if `labelled`."""
    start, end = _span(figures)
    axes.set_xlim(date2num(start), date2num(max(end, start + timedelta(days=1))))
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=7))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda number, _: short_day(num2date(number).isoformat()))
    )
    found = moments(figures)
    for moment in found:
        axes.axvline(date2num(moment.time), color=MUTED, lw=0.8, alpha=0.6, zorder=0)
    if labelled:
        _name(axes, found, date2num(start), date2num(end))


def _name(axes: Axes, found: Sequence[Moment], start: float, end: float) -> None:
    """Names moments above the plot, each in the lowest line in which it has room."""
    figure = axes.figure
    assert figure is not None
    letters = figure.get_figwidth() * 72 / LETTER_POINTS  # that fit across
    lines: list[float] = []
    for moment in found:
        text = f"{short_day(moment.time)} {moment.text}"
        place = (date2num(moment.time) - start) / max(end - start, 1e-9)
        left = min(place, 1 - len(text) / letters)
        line = next((n for n, taken in enumerate(lines) if taken <= left), len(lines))
        lines[line:line + 1] = [left + (len(text) + 1) / letters]
        axes.annotate(
            text, (left, 1), (0, 4 + 12 * line), xycoords="axes fraction",
            textcoords="offset points", color=INK,
        )  # fmt: skip


def _say(axes: Axes, time: datetime, value: float, text: str, colour: str) -> None:
    if math.isfinite(value):
        axes.annotate(
            text, (date2num(time), value), (5, 0), textcoords="offset points", va="center",
            color=colour, fontweight="bold",
        )  # fmt: skip


def _with_gaps(points: Sequence[tuple[datetime, float]]) -> tuple[list[datetime], list[float]]:
    """Days of one line, with a NaN where one or more are missing, so that no line bridges them."""
    times, values = [points[0][0]], [points[0][1]]
    for (before, _), (time, value) in pairwise(points):
        if time - before > timedelta(days=1):
            times.append(before + timedelta(days=1))
            values.append(math.nan)
        times.append(time)
        values.append(value)
    return times, values


def _span(figures: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """What was played; where that is not said, what was recorded."""
    recorded = [
        time
        for key, name in TIMES.items()
        for row in listed(figures, key)
        if (time := instant(row.get(name)))
    ]
    start = instant(figures.get("event_start")) or min(recorded, default=instant("1970-01-01"))
    end = instant(figures.get("event_end")) or max(recorded, default=start)
    assert start is not None
    return start, end or start


def _moved(row: Mapping[str, Any]) -> str:
    size, direction = finite(row["size"]), str(row["direction"]).removeprefix("DIRECTION_")
    since = f" since {day}" if (day := short_day(row.get("since"))) else ""
    if direction == "MIX":
        return f"{size:.0%} of rows moved{since}"
    return f"{direction.lower()} {abs(size):.2f} sd{since}"


def _word(name: object) -> str:
    return str(name).removeprefix("VERDICT_").removeprefix("STAGE_").lower().replace("_", " ")


def _colour(version: int) -> str:
    return VERSIONS[(int(version) - 1) % len(VERSIONS)]
