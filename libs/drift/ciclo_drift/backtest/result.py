"""What a backtest found: alarms, changes, what was spent of the budget, and how it was run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ciclo_drift.backtest.report import summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ciclo_drift.alarms import Culprit, Kind
    from ciclo_drift.budget import Spending
    from ciclo_drift.calibration import Certificate

FORMAT = "ciclo_drift.backtest/1"
"""Name and version of what `Backtest.to_dict` returns."""


@dataclass(frozen=True, slots=True)
class FoundAlarm:
    """An alarm, in rows of the stream from 0; the stream with most evidence speaks for it.

    Args:
        row: Where the evidence reached the threshold.
        time: Time of that row, ISO; None without times.
        since_row: Most likely first row of the change.
        since_low: Lower end of a 95 % interval of that row.
        since_high: Upper end.
        since_time: Time of `since_row`.
        stream: What changed most.
        change: How: as `Culprit.change`.
        size: How much: as `Culprit.size`.
        category: As `Culprit.category`.
        before: As `Culprit.before`.
        now: As `Culprit.now`.
        effect: Mean loss that the change costs by itself; None where losses are not known.
        fault: What looks broken, if the input does.
        kind: The kind of the change that it belongs to; None where labels are known and do not
            tell yet.
        certified: Whether the reference can promise the budget.
        episode: The change that it belongs to, from 0.
        culprits: The streams that moved, with most evidence first, five at most.
    """

    row: int
    time: str | None
    since_row: int
    since_low: int
    since_high: int
    since_time: str | None
    stream: str
    change: str
    size: float
    category: str | None
    before: float | None
    now: float | None
    effect: float | None
    fault: str | None
    kind: Kind | None
    certified: bool
    episode: int
    culprits: tuple[Culprit, ...]


@dataclass(frozen=True, slots=True)
class Episode:
    """A change: the alarms that go on in the same way.

    Args:
        since_row: Most likely first row.
        first_row: Row of its first alarm.
        last_row: Row of its last alarm.
        alarms: Number of alarms.
        streams: Streams that led them, the first first.
        kind: As of its alarms.
        fault: The first fault that one of them names.
    """

    since_row: int
    first_row: int
    last_row: int
    alarms: int
    streams: tuple[str, ...]
    kind: Kind | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class LossRise:
    """A rise of the mean loss of blocks of rows: `BlockMeanTest` at half the budget.

    Args:
        row: Last row of the block that raised the alarm.
        time: Its time.
        since_row: First row of the block with which the rise most likely began.
        since_time: Its time.
        before: Mean loss of the reference's blocks.
        rise: Mean since then less mean before.
        lower: Lower end of a 95 % interval of the rise.
        upper: Upper end.
        kind: The kind of change that labels show; None: they do not tell.
    """

    row: int
    time: str | None
    since_row: int
    since_time: str | None
    before: float
    rise: float
    lower: float
    upper: float
    kind: Kind | None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A stream's distribution in the reference and since a change, for a plot.

    Args:
        episode: The change.
        stream: The stream.
        places: Edges of the bars, shape (k + 1,), for numbers; names of the bars for categories.
        before: Share of the reference's rows in each bar, its phases mixed as now, and of those
            without a value. Shape (k + 1,).
        now: The same of the rows since the change. Shape (k + 1,).
        rows: How many rows those are.
    """

    episode: int
    stream: str
    places: NDArray[np.float64] | tuple[str, ...]
    before: NDArray[np.float64]
    now: NDArray[np.float64]
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """What watching a stream would have told.

    Args:
        settings: Arguments that reproduce it, in words and numbers.
        streams: What was watched.
        alarms: Every alarm, in order.
        episodes: The changes that they make.
        spending: Changes and rises found beside the false alarms that the budget allows.
        loss: What the loss is; None where none is known.
        loss_rises: Rises of the mean loss; None where it was not tested, `notes` say why.
        certificate: Whether the reference can promise the budget.
        notes: What was left out, counted, or taken otherwise.
        reference_rows: Rows of the reference.
        rows: Rows of the stream.
        threshold: Evidence at which it alarms.
        trace: Row and evidence, at the ends of pieces and at alarms; NaN where it starts anew.
            Shape (k, 2).
        pictures: Distributions, of the first changes.
        seconds: Wall time that it took.
    """

    settings: Mapping[str, str | float | int | None]
    streams: tuple[str, ...]
    alarms: tuple[FoundAlarm, ...]
    episodes: tuple[Episode, ...]
    spending: Spending
    loss: str | None
    loss_rises: tuple[LossRise, ...] | None
    certificate: Certificate
    notes: tuple[str, ...]
    reference_rows: int
    rows: int
    threshold: float
    trace: NDArray[np.float64]
    pictures: tuple[Picture, ...]
    seconds: float

    def __str__(self) -> str:
        """The summary that a terminal shows."""
        return summary(self)

    def to_dict(self) -> dict[str, object]:
        """All but trace and pictures, for JSON; numbers that are none become None."""
        spent, rises = self.spending, self.loss_rises
        low, high = spent.interval
        found = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "streams": list(self.streams),
            "reference_rows": self.reference_rows,
            "rows": self.rows,
            "threshold": self.threshold,
            "certificate": asdict(self.certificate),
            "spending": {
                "budget_rows": spent.budget_rows,
                "rows": spent.rows,
                "alarms": spent.alarms,
                "allowed": spent.allowed,
                "ratio": spent.ratio,
                "ratio_low": low,
                "ratio_high": high,
                "by_stream": dict(spent.by_stream),
            },
            "episodes": [asdict(episode) for episode in self.episodes],
            "alarms": [asdict(alarm) for alarm in self.alarms],
            "loss": self.loss,
            "loss_rises": None if rises is None else [asdict(rise) for rise in rises],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }
        return {name: _plain(value) for name, value in found.items()}


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
