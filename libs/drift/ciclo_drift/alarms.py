"""What an alarm says: when, since when, of what kind, and which streams moved how much."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ciclo_drift.snapshots import Snapshot


class Kind(StrEnum):
    """What kind of change it is."""

    BROKEN_INPUT = "broken input"
    """A stream lost its values, is stuck, left its range or holds new categories: see to its
    source before retraining."""
    COVARIATE = "covariate"
    """The inputs moved; nothing says that what follows from them did."""
    LABEL = "label"
    """The share of the labels moved, each label looks as before."""
    CONCEPT = "concept"
    """The same inputs now have other labels."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """A stream's part in an alarm.

    Args:
        stream: Its name.
        since_row: Most likely first row of its change, among live rows, from 0.
        since_low: Lower end of a 95 % interval of that row; of a change of categories that takes
            hundreds of rows to notice it covers some 80 %.
        since_high: Upper end.
        share: Its share of the evidence. In [0, 1].
        change: `up`, `down`, `wider`, `narrower`, `tail_low`, `tail_high`, `shape` or `categories`.
        size: Shift of the mean in standard deviations of the reference (of normal scores);
            for `wider` and `narrower` the ratio of standard deviations; for `categories` the
            share of rows that moved.
        category: The category whose share changed most; None for numbers.
        before: Median of the reference, in the unit of the stream; that category's share. None for
            a whitened stream, of which only residuals are known.
        now: The same since the change, of at most the last 512 rows.
        effect: What the change costs by itself: mean loss expected of the values now less that of
            the values before, in the unit of the loss; None where the reference knows no losses.
        fault: `missing`, `stuck`, `out of range` or `unseen` where the input looks broken;
            else None.
    """

    stream: str
    since_row: int
    since_low: int
    since_high: int
    share: float
    change: str
    size: float
    category: str | None
    before: float | None
    now: float | None
    effect: float | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the streams say, at an alarm or when asked.

    Args:
        row: The row at which the evidence reached the threshold, among live rows, from 0; the
            last row seen, in a report without an alarm (-1 before the first).
        since_row: Most likely first row of the change, of the first culprit.
        evidence: Weighted mean of the streams' Shiryaev-Roberts sums.
        threshold: Where it alarms.
        culprits: Every stream's part, by share of the evidence, the largest first.
    """

    row: int
    since_row: int
    evidence: float
    threshold: float
    culprits: tuple[Culprit, ...]

    @property
    def kind(self) -> Kind:
        """Broken input, if the stream with most evidence looks so; else covariate.

        What moved in labels or losses is for `kinds.LabelTable` to say.
        """
        return Kind.BROKEN_INPUT if self.culprits[0].fault else Kind.COVARIATE

    def by_effect(self) -> tuple[Culprit, ...]:
        """The culprits with the costliest change first, those that lower the loss last."""
        return tuple(sorted(self.culprits, key=lambda culprit: -(culprit.effect or 0.0)))


ROWS = ("since_row", "since_low", "since_high")
SIZES = ("share", "size", "before", "now", "effect")
WORDS = ("stream", "change", "category", "fault")
"""Fields of a culprit, by type."""


def alarm_arrays(alarm: Alarm | None) -> Snapshot:
    """An alarm as arrays; none at all without one."""
    if alarm is None:
        return {}

    def table(names: tuple[str, ...]) -> list[list[object]]:
        return [[getattr(culprit, name) for name in names] for culprit in alarm.culprits]

    words = table(WORDS)
    return {
        "alarm_rows": np.array([alarm.row, alarm.since_row]),
        "alarm_evidence": np.array([alarm.evidence, alarm.threshold]),
        "alarm_since": np.array(table(ROWS), dtype=np.int64),
        "alarm_sizes": np.array(table(SIZES), dtype=np.float64),  # None becomes NaN
        "alarm_words": np.array([["" if w is None else w for w in row] for row in words]),
        "alarm_named": np.array([[w is not None for w in row] for row in words]),
    }


def alarm_from(snapshot: Snapshot) -> Alarm | None:
    """The inverse of `alarm_arrays`."""
    if "alarm_rows" not in snapshot:
        return None
    parts = (snapshot[f"alarm_{name}"] for name in ("since", "sizes", "words", "named"))
    culprits = []
    for rows, sizes, words, named in zip(*parts, strict=True):
        found: dict[str, object] = dict(zip(ROWS, map(int, rows), strict=True))
        known = [None if np.isnan(size) else float(size) for size in sizes]
        found |= dict(zip(SIZES, known, strict=True))
        texts = [str(w) if is_one else None for w, is_one in zip(words, named, strict=True)]
        found |= dict(zip(WORDS, texts, strict=True))
        culprits.append(Culprit(*(found[f.name] for f in fields(Culprit))))  # type: ignore[arg-type]
    row, since_row = (int(value) for value in snapshot["alarm_rows"])
    evidence, threshold = (float(value) for value in snapshot["alarm_evidence"])
    return Alarm(row, since_row, evidence, threshold, tuple(culprits))
