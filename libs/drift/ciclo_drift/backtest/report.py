"""A backtest in words: what a terminal shows, and the words that the page shares with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ciclo_drift.backtest.result import Backtest, FoundAlarm

SHOWN = 20
"""Changes that the table in a terminal lists."""

HEADINGS = ("change", "row", "time", "since row (95 %)", "stream", "how", "then -> now")
"""Columns of the table of changes, without those that need labels."""


def summary(found: Backtest) -> str:
    """The whole of it for a terminal, at most some forty lines."""
    lines = [headline(found), budget_line(found), certificate_line(found)]
    if found.alarms:
        rows = change_rows(found)
        lines += ["", *_aligned([headings(found), *rows[:SHOWN]])]
        if len(rows) > SHOWN:
            lines.append(f"and {len(rows) - SHOWN} more")
    if found.loss:
        lines += ["", *loss_lines(found)]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def counted(count: int, noun: str) -> str:
    """A number and what it counts: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def headline(found: Backtest) -> str:
    """Rows, streams, changes."""
    changes, alarms = len(found.episodes), len(found.alarms)
    what = counted(changes, "change") if changes else "no change"
    again = f" ({alarms} alarms)" if alarms > changes else ""
    return (
        f"{what}{again} in {counted(found.rows, 'row')} of {counted(len(found.streams), 'stream')}"
    )


def budget_line(found: Backtest) -> str:
    """Stated and realised."""
    spent = found.spending
    low, high = spent.interval
    rested = found.rows - spent.rows
    changed, half = "of what had changed", ""
    if found.loss_rises is not None:
        changed, half = f"{changed}, or without a loss,", f", half of it for the mean {found.loss}"
    verb = "is" if rested == 1 else "are"
    left = f" ({counted(rested, 'row')} {changed} {verb} not counted)" if rested else ""
    return (
        f"budget: {found.settings['budget']}, one false alarm in {spent.budget_rows:,.0f} rows"
        f"{half}; {spent.allowed:.1f} allowed in {counted(spent.rows, 'row')} watched{left}; "
        f"{alarms_line(found)} {'is' if spent.alarms == 1 else 'are'} {spent.ratio:.2g} times that "
        f"(95 %: {low:.2g} to {high:.2g})"
    )


def alarms_line(found: Backtest) -> str:
    """What is set beside the budget: changes, and rises of the loss where that is tested."""
    changes = counted(len(found.episodes), "change")
    rises = found.loss_rises
    return changes if rises is None else f"{changes} and {counted(len(rises), 'rise')} of the loss"


def certificate_line(found: Backtest) -> str:
    """Whether the budget is promised."""
    known = found.certificate
    promise = "" if known.certified else "NOT CERTIFIED, alarms promise nothing: "
    return f"reference: {promise}{known.reason}; season: {found.settings['season']}"


def loss_lines(found: Backtest) -> list[str]:
    """When the mean loss rose, and how much."""
    if found.loss_rises is None:
        return [f"{found.loss}: whether its mean rose was not tested; the notes say why"]
    if not found.loss_rises:
        return [f"{found.loss}: no rise of the mean was found"]
    return [
        f"{found.loss}: {rise.before:.4g} in the reference, up by {rise.rise:.3g} "
        f"({rise.lower:.3g} to {rise.upper:.3g}) since row {rise.since_row:,}"
        f"{f' ({clock(rise.since_time)})' if rise.since_time else ''}, noticed at row {rise.row:,}"
        f"{f'; kind: {rise.kind.value}' if rise.kind else ''}"
        for rise in found.loss_rises
    ]


def headings(found: Backtest) -> tuple[str, ...]:
    """Columns of the table of changes."""
    costs = (f"costs ({found.loss})",) if found.loss else ()
    shown = (heading for heading in HEADINGS if heading != "time" or _timed(found))
    return (*shown, *costs, "kind", "alarms")


def change_rows(found: Backtest) -> list[tuple[str, ...]]:
    """One row a change: its first alarm."""
    firsts = {alarm.episode: alarm for alarm in reversed(found.alarms)}
    rows = []
    for number, episode in enumerate(found.episodes):
        alarm = firsts[number]
        since = f"{alarm.since_row:,} ({alarm.since_low:,} to {alarm.since_high:,})"
        time = (clock(alarm.time),) if _timed(found) else ()
        costs = (_signed(alarm.effect),) if found.loss else ()
        kind = alarm.kind.value if alarm.kind else "not known yet"
        moved = (alarm.stream, how(alarm, episode.fault), then_now(alarm))
        rows.append(
            (
                str(number + 1),
                f"{alarm.row:,}",
                *time,
                since,
                *moved,
                *costs,
                kind,
                str(episode.alarms),
            )
        )
    return rows


def how(alarm: FoundAlarm, fault: str | None) -> str:
    """The change of an alarm, with its size; or the fault of the input."""
    if fault:
        return fault
    if alarm.change in {"up", "down"}:
        return f"{alarm.change} {abs(alarm.size):.2g} sd"
    if alarm.change in {"wider", "narrower"}:
        return f"{alarm.change} x{alarm.size:.2g}"
    if alarm.change == "categories":
        return f"{percent(alarm.size)} of rows moved"
    return alarm.change.replace("_", " ")


def then_now(alarm: FoundAlarm) -> str:
    """Median, or share of the category, before and since."""
    if alarm.before is None or alarm.now is None:
        return ""
    if alarm.category is not None:
        return f"{alarm.category}: {percent(alarm.before)} -> {percent(alarm.now)}"
    return f"{alarm.before:.4g} -> {alarm.now:.4g}"


def percent(share: float) -> str:
    """A share for a reader."""
    return f"{100.0 * share:.2g} %" if share < 0.995 else "100 %"


def clock(time: str | None) -> str:
    """An ISO time to the minute, for a reader; of midnight the day only."""
    return (time or "").replace("T", " ")[:16].removesuffix(" 00:00")


def _timed(found: Backtest) -> bool:
    return found.settings["time"] is not None


def _signed(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:+.3g}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
