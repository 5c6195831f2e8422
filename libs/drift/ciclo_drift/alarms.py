"""What an alarm says: when, since when, how sure, and which streams moved how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ciclo_drift.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Culprit:
    """A stream's part in an alarm.

    Args:
        stream: Its name.
        since_row: Most likely first row of its change, among live rows, from 0.
        share: Its share of the evidence. In [0, 1].
        change: `up`, `down`, `wider`, `narrower`, `tail_low`, `tail_high`, `shape` or `categories`.
        size: Shift of the mean in standard deviations of the reference (of normal scores);
            for `wider` and `narrower` the ratio of standard deviations; for `categories` the
            share of rows that moved.
        category: The category whose share changed most; None for numbers.
    """

    stream: str
    since_row: int
    share: float
    change: str
    size: float
    category: str | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the streams say, at an alarm or when asked.

    Args:
        row: The row at which the evidence reached the threshold, among live rows, from 0; the
            last row seen, in a report without an alarm (-1 before the first).
        since_row: Most likely first row of the change, of the first culprit.
        evidence: Weighted mean of the streams' Shiryaev-Roberts sums.
        threshold: Where it alarms.
        culprits: Every stream's part, the largest first.
    """

    row: int
    since_row: int
    evidence: float
    threshold: float
    culprits: tuple[Culprit, ...]


def alarm_arrays(alarm: Alarm | None) -> Snapshot:
    """An alarm as arrays; none at all without one."""
    if alarm is None:
        return {}
    culprits = alarm.culprits
    return {
        "alarm_rows": np.array([alarm.row, alarm.since_row]),
        "alarm_evidence": np.array([alarm.evidence, alarm.threshold]),
        "alarm_since": np.array([c.since_row for c in culprits]),
        "alarm_sizes": np.array([[c.share, c.size] for c in culprits]),
        "alarm_words": np.array([[c.stream, c.change, c.category or ""] for c in culprits]),
        "alarm_named": np.array([c.category is not None for c in culprits]),
    }


def alarm_from(snapshot: Snapshot) -> Alarm | None:
    """The inverse of `alarm_arrays`."""
    if "alarm_rows" not in snapshot:
        return None
    culprits = tuple(
        Culprit(
            str(words[0]),
            int(since),
            float(sizes[0]),
            str(words[1]),
            float(sizes[1]),
            str(words[2]) if named else None,
        )
        for words, since, sizes, named in zip(
            snapshot["alarm_words"],
            snapshot["alarm_since"],
            snapshot["alarm_sizes"],
            snapshot["alarm_named"],
            strict=True,
        )
    )
    row, since_row = (int(value) for value in snapshot["alarm_rows"])
    evidence, threshold = (float(value) for value in snapshot["alarm_evidence"])
    return Alarm(row, since_row, evidence, threshold, culprits)
