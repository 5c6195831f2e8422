"""What a model is watched by: its owner's policy, its champion's promise, and what is counted."""

from dataclasses import dataclass, field
from datetime import timedelta

from ciclo.loop import Loop
from ciclo_drift import StreamSet
from ciclo_monitor.domain.batches import UNKNOWN_US, key_of
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.findings import RolloutView, Version
from ciclo_monitor.domain.judgement import Pair
from ciclo_monitor.domain.performance import HeldOut, PerformanceTest

EXTRA_KEPT = timedelta(days=7)
"""Event time for which rows are kept beyond the longest shadow: a cut lies before its rollout."""

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """What the loop's owner declared.

    Args:
        calendar: Blocks, maturity, and the age after which no label is waited for.
        kept_us: Event time for which rows are kept.
        most_rows: Rows that are kept at most.
        tolerance: Rise of the loss that is not degraded.
        budget_blocks: Blocks between false alarms.
        budget: The same in words.
        least_captured: Share of captured answers below which nothing is judged.
        margin: Smallest gain that counts as better, and largest loss that counts as not worse.
        alpha: Chance of ever giving a wrong verdict on a rollout.
        exposure_at_most: Rows that callers may get from a challenger.
    """

    calendar: Calendar
    kept_us: int
    most_rows: int
    tolerance: float
    budget_blocks: int
    budget: str
    least_captured: float
    margin: float
    alpha: float
    exposure_at_most: int


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves, with what its bundle promises.

    Args:
        version: The version.
        held_out: Its losses on held-out blocks.
        streams: Its drift reference, calibrated for the budget.
    """

    version: Version
    held_out: HeldOut
    streams: StreamSet


@dataclass(slots=True)
class Tally:
    """What is counted beside the rows.

    Args:
        answered: Requests whose answers were captured.
        lost: Requests whose answers will never be captured.
        answered_before: Those captured before the champion or the rollout began.
        lost_before: Those lost before that.
        watches: How often the tests began: an episode's and its events' ids follow from it, because
            which test alarms first depends on how the topics interleave.
        episodes: Episodes opened.
        performance_alarms: Alarms of the test of performance.
        drift_alarms: Alarms of the test of drift.
        has_told_drift: Drift of the present champion was told.
        watch_since_us: Event time since which the champion is watched.
        exposed: Rows that callers got from each version as a challenger.
        exposed_before: The same before its present rollout.
        asked_us: Event time until which each rollout asked rows again.
    """

    answered: int = 0
    lost: int = 0
    answered_before: int = 0
    lost_before: int = 0
    watches: int = 0
    episodes: int = 0
    performance_alarms: int = 0
    drift_alarms: int = 0
    has_told_drift: bool = False
    watch_since_us: int = UNKNOWN_US
    exposed: dict[int, int] = field(default_factory=dict)
    exposed_before: dict[int, int] = field(default_factory=dict)
    asked_us: dict[int, int] = field(default_factory=dict)


def policy_of(loop: Loop, most_rows: int) -> WatchPolicy:
    """Returns what a definition says about watching.

    The budget is spread over the two tests, half of it each: a test alone may be wrong half as
    often.
    """
    alarms, block = loop.monitor.false_alarms, loop.quality.correlated_within
    shadow = loop.rollout.shadow
    return WatchPolicy(
        calendar=Calendar(
            block // MICROSECOND,
            loop.label.expected_within // MICROSECOND,
            loop.label.never_after // MICROSECOND,
        ),
        kept_us=(max(loop.label.never_after, shadow.at_most) + EXTRA_KEPT) // MICROSECOND,
        most_rows=most_rows,
        tolerance=loop.monitor.degraded_if.log_loss.above_reference_by,
        budget_blocks=2 * (alarms.per // block) // alarms.at_most,
        budget=str(alarms),
        least_captured=loop.monitor.judge_only_if_captured,
        margin=shadow.margin,
        alpha=1 - shadow.confidence,
        exposure_at_most=loop.rollout.canary.exposure_at_most,
    )


def performance_test(champion: Champion, policy: WatchPolicy, since_us: int) -> PerformanceTest:
    """Returns the test of a champion that is watched since an event time."""
    return PerformanceTest(
        champion.version.number,
        champion.held_out,
        policy.calendar,
        since_us=since_us,
        tolerance=policy.tolerance,
        budget_blocks=policy.budget_blocks,
    )


def pair_of(rollout: RolloutView, policy: WatchPolicy) -> Pair:
    """Returns who is compared in a rollout, and how strictly."""
    return Pair(
        rollout=key_of(rollout.rollout_id),
        champion=rollout.champion.number,
        challenger=rollout.challenger.number,
        since_us=rollout.shadow_since_us,
        margin=policy.margin,
        alpha=policy.alpha,
    )
