"""Judges versions by closed days, as the monitor does: degradation, pairs, moved features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from flights import COLUMNS

from ciclo_drift import BlockMeanTest, BlockSums, PairedComparison, StreamSet, sum_by_block
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.judgement import CLIP
from offline.examples import entropies, losses, microseconds

if TYPE_CHECKING:
    import pandas as pd

    from ciclo.loop import Loop
    from ciclo_drift import Comparison, Rise
    from offline.examples import Asked
    from offline.models import Version


@dataclass(frozen=True, slots=True)
class Watched:
    """The degradation test after each closed day; `days` are UTC day numbers.

    `alarm` is the index of the day whose closing raised the alarm, None if there was none.
    """

    days: list[int]
    rises: list[Rise]
    alarm: int | None


@dataclass(frozen=True, slots=True)
class Compared:
    """A paired comparison after each closed day, up to the first verdict that is asked for.

    `gains` are the day's mean losses of the champion less those of the challenger.
    """

    days: list[int]
    gains: list[float]
    states: list[Comparison]
    verdict: str

    @property
    def is_decided(self) -> bool:
        """True if the last day's verdict is one that was asked for."""
        return self.verdict != "undecided"


def calendar(loop: Loop) -> Calendar:
    """Returns the monitor's calendar: UTC days, judged once their labels are due."""
    return Calendar(
        microseconds(loop.quality.correlated_within),
        microseconds(loop.label.expected_within),
        microseconds(loop.label.never_after),
    )


def budget_days(loop: Loop) -> float:
    """Returns the days between false alarms of one test: the monitor has two, and halves it."""
    return 2 * loop.monitor.false_alarms.per.days / loop.monitor.false_alarms.at_most


def closed(asked: Asked, first_us: int, last_us: int, loop: Loop) -> pd.DataFrame:
    """Returns the rows of whole days whose label was known when their day closed."""
    days = calendar(loop)
    rows = asked.between(days.start_us(days.first_whole(first_us)), last_us)
    due_us = (rows["day"] + 1) * days.block_us + days.matures_us
    return rows[rows["known_time_us"] <= due_us]


def excess(version: Version, rows: pd.DataFrame) -> BlockSums:
    """Sums by day what a version lost above what it expected to lose.

    Loss alone varies by a half more from day to day: some days are hard, and the model knows it.
    """
    if rows.empty:
        return BlockSums(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    late = version.score(rows)
    surplus = losses(rows["label"].to_numpy(), late) - entropies(late)
    return sum_by_block(rows["day"].to_numpy(), surplus)


def watch(reference: BlockSums, live: BlockSums, loop: Loop) -> Watched:
    """Feeds day after day to the degradation test until it alarms.

    Args:
        reference: Held-out days of the version.
        live: Days of traffic, in order.
        loop: Whose tolerance and budget count.
    """
    test = BlockMeanTest(
        reference.totals,
        reference.rows,
        tolerance=loop.monitor.degraded_if.log_loss.above_reference_by,
        budget_blocks=budget_days(loop),
    )
    days: list[int] = []
    rises: list[Rise] = []
    for day, total, rows in zip(live.ids, live.totals, live.rows, strict=True):
        days.append(int(day))
        rises.append(test.update(float(total), int(rows)))
        if rises[-1].alarm:
            return Watched(days, rises, len(days) - 1)
    return Watched(days, rises, None)


def compare(
    champion: Version, challenger: Version, rows: pd.DataFrame, loop: Loop, until: set[str]
) -> Compared:
    """Compares two versions on the same rows, by closed days, until a verdict.

    Args:
        champion: The version that serves.
        challenger: The version that wants to.
        rows: What `closed` returned.
        loop: Whose shadow's confidence and margin count.
        until: Verdicts that end the comparison. `better` is to be so by more than the margin: with
            enough days every two seeds differ, and a release is not worth the difference.
    """
    label = rows["label"].to_numpy()
    gain = losses(label, champion.score(rows)) - losses(label, challenger.score(rows))
    alpha = 1 - loop.rollout.shadow.confidence
    pair = PairedComparison(margin=loop.rollout.shadow.margin, alpha=alpha, clip=CLIP)
    days: list[int] = []
    gains: list[float] = []
    states: list[Comparison] = []
    if rows.empty:
        return Compared(days, gains, states, "undecided")
    sums = sum_by_block(rows["day"].to_numpy(), gain)
    for day, total, count in zip(sums.ids, sums.totals, sums.rows, strict=True):
        days.append(int(day))
        gains.append(float(total / count))
        states.append(pair.update(float(total), int(count)))
        verdict = states[-1].verdict.value
        if verdict == "better" and states[-1].lower <= loop.rollout.shadow.margin:
            verdict = "undecided"
        if verdict in until:
            return Compared(days, gains, states, verdict)
    return Compared(days, gains, states, "undecided")


def moved_features(reference: pd.DataFrame, live: pd.DataFrame, loop: Loop) -> dict[str, object]:
    """Reports which features moved first, with whether the budget of this report is certified.

    It never triggers anything: weather and delays remember longer than a quarter of a year shows.

    Args:
        reference: Rows that the version was trained and held out on.
        live: Rows of traffic.
        loop: Whose budget counts.
    """
    names = [name for view in COLUMNS.values() for name in view]

    def columns(rows: pd.DataFrame) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        return {name: rows[name].to_numpy(np.float64) for name in names}

    streams = StreamSet.fit(
        columns(reference), blocks=reference["day"].to_numpy(), budget_blocks=budget_days(loop)
    )
    report: dict[str, object] = {"certified": streams.certificate.certified}
    for day in np.unique(live["day"].to_numpy()):
        alarm = streams.update(columns(live[live["day"] == day]))
        if alarm is not None:
            report["day"] = str(day.astype("datetime64[D]"))
            report["moved"] = [f"{c.stream} {c.change} {c.size:+.2f}" for c in alarm.culprits[:4]]
            break
    return report
