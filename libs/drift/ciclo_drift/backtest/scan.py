"""Feeds a stream to the detector, alarm after alarm; alarms that go on make one change."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.stream_set import StreamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ciclo_drift.alarms import Alarm, Culprit

PIECES = 400
"""Pieces of a stream: so many points has the trace of the evidence."""

PIECE_ROWS = (16, 8_192)
"""Least and most rows of a piece."""

LEAST_SHARE = 0.1
"""Share of the evidence from which on a stream counts as moved."""

MUTED_PER_BUDGET = 10
"""While a change lasts, the detector looks at its streams this often a budget, or
`MUTED_PER_STREAM` times a stream, if that is less: a change that lasts a million rows would alarm
every ten of them, and hide all others."""

MUTED_PER_STREAM = 1_000
"""See `MUTED_PER_BUDGET`."""

RECENT = 3
"""Changes that may go on: a chance alarm of another stream does not end one."""

OPPOSITES = ({"up", "down"}, {"wider", "narrower"}, {"tail_low", "tail_high"})
"""Changes of one stream that are not the same change."""


@dataclass(slots=True)
class Scan:
    """What the detector said.

    Args:
        alarms: In rows of the stream.
        episode_of: Number of the change that each belongs to.
        watched: Rows, each counted by the weights of the streams that were not muted.
        trace: Rows and evidence; NaN where it starts anew.
    """

    alarms: list[Alarm] = field(default_factory=list)
    episode_of: list[int] = field(default_factory=list)
    watched: float = 0.0
    trace: list[tuple[float, float]] = field(default_factory=list)

    @property
    def firsts(self) -> list[Alarm]:
        """The first alarm of each change."""
        numbers = sorted(set(self.episode_of))
        return [self.alarms[self.episode_of.index(number)] for number in numbers]


def scan(
    streams: StreamSet,
    columns: Mapping[str, NDArray[np.generic]],
    phases: NDArray[np.int16] | None,
    budget_rows: float,
    progress: Callable[[int, int], None] | None,
) -> Scan:
    """Watches a whole stream; after an alarm the detector starts anew from the reference.

    An alarm goes on with an earlier change if a stream that moved there moves the same way, and
    began to within a tenth of a budget of when it was looked at again; with the latest change
    also if most rows since the restart had moved. While a change goes on so, its streams are
    muted before the detector looks at them again: for as many rows as have passed since its first
    alarm, up to a tenth of the budget. The other streams are watched with their own weights, so
    that muting adds no false alarms.

    Args:
        streams: The detector, at its start.
        columns: The stream. Shape (n,) each.
        phases: Seasonal phase of each row. Shape (n,); None: no season.
        budget_rows: Mean number of rows between false alarms.
        progress: Called with rows done and all rows.
    """
    watch = _Watch(streams, columns, phases, budget_rows)
    while watch.row < watch.rows:
        watch.step()
        if progress is not None:
            progress(watch.row, watch.rows)
    return watch.found


class _Watch:
    """A scan under way: `row` is the next row, `rows` all of them."""

    def __init__(
        self,
        streams: StreamSet,
        columns: Mapping[str, NDArray[np.generic]],
        phases: NDArray[np.int16] | None,
        budget_rows: float,
    ) -> None:
        self.found = Scan()
        self.row, self.rows = 0, len(next(iter(columns.values())))
        self._columns, self._phases = columns, phases
        self._longest = max(budget_rows / MUTED_PER_BUDGET, self.rows / MUTED_PER_STREAM)
        self._piece = min(max(self.rows // PIECES, PIECE_ROWS[0]), PIECE_ROWS[1])
        self._fresh = streams.snapshot()
        self._detectors = {frozenset[str](): (streams, 1.0)}
        self._muted: dict[str, int] = {}
        self._begun: list[int] = []
        self._lasts: list[Alarm] = []
        self._heard: list[int] = []
        self._restart()

    def step(self) -> None:
        """Takes the next piece, up to an alarm or to where muted streams are heard again."""
        if self._share <= 0.0:
            self.row = self._end
            self._restart()
            return
        part = slice(self.row, min(self.row + self._piece, self._end))
        phases = None if self._phases is None else self._phases[part]
        columns = {name: column[part] for name, column in self._columns.items()}
        alarm = self._streams.update(columns, phases)
        stop = part.stop if alarm is None else self._start + alarm.row + 1
        self.found.watched += self._share * (stop - self.row)
        self.row = stop
        if alarm is not None:
            self._take(_shifted(alarm, self._start))
        else:
            self.found.trace.append((self.row, self._streams.evidence))
        if alarm is not None or self.row == self._end:
            self._restart()

    def _take(self, alarm: Alarm) -> None:
        """Keeps an alarm, and mutes its streams if their change goes on."""
        found = self.found
        episode = self._episode(alarm)
        if episode == len(self._lasts):
            self._begun.append(self.row)
            self._lasts.append(alarm)
            self._heard.append(self.row)
        until = self.row + int(min(self.row - self._begun[episode], self._longest))
        self._lasts[episode], self._heard[episode] = alarm, until
        found.episode_of.append(episode)
        found.alarms.append(alarm)
        found.trace += [(self.row, alarm.evidence), (self.row, math.nan)]
        self._muted |= {culprit.stream: until for culprit in moved(alarm)}

    def _episode(self, alarm: Alarm) -> int:
        """The change that an alarm goes on with, the latest first; else the next number."""
        latest = sorted(range(len(self._lasts)), key=lambda episode: -self._lasts[episode].row)
        for episode in latest[:RECENT]:
            soon = alarm.since_row - self._heard[episode] <= self._longest
            at_once = alarm.since_row - self._start <= alarm.row - alarm.since_row
            if (soon or (at_once and episode == latest[0])) and _alike(self._lasts[episode], alarm):
                return episode
        return len(latest)

    def _restart(self) -> None:
        """Starts the detector anew, without the streams that are muted now."""
        self._muted = {name: until for name, until in self._muted.items() if until > self.row}
        self._end = min([*self._muted.values(), self.rows])
        muted = frozenset(self._muted)
        if muted not in self._detectors:
            self._detectors[muted] = self._without(muted)
        self._streams, self._share = self._detectors[muted]
        self._streams.reset()
        self._start = self.row

    def _without(self, muted: frozenset[str]) -> tuple[StreamSet, float]:
        """The detector with no weight on some streams, nor on sums over them; what is left."""
        shares = self._fresh["shares"].astype(np.float64)
        names = self._detectors[frozenset()][0].names
        held = [name not in muted for name in names] + [False] * (len(shares) - len(names))
        shares = np.where(held, shares, 0.0)
        return StreamSet.restore(self._fresh | {"shares": shares}), float(shares.sum())


def moved(alarm: Alarm) -> tuple[Culprit, ...]:
    """The streams that carry the evidence, the first one always."""
    first, *others = alarm.culprits
    return (first, *(culprit for culprit in others if culprit.share >= LEAST_SHARE))


def _alike(first: Alarm, second: Alarm) -> bool:
    """Whether a stream that moved in one moved the same way in the other."""
    ways = {culprit.stream: culprit.change for culprit in moved(first)}
    return any(
        culprit.stream in ways and {ways[culprit.stream], culprit.change} not in OPPOSITES
        for culprit in moved(second)
    )


def _shifted(alarm: Alarm, rows: int) -> Alarm:
    """The alarm in rows of the stream, of a detector that started at row `rows`."""
    culprits = tuple(
        replace(
            culprit,
            since_row=culprit.since_row + rows,
            since_low=culprit.since_low + rows,
            since_high=culprit.since_high + rows,
        )
        for culprit in alarm.culprits
    )
    return replace(alarm, row=alarm.row + rows, since_row=alarm.since_row + rows, culprits=culprits)
