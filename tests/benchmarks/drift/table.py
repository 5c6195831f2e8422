"""The figures as lines for a terminal and as tables for a reader of the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.drift import delays, streams
from tests.benchmarks.drift.figures import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.drift.figures import Figure


def lines(figures: Sequence[Figure]) -> str:
    """One line a figure, beside its target."""
    told = []
    for figure in figures:
        about = f"  [{figure.target}]  {figure.verdict}" if figure.target else ""
        note = f"  ({figure.note})" if figure.note and figure.value is not None else ""
        told.append(f"{figure.part} | {figure.name}: {figure.measured}{about}{note}")
    return "\n".join(told)


def markdown(figures: Sequence[Figure]) -> str:
    """A table of delays, methods by changes, for each run length; then figures with targets."""
    compared: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.part.startswith(delays.PART):
            compared.setdefault(figure.part, []).append(figure)
    parts = [_delays(part, group) for part, group in compared.items()]
    judged = [figure for figure in figures if figure.target is not None]
    rows = ["| | measured | 95 % | target | |", "|---|---|---|---|---|"]
    rows += [
        f"| {figure.part}: {figure.name} | {_value(figure)} | {_interval(figure)} "
        f"| {figure.target} | {figure.verdict} |"
        for figure in judged
    ]
    return "\n\n".join([*parts, "\n".join(rows)] if judged else parts)


def _delays(part: str, figures: Sequence[Figure]) -> str:
    by_method: dict[str, list[str]] = {}
    for figure in figures:
        method = figure.name.rsplit(": ", 1)[0]
        told = short(figure.value) if figure.value is not None else figure.note
        by_method.setdefault(method, []).append(told)
    rows = [f"| {part}, rows | " + " | ".join(streams.CHANGES) + " |"]
    rows.append("|---" * (len(streams.CHANGES) + 1) + "|")
    rows += [f"| {method} | " + " | ".join(told) + " |" for method, told in by_method.items()]
    return "\n".join(rows)


def _value(figure: Figure) -> str:
    if figure.value is None:
        return figure.note
    return f"{short(figure.value)} {figure.unit}".strip()


def _interval(figure: Figure) -> str:
    if figure.interval is None:
        return ""
    return " to ".join(short(end) for end in figure.interval)
