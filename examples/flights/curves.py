"""What each plot of the page draws into its axes; `plots.py` frames it and makes it SVG.

Every `draw_…` returns how many lines of labels it wrote above the axes.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from labels import LETTER_POINTS, MUTED, Label, day_number, stack
from matplotlib.dates import AutoDateLocator
from matplotlib.ticker import FuncFormatter, NullFormatter
from narrative import finite, instant, listed, moments, short_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

INK: Final = "#010101"
PAPER: Final = "#030303"
ALARM: Final = "#040404"
VERSIONS: Final = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05", "#0a0a06")
"""Stand-ins: each becomes a variable of the page's style, so that a plot follows light and dark."""

FEATURES_SHOWN: Final = 10
"""Streams in the plot of drift, strongest first."""

BRIEF: Final = 6.0
"""Inches below which texts in a plot are short."""

ROOM_FOR_NAME: Final = 0.2
"""Share of requests from which on a version's name fits into its area."""

LINEAR_GAIN: Final = 0.02
"""Gains beyond it are drawn logarithmically: a bad challenger loses ten times what a good wins."""

EPOCH: Final = datetime.fromtimestamp(0, UTC)

EVIDENCE_FLOOR: Final = 0.1
"""Evidence is often exactly 0, which a logarithmic axis cannot show."""

TIMES: Final = {
    "loss_by_day": "day",
    "evidence": "event_time",
    "weights": "event_time",
    "judgements": "event_time",
}
"""Where each list says its event time."""


def colour_of(version: int) -> str:
    """Returns the stand-in of a version's colour: six of them, in turn."""
    return VERSIONS[(int(version) - 1) % len(VERSIONS)]


def draw_losses(axes: Axes, figures: Mapping[str, Any]) -> int:
    """Loss by day; below it, when each version answered. Solid: served; dashed: in shadow."""
    series: dict[tuple[int, bool], list[tuple[float, float]]] = {}
    for row in listed(figures, "loss_by_day"):
        if day := instant(row["day"]):
            key = (row["version"], row["served"])
            series.setdefault(key, []).append((day_number(day), finite(row["loss"])))
    for (version, served), points in series.items():
        times, values = _with_gaps(sorted(points))
        style = "-" if served else (0, (3, 1.5))
        axes.plot(times, values, color=colour_of(version), linestyle=style, lw=1.6)
    _span_time(axes, figures)
    low, high = axes.get_ylim()
    versions = sorted({version for version, _ in series})
    axes.set_ylim(low - (high - low) * 0.1 * len(versions), high)
    for place, version in enumerate(reversed(versions)):
        spans = {served: points for (of, served), points in series.items() if of == version}
        _draw_spans(axes, version, spans, 0.05 + 0.075 * place)
    axes.set_ylabel("log loss")
    return stack(axes, [Label(m.time, m.text, INK) for m in moments(figures)])


def draw_evidence(axes: Axes, figures: Mapping[str, Any]) -> int:
    """Evidence of the performance test, with its threshold, on a logarithmic axis."""
    rows = [row for row in listed(figures, "evidence") if instant(row["event_time"])]
    for version in sorted({row["version"] for row in rows}):
        mine = [row for row in rows if row["version"] == version]
        values = [max(finite(row["performance"]), EVIDENCE_FLOOR) for row in mine]
        times = _numbers(row["event_time"] for row in mine)
        axes.plot(times, values, color=colour_of(version), lw=1.6)
        axes.annotate(
            f"version {version}", (times[-1], max(values)), (-2, 4), textcoords="offset points",
            ha="right", color=colour_of(version), fontweight="bold",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    threshold = finite(rows[-1]["threshold"]) if rows else math.nan
    if math.isfinite(threshold):
        axes.axhline(threshold, color=ALARM, linestyle="--", lw=1.2)
        axes.annotate(
            f"threshold {threshold:g}", (0, threshold), (6, 4), color=ALARM,
            xycoords=axes.get_yaxis_transform(), textcoords="offset points",
        )  # fmt: skip
    axes.set_ylabel("evidence")
    _span_time(axes, figures)
    return 0


def draw_weights(axes: Axes, figures: Mapping[str, Any]) -> int:
    """Shares of the requests as stacked areas, each held until the next change."""
    changes = _changes(figures)
    times = _numbers(time for time, _ in changes)
    floor = [0.0] * len(changes)
    thin = []
    for version in sorted({int(name) for _, weights in changes for name in weights}):
        shares = [finite(weights.get(str(version), 0)) for _, weights in changes]
        ceiling = [low + share for low, share in zip(floor, shares, strict=True)]
        colour = colour_of(version)
        axes.fill_between(times, floor, ceiling, step="post", color=colour, alpha=0.8, lw=0)
        held = [(later - time, n) for n, (time, later) in enumerate(pairwise(times)) if shares[n]]
        _, place = max((span for span in held if shares[span[1]] == max(shares)), default=(0, 0))
        if shares[place] > ROOM_FOR_NAME:
            middle = ((times[place] + times[place + 1]) / 2, floor[place] + shares[place] / 2)
            axes.annotate(
                f"version {version}", middle, ha="center", va="center", color=PAPER,
                fontweight="bold",
            )  # fmt: skip
        elif held:
            thin.append(Label(changes[place][0], f"version {version}: {shares[place]:.0%}", colour))
        floor = ceiling
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    _span_time(axes, figures)
    return stack(axes, thin)


def draw_judgements(axes: Axes, figures: Mapping[str, Any]) -> int:
    """Gain with its confidence sequence by rollout and stage, against zero."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in listed(figures, "judgements"):
        if instant(row["event_time"]) and row["days"]:
            series.setdefault((row["rollout_id"], row["stage"]), []).append(row)
    axes.axhline(0, color=INK, lw=0.9)
    labels = []
    reach = LINEAR_GAIN
    for (_, stage), rows in series.items():
        times = _numbers(row["event_time"] for row in rows)
        gain, low, high = (
            [finite(row[name]) for row in rows]
            for name in ("limited_gain", "gain_low", "gain_high")
        )
        colour = colour_of(rows[0]["version"])
        axes.fill_between(times, low, high, color=colour, alpha=0.25, lw=0)
        axes.plot(times, gain, color=colour, lw=1.6, marker=".")
        reach = max([reach, *(2 * abs(value) for value in gain if math.isfinite(value))])
        text = f"version {rows[-1]['version']}, {_word(stage)}: {_word(rows[-1]['verdict'])}"
        labels += [Label(last, text, colour) for last in [instant(rows[-1]["event_time"])] if last]
    axes.set_yscale("symlog", linthresh=LINEAR_GAIN)
    axes.set_ylim(-reach, reach)
    ticks = [n for n in (LINEAR_GAIN, 0.1, 1.0) if n <= reach]
    axes.set_yticks([*(-n for n in ticks), 0, *ticks])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("gain of log loss")
    _span_time(axes, figures)
    return stack(axes, labels)


def draw_drift(axes: Axes, figures: Mapping[str, Any]) -> int:
    """Inputs by their share of the evidence, strongest on top, with what happened to each."""
    rows = sorted(listed(figures, "drift_by_feature"), key=lambda row: -finite(row["share"]))
    rows = rows[:FEATURES_SHOWN][::-1]
    shares = [finite(row["share"]) for row in rows]
    axes.barh(range(len(rows)), shares, color=VERSIONS[0], height=0.65)
    axes.set_yticks(range(len(rows)), [str(row["stream"])[:24] for row in rows])
    figure = axes.get_figure(root=True)
    assert figure is not None
    texts = [
        f"{share:.0%}: {_moved(row, is_brief=figure.get_figwidth() < BRIEF)}"
        for row, share in zip(rows, shares, strict=True)
    ]
    for place, (share, text) in enumerate(zip(shares, texts, strict=True)):
        axes.annotate(text, (share, place), (4, 0), textcoords="offset points", va="center")
    # A text stands right of its bar: the longest bar leaves room for the longest text.
    room = (figure.get_figwidth() - 1.6) * 72 / LETTER_POINTS
    axes.set_xlim(0, max([1e-9, *shares]) / max(0.1, 1 - max(map(len, texts)) / room))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return 0


def _draw_spans(
    axes: Axes,
    version: int,
    spans: Mapping[bool, Sequence[tuple[float, float]]],
    height: float,
) -> None:
    """A line from the first day to the last on which a version answered, named where room is."""
    colour, place = colour_of(version), axes.get_xaxis_transform()
    for served, points in spans.items():
        ends = [min(points)[0], max(points)[0] + 1]
        style = "-" if served else (0, (1.5, 0.75))
        axes.plot(ends, [height] * 2, color=colour, linestyle=style, lw=3, transform=place)
    days = [day for points in spans.values() for day, _ in points]
    first, last = min(days), max(days) + 1
    start, end = axes.get_xlim()
    is_left = first - start > end - last
    axes.annotate(
        f"version {version}",
        (first if is_left else last, height),
        (-5 if is_left else 5, 0),
        xycoords=place,
        textcoords="offset points",
        ha="right" if is_left else "left",
        va="center",
        color=colour,
        fontweight="bold",
    )


def _span_time(axes: Axes, figures: Mapping[str, Any]) -> None:
    """Shows the played time, with the moments as lines."""
    start, end = _span(figures)
    axes.set_xlim(day_number(start), day_number(max(end, start + timedelta(days=1))))
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=7))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda number, _: short_day(datetime.fromtimestamp(number * 86_400, UTC)))
    )
    for moment in moments(figures):
        axes.axvline(day_number(moment.time), color=MUTED, lw=0.8, alpha=0.6, zorder=0)


def _changes(figures: Mapping[str, Any]) -> list[tuple[datetime, dict[str, float]]]:
    """Weights from the beginning, where the tested version has all, to the end."""
    start, end = _span(figures)
    tested = [str(row["version"]) for row in listed(figures, "evidence")[:1]]
    changes = [(start, dict.fromkeys(tested, 1.0))]
    changes += [
        (max(instant(row["event_time"]) or start, start), row["weights"])
        for row in listed(figures, "weights")
    ]
    return [*changes, (max(end, changes[-1][0]), changes[-1][1])]


def _with_gaps(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Days of one line, with a NaN where one or more are missing, so that no line bridges them."""
    days, values = [points[0][0]], [points[0][1]]
    for (before, _), (day, value) in pairwise(points):
        if day - before > 1:
            days.append(before + 1)
            values.append(math.nan)
        days.append(day)
        values.append(value)
    return days, values


def _span(figures: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """What was played; where that is not said, what was recorded."""
    recorded = [
        time
        for key, name in TIMES.items()
        for row in listed(figures, key)
        if (time := instant(row.get(name)))
    ]
    start = instant(figures.get("event_start")) or min(recorded, default=EPOCH)
    return start, instant(figures.get("event_end")) or max([start, *recorded])


def _numbers(times: Iterable[object]) -> list[float]:
    return [day_number(time) for text in times if (time := instant(text))]


def _moved(row: Mapping[str, Any], *, is_brief: bool) -> str:
    size, direction = finite(row["size"]), str(row["direction"])
    day = short_day(row.get("since"))
    since = f" since {day}" if day and not is_brief else ""
    if direction == "MIX":
        return f"{size:.0%} of rows moved{since}"
    return f"{direction.lower()} {abs(size):.2f} sd{since}"


def _word(name: object) -> str:
    return str(name).removeprefix("VERDICT_").removeprefix("STAGE_").lower().replace("_", " ")
