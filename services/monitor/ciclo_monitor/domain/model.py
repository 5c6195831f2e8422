"""One model under watch: folds answers and labels, holds its tests, tells what it finds."""

import uuid
from dataclasses import dataclass, field, replace

from ciclo_drift import StreamSet
from ciclo_monitor.domain.batches import UNKNOWN_US, Answers, Labels, key_of
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.drift import DriftTest, Moved
from ciclo_monitor.domain.findings import (
    Closed,
    Degraded,
    Drifted,
    Episode,
    Finding,
    Judged,
    RolloutView,
    Version,
)
from ciclo_monitor.domain.judgement import Judgement, Pair
from ciclo_monitor.domain.performance import HeldOut, PerformanceTest
from ciclo_monitor.domain.rows import RowStore
from ciclo_monitor.domain.sums import LossHistory


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
        lost: Answers that will never be captured.
        captured_before: Rows that were captured before the champion or the rollout began.
        lost_before: Answers that were lost before that.
        episodes: Episodes opened.
        performance_alarms: Alarms of the test of performance.
        drift_alarms: Alarms of the test of drift.
        has_told_drift: Drift of the present champion was told.
        watch_since_us: Event time since which the champion is watched.
        exposed: Rows that callers got from each version as a challenger.
        exposed_before: The same before its present rollout.
        asked_us: Event time until which each rollout asked rows again.
    """

    lost: int = 0
    captured_before: int = 0
    lost_before: int = 0
    episodes: int = 0
    performance_alarms: int = 0
    drift_alarms: int = 0
    has_told_drift: bool = False
    watch_since_us: int = UNKNOWN_US
    exposed: dict[int, int] = field(default_factory=dict)
    exposed_before: dict[int, int] = field(default_factory=dict)
    asked_us: dict[int, int] = field(default_factory=dict)


class ModelMonitor:
    """Everything that is known of one model.

    Deterministic: the same records in each topic's order give the same findings with the same ids,
    however the two topics interleave and however they are cut into batches.

    Args:
        model: The model's name.
        policy: What its owner declared.
    """

    def __init__(self, model: str, policy: WatchPolicy) -> None:
        self.model = model
        self.policy = policy
        self.rows = RowStore(policy.calendar, policy.kept_us, policy.most_rows)
        self.losses = LossHistory()
        self.champion: Champion | None = None
        self.performance: PerformanceTest | None = None
        self.drift: DriftTest | None = None
        self.episode: Episode | None = None
        self.rollout: RolloutView | None = None
        self.judgement: Judgement | None = None
        self.judged: Judged | None = None
        self.tally = Tally()

    @property
    def watermark_us(self) -> int:
        """Event time of the model; `UNKNOWN_US` before the first request."""
        return self.rows.watermark_us

    @property
    def last_closed_block(self) -> int:
        """The newest block whose labels have had their time."""
        known_us = min(self.rows.watermark_us, self.rows.label_watermark_us)
        return self.policy.calendar.last_closed(known_us)

    @property
    def captured(self) -> float:
        """Share of the answers since the champion or the rollout began that were captured."""
        rows = self.rows.counts.rows - self.tally.captured_before
        lost = self.tally.lost - self.tally.lost_before
        return rows / (rows + lost) if rows + lost else 1.0

    @property
    def not_judging(self) -> str:
        """Why nothing is judged now; empty if it is."""
        if self.captured < self.policy.least_captured:
            return (
                f"only {self.captured:.1%} of the answers were captured, "
                f"{self.policy.least_captured:.1%} are needed"
            )
        return "" if self.champion else "no version serves"

    def exposed_rows(self, version: int) -> int:
        """Returns how many rows callers got from a challenger in its present rollout."""
        return self.tally.exposed.get(version, 0) - self.tally.exposed_before.get(version, 0)

    # -- what is fed ------------------------------------------------------------------------------

    def fold_answers(self, answers: Answers) -> list[Finding]:
        """Takes in rows that callers got, or that were asked again."""
        if answers.rollout:
            return self._fold_asked_again(answers)
        day_before = self._block_now()
        self.rows.add(answers)
        findings: list[Finding] = []
        if answers.is_challenger:
            findings += self._expose(answers.version, len(answers.keys))
        elif self.champion and answers.version == self.champion.version.number:
            findings += self._fold_drift(answers)
        findings += self._close_blocks()
        if self._block_now() > day_before:
            findings += self._judge_again(f"day {self._block_now()}")
            self.rows.prune(self.losses.add)
        return findings

    def fold_labels(self, labels: Labels) -> list[Finding]:
        """Takes in labels."""
        self.rows.label(labels)
        return self._close_blocks()

    def fold_lost(self, count: int) -> None:
        """Takes in that answers will never be captured."""
        self.tally.lost += count

    # -- what the registry says -------------------------------------------------------------------

    def set_champion(self, champion: Champion | None) -> list[Finding]:
        """Watches another version from now on; the open episode ends."""
        known = self.champion.version if self.champion else None
        if (champion.version if champion else None) == known:
            return []
        findings = self.close_episode("CHAMPION_CHANGED") if known else []
        self.champion = champion
        self.tally.watch_since_us = self.watermark_us if known else UNKNOWN_US
        self._count_captured_anew()
        self.begin_watch()
        return findings

    def set_rollout(self, rollout: RolloutView | None) -> list[Finding]:
        """Judges a rollout, another stage of it, or none."""
        before, self.rollout = self.rollout, rollout
        if before and (rollout is None or rollout.rollout_id != before.rollout_id):
            number = before.challenger.number
            self.tally.exposed_before[number] = self.tally.exposed.get(number, 0)
            self.judgement = self.judged = None
        if rollout and self.judgement is None:
            self._count_captured_anew()
            self.judgement = Judgement(self._pair(rollout), self.policy.calendar)
            self.judgement.asked_until_us = self.tally.asked_us.get(
                key_of(rollout.rollout_id), UNKNOWN_US
            )
            return self._close_blocks() or self._judge_again("begin")
        if rollout and before and rollout.stage is not before.stage:
            return self._judge_again("stage")
        return []

    def close_episode(self, reason: str) -> list[Finding]:
        """Ends the open episode, if there is one; the tests begin anew."""
        if self.episode is None:
            return []
        episode, self.episode = self.episode, None
        event_id = self._id("closed", episode.episode_id)
        if reason == "DISMISSED":
            self.tally.watch_since_us = self.watermark_us
            self.begin_watch()
        return [Closed(episode, event_id, reason, self.watermark_us)]

    # -- what is found ----------------------------------------------------------------------------

    def _fold_asked_again(self, answers: Answers) -> list[Finding]:
        judging = self.rollout and key_of(self.rollout.rollout_id) == answers.rollout
        asked = self.tally.asked_us.get(answers.rollout, UNKNOWN_US)
        calendar = self.policy.calendar
        self.rows.answer_again(answers, lambda block: calendar.end_us(block) <= asked)
        asked = max(asked, int(answers.event_time_us.max()))
        self.tally.asked_us[answers.rollout] = asked
        if judging and self.judgement:
            self.judgement.asked_until_us = asked
            return self._close_blocks()
        return []

    def _fold_drift(self, answers: Answers) -> list[Finding]:
        if self.drift is None or self.champion is None:
            return []
        moved = self.drift.fold(answers.columns, answers.scores, answers.event_time_us)
        if moved is None or self.tally.has_told_drift or self.not_judging:
            return []
        self.tally.has_told_drift = True
        self.tally.drift_alarms += 1
        return [self._drifted(moved, self.champion.version, self.drift.limitation)]

    def _close_blocks(self) -> list[Finding]:
        known_us = min(self.rows.watermark_us, self.rows.label_watermark_us)
        findings: list[Finding] = []
        if self.performance and self.champion:
            rise = self.performance.fold(self.rows.kept, known_us)
            is_new = not (self.episode and self.episode.is_degraded)
            if rise and is_new and not self.not_judging:
                self.tally.performance_alarms += 1
                findings.append(self._degraded(self.performance, self.champion.version))
        if self.judgement and self.rollout and not self.not_judging:
            for block, _ in self.judgement.fold(self.rows.kept, known_us):
                findings += self._judge_again(f"block {block}")
        return findings

    def _drifted(self, moved: Moved, version: Version, limitation: str) -> Drifted:
        event_id = self._id("drifted", version.number, self.tally.episodes)
        episode = self._opened(event_id)
        self.episode = replace(episode, is_drifted=not limitation)
        return Drifted(
            episode_id=episode.episode_id,
            event_id=event_id,
            version=version,
            moved=moved,
            detect_us=self.watermark_us,
            budget=self.policy.budget,
            limitation=limitation,
        )

    def _degraded(self, test: PerformanceTest, version: Version) -> Degraded:
        event_id = self._id("degraded", version.number, self.tally.episodes)
        cause = self.episode.cause_event_id if self.episode else ""
        episode = self._opened(event_id)
        self.episode = replace(episode, is_degraded=True)
        return Degraded(
            episode_id=episode.episode_id,
            event_id=event_id,
            cause_event_id=cause,
            version=version,
            rise=test.rise,
            reference=test.promised,
            observed=test.mean_loss_since(test.rise),
            start_us=test.since_us(test.rise),
            detect_us=self.watermark_us,
            budget=self.policy.budget,
        )

    def _opened(self, event_id: str) -> Episode:
        if self.episode:
            return self.episode
        self.tally.episodes += 1
        number = self.champion.version.number if self.champion else 0
        episode_id = self._id("episode", number, self.tally.episodes)
        return Episode(episode_id, event_id, False, False, self.watermark_us)

    def _expose(self, version: int, rows: int) -> list[Finding]:
        before = self.exposed_rows(version)
        self.tally.exposed[version] = self.tally.exposed.get(version, 0) + rows
        limit = self.policy.exposure_at_most
        if before < limit <= self.exposed_rows(version):
            return self._judge_again("exposed")
        return []

    def _judge_again(self, why: str) -> list[Finding]:
        if not (self.judgement and self.rollout) or self.not_judging:
            return []
        rollout = self.rollout
        self.judged = Judged(
            rollout=rollout,
            event_id=self._id("judged", rollout.rollout_id, rollout.stage, why),
            comparison=self.judgement.comparison,
            exposed_rows=self.exposed_rows(rollout.challenger.number),
            watermark_us=self.watermark_us,
            captured=self.captured,
        )
        return [self.judged]

    # -- helpers ----------------------------------------------------------------------------------

    def begin_watch(self) -> None:
        """Starts the champion's tests from their references."""
        self.tally.has_told_drift = False
        self.performance = self.drift = None
        if self.champion:
            self.performance = self._performance(self.champion)
            self.drift = DriftTest(self.champion.streams, self.policy.calendar)

    def _performance(self, champion: Champion) -> PerformanceTest:
        return PerformanceTest(
            champion.version.number,
            champion.held_out,
            self.policy.calendar,
            since_us=self.tally.watch_since_us,
            tolerance=self.policy.tolerance,
            budget_blocks=self.policy.budget_blocks,
        )

    def _pair(self, rollout: RolloutView) -> Pair:
        return Pair(
            rollout=key_of(rollout.rollout_id),
            champion=rollout.champion.number,
            challenger=rollout.challenger.number,
            since_us=rollout.shadow_since_us,
            margin=self.policy.margin,
            alpha=self.policy.alpha,
        )

    def _count_captured_anew(self) -> None:
        self.tally.captured_before = self.rows.counts.rows
        self.tally.lost_before = self.tally.lost

    def _block_now(self) -> int:
        return self.watermark_us // self.policy.calendar.block_us

    def _id(self, *parts: object) -> str:
        """Returns the same id for the same finding, so that a repeat is the same event."""
        text = "/".join(map(str, (self.model, *parts)))
        return str(uuid.uuid5(uuid.NAMESPACE_OID, text))
