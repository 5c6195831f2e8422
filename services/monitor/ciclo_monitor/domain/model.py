"""One model under watch: folds answers and labels, holds its tests, tells what it finds.

Just over 300 lines: what is fed, what the registry says and what is found change one state.
"""

import uuid
from dataclasses import replace

from ciclo_drift import Comparison, Rise
from ciclo_monitor.domain.batches import UNKNOWN_US, Answers, Labels, key_of
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
from ciclo_monitor.domain.judgement import Judgement
from ciclo_monitor.domain.performance import PerformanceTest
from ciclo_monitor.domain.rows import RowStore
from ciclo_monitor.domain.sums import LossHistory
from ciclo_monitor.domain.watch import Champion, Tally, WatchPolicy, pair_of, performance_test


class ModelMonitor:
    """Everything that is known of one model.

    Deterministic: the same records in each topic's order give the same findings with the same ids,
    however the two topics interleave and however they are polled.

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
        """Event time of the model; `UNKNOWN_US` before enough requests agree on it."""
        return self.rows.clock.settled_us

    @property
    def last_closed_block(self) -> int:
        """The newest block whose labels have had their time."""
        return self.policy.calendar.last_closed(self.rows.known_us)

    @property
    def captured(self) -> float:
        """Share of the requests since the champion or the rollout began that were captured."""
        answered = self.tally.answered - self.tally.answered_before
        lost = self.tally.lost - self.tally.lost_before
        return answered / (answered + lost) if answered + lost else 1.0

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
        """Takes in rows that callers got, or that were asked again.

        Raises:
            DriftInputError: A stream of the champion is missing, or of another type; nothing has
                changed.
        """
        if answers.rollout:
            return self._fold_asked_again(answers)
        requests, omitted = answers.requests, answers.omitted
        answers = answers.only(self.rows.is_new(answers.keys))  # a batch may be told twice
        if not len(answers.keys):
            self.tally.lost += 0 if requests else omitted
            return []
        day_before = self._block_now()
        clock = replace(self.rows.clock)
        believed = answers.only(clock.take(answers.event_time_us))
        self._feed_drift(believed)  # first: it refuses a batch before anything has changed
        self.rows.add(believed, clock)
        self.rows.counts.ahead += len(answers.keys) - len(believed.keys)
        self.tally.answered += requests
        self.tally.lost += omitted
        findings: list[Finding] = []
        if answers.is_challenger:
            findings += self._expose(answers.version, len(answers.keys))
        findings += self._find_drift() + self._close_blocks()
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
            self.begin_judging(rollout)
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
        answers = answers.only(self.rows.clock.is_near(answers.event_time_us))
        if not len(answers.keys):
            return []
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

    def _feed_drift(self, answers: Answers) -> None:
        is_champion = self.champion and answers.version == self.champion.version.number
        if self.drift and is_champion and not answers.is_challenger and len(answers.keys):
            self.drift.fold(answers.columns, answers.scores, answers.event_time_us)

    def _find_drift(self) -> list[Finding]:
        if not (self.drift and self.champion) or self.tally.has_told_drift or self.not_judging:
            return []
        moved = self.drift.alarm
        return [self._drifted(moved, self.champion.version, self.drift.limitation)] if moved else []

    def _close_blocks(self) -> list[Finding]:
        known_us = self.rows.known_us
        findings: list[Finding] = []
        if self.performance and self.champion:
            self.performance.fold(self.rows.kept, known_us)
            rise = self.performance.alarm
            is_new = not (self.episode and self.episode.is_degraded)
            if rise and is_new and not self.not_judging:
                findings.append(self._degraded(rise, self.performance, self.champion.version))
        if self.judgement and self.rollout and not self.not_judging:
            for block, comparison in self.judgement.fold(self.rows.kept, known_us):
                findings += self._judge_again(f"block {block}", comparison)
        return findings

    def _drifted(self, moved: Moved, version: Version, limitation: str) -> Drifted:
        self.tally.has_told_drift = True
        self.tally.drift_alarms += 1
        event_id = self._id("drifted", version.number, f"watch {self.tally.watches}")
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

    def _degraded(self, rise: Rise, test: PerformanceTest, version: Version) -> Degraded:
        self.tally.performance_alarms += 1
        event_id = self._id("degraded", version.number, f"watch {self.tally.watches}")
        cause = self.episode.cause_event_id if self.episode else ""
        episode = self._opened(event_id)
        self.episode = replace(episode, is_degraded=True)
        return Degraded(
            episode_id=episode.episode_id,
            event_id=event_id,
            cause_event_id=cause,
            version=version,
            rise=rise,
            reference=test.promised,
            observed=test.mean_loss_since(rise),
            start_us=test.since_us(rise),
            detect_us=self.watermark_us,
            budget=self.policy.budget,
        )

    def _opened(self, event_id: str) -> Episode:
        if self.episode:
            return self.episode
        self.tally.episodes += 1
        number = self.champion.version.number if self.champion else 0
        episode_id = self._id("episode", number, f"watch {self.tally.watches}")
        return Episode(episode_id, event_id, False, False, self.watermark_us)

    def _expose(self, version: int, rows: int) -> list[Finding]:
        before = self.exposed_rows(version)
        self.tally.exposed[version] = self.tally.exposed.get(version, 0) + rows
        limit = self.policy.exposure_at_most
        if before < limit <= self.exposed_rows(version):
            return self._judge_again("exposed", is_due=True)  # a limit holds whatever was captured
        return []

    def _judge_again(
        self, why: str, comparison: Comparison | None = None, *, is_due: bool = False
    ) -> list[Finding]:
        # Told for every block and every day, also where nothing but the watermark has moved: the
        # registry's clock of a stage goes on by judgements alone. And what is told, ids included,
        # may not depend on what was told last, or a killed monitor would tell other things.
        if not (self.judgement and self.rollout) or (self.not_judging and not is_due):
            return []
        rollout = self.rollout
        self.judged = Judged(
            rollout=rollout,
            event_id=self._id("judged", rollout.rollout_id, rollout.stage, why),
            comparison=comparison or self.judgement.comparison,
            exposed_rows=self.exposed_rows(rollout.challenger.number),
            watermark_us=self.watermark_us,
            captured=self.captured,
        )
        return [self.judged]

    # -- helpers ----------------------------------------------------------------------------------

    def begin_watch(self) -> None:
        """Starts the champion's tests from their references."""
        self.tally.has_told_drift = False
        self.tally.watches += 1
        self.drift = None
        self.begin_performance()
        if self.champion:
            self.champion.streams.reset()
            self.drift = DriftTest(self.champion.streams, self.policy.calendar)

    def begin_performance(self) -> None:
        """Starts the test of performance anew; rows that are kept are tested again."""
        champion, since_us = self.champion, self.tally.watch_since_us
        self.performance = performance_test(champion, self.policy, since_us) if champion else None

    def begin_judging(self, rollout: RolloutView) -> None:
        """Starts the comparison of a rollout; what was asked again before it was known counts."""
        self.judgement = Judgement(pair_of(rollout, self.policy), self.policy.calendar)
        asked = self.tally.asked_us.get(key_of(rollout.rollout_id), UNKNOWN_US)
        self.judgement.asked_until_us = asked

    def _count_captured_anew(self) -> None:
        self.tally.answered_before = self.tally.answered
        self.tally.lost_before = self.tally.lost

    def _block_now(self) -> int:
        return self.watermark_us // self.policy.calendar.block_us

    def _id(self, *parts: object) -> str:
        """Returns the same id for the same finding, so that a repeat is the same event."""
        text = "/".join(map(str, (self.model, *parts)))
        return str(uuid.uuid5(uuid.NAMESPACE_OID, text))
