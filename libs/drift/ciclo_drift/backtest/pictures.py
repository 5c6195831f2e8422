"""How the streams that moved looked in the reference and look since the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.backtest.result import Picture
from ciclo_drift.backtest.tables import is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ciclo_drift.backtest.result import FoundAlarm
    from ciclo_drift.backtest.roles import Tables

CHANGES = 8
"""Changes of which there are pictures: the first ones."""

STREAMS = 3
"""Streams of a change of which there are pictures."""

BARS = 24
"""Bars of a number."""

NAMES = 7
"""Categories with a bar of their own: those whose shares differ most."""

OTHERS = "(others)"
"""Name of the bar of all other categories."""

EXTREMES = (0.005, 0.995)
"""Quantiles, then or now, between which numbers are drawn; those beyond join the last bars."""


def pictures_of(
    tables: Tables,
    phases: tuple[NDArray[np.int16] | None, NDArray[np.int16] | None],
    alarms: Sequence[FoundAlarm],
    spans: Sequence[slice],
) -> tuple[Picture, ...]:
    """Pictures of the streams that moved at the first alarm of each change."""
    firsts = {alarm.episode: alarm for alarm in reversed(alarms)}
    return tuple(
        _picture(tables, phases, episode, culprit.stream, spans[episode])
        for episode in sorted(firsts)[:CHANGES]
        for culprit in firsts[episode].culprits[:STREAMS]
        if culprit.stream in tables.reference.streams
    )


def _picture(
    tables: Tables,
    phases: tuple[NDArray[np.int16] | None, NDArray[np.int16] | None],
    episode: int,
    stream: str,
    span: slice,
) -> Picture:
    before, now = tables.reference.streams[stream], tables.stream.streams[stream][span]
    weights = np.ones(len(before))
    if phases[0] is not None and phases[1] is not None:
        usual = np.bincount(phases[0])
        wanted = np.bincount(phases[1][span], minlength=len(usual))
        weights = (wanted / np.maximum(usual, 1))[phases[0]]
    numeric = before.dtype != object
    places = _edges(before, now) if numeric else _names(before, now)
    bars = len(places) - numeric
    shares = [_shares(before, weights, places, bars), _shares(now, np.ones(len(now)), places, bars)]
    return Picture(episode, stream, places, shares[0], shares[1], len(now))


def _shares(
    values: NDArray[np.generic],
    weights: NDArray[np.float64],
    places: NDArray[np.float64] | tuple[str, ...],
    bars: int,
) -> NDArray[np.float64]:
    """Share of the rows in each bar; the last one is of missing values. Shape (bars + 1,)."""
    if isinstance(places, tuple):
        place = {name: bar for bar, name in enumerate(places)}
        bar = np.array([bars if not v else place.get(str(v), bars - 1) for v in values])
    else:
        numbers = values.astype(np.float64)
        inner = np.searchsorted(places[1:-1], numbers, side="right")
        bar = np.where(np.isnan(numbers), bars, inner)
    counts = np.bincount(bar.astype(np.int64), weights=weights, minlength=bars + 1)
    return np.asarray(counts / max(float(counts.sum()), 1e-300))


def _edges(before: NDArray[np.generic], now: NDArray[np.generic]) -> NDArray[np.float64]:
    """Edges of equal bars, or around each value where there are few. Shape (bars + 1,)."""
    sides = [values[~np.isnan(values)] for values in (v.astype(np.float64) for v in (before, now))]
    known = [np.clip(values, -1e300, 1e300) for values in sides if len(values)]
    values = np.unique(np.concatenate(known))
    if 1 < len(values) <= BARS:
        middle = (values[1:] + values[:-1]) / 2.0
        return np.array(
            [1.5 * values[0] - 0.5 * values[1], *middle, 1.5 * values[-1] - 0.5 * values[-2]]
        )
    ends = np.array([np.quantile(side, EXTREMES) for side in known])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    return np.linspace(low, high if high > low else low + 1.0, BARS + 1)


def _names(before: NDArray[np.generic], now: NDArray[np.generic]) -> tuple[str, ...]:
    """The categories whose shares differ most, then one name for all others."""
    shares: dict[str, list[float]] = {}
    for side, values in enumerate((before, now)):
        for value in values[~is_missing(values)].tolist():
            shares.setdefault(str(value), [0.0, 0.0])[side] += 1.0 / len(values)
    order = sorted(shares, key=lambda name: (-abs(shares[name][1] - shares[name][0]), name))
    kept = sorted(order[:NAMES], key=lambda name: (-max(shares[name]), name))
    return (*kept, OTHERS)
