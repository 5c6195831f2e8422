"""What is found, and under which id, follows from the records: not from kills, gaps or repeats."""

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.monitor import worlds as w

from ciclo_drift import DriftInputError
from ciclo_monitor.domain.batches import Answers, Labels, key_of
from ciclo_monitor.domain.findings import Degraded, Drifted, Judged, Stage
from ciclo_monitor.domain.snapshots import freeze, thaw

DAYS = w.world(40, degraded_from=12, shifted_from=12)


def of(kind, findings):
    return [finding for finding in findings if isinstance(finding, kind)]


def test_drift_and_degraded_have_the_same_ids_whichever_is_found_first():
    days = w.world(40, degraded_from=12, shifted_from=28)
    by_days = w.play(w.monitor(), days)
    monitor = w.monitor()
    by_topics = [f for day in days for f in monitor.fold_answers(w.answers(day))]
    by_topics += [f for day in days for f in monitor.fold_labels(w.labels(day))]
    assert [type(f) for f in by_days] == [Degraded, Drifted]
    assert [type(f) for f in by_topics] == [Drifted, Degraded]
    assert {f.event_id for f in by_days} == {f.event_id for f in by_topics}
    assert len({f.episode_id for f in by_days + by_topics}) == 1


def whole(days):
    """Returns days as one batch of answers and one of labels: all blocks close at once."""
    parts, known = [w.answers(day) for day in days], [w.labels(day) for day in days]
    answers = Answers(
        version=1,
        is_challenger=False,
        rollout=0,
        columns={"x": np.concatenate([part.columns["x"] for part in parts])},
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("keys", "row_keys", "event_time_us", "scores")
        },
    )
    joined = [
        np.concatenate([getattr(one, name) for one in known])
        for name in ("keys", "values", "event_time_us")
    ]
    return answers, Labels(*joined)


def test_a_finding_says_the_same_when_many_blocks_close_at_once():
    days = w.world(40, degraded_from=20)
    (expected,) = of(Degraded, w.play(w.monitor(), days))
    monitor = w.monitor()
    answers, labels = whole(days)
    monitor.fold_answers(answers)
    monitor = thaw("churn", w.POLICY, freeze(monitor))
    (found,) = of(Degraded, monitor.fold_labels(labels))
    assert replace(found, detect_us=0) == replace(expected, detect_us=0)


def test_each_block_is_told_with_its_own_evidence_when_many_close_at_once():
    monitor = w.monitor()
    monitor.set_rollout(w.ROLLOUT)
    days = w.world(15)
    for day in days:
        monitor.fold_answers(w.answers(day))
        again = w.answers(day, version=2, rollout=key_of(w.ROLLOUT.rollout_id), scores=day["truth"])
        monitor.fold_answers(again)
    _, labels = whole(days)
    judged = of(Judged, monitor.fold_labels(labels))
    assert len(judged) > 5
    assert [j.comparison.blocks for j in judged] == list(range(1, len(judged) + 1))


@pytest.mark.parametrize("kind", [Degraded, Drifted])
def test_an_alarm_while_too_little_is_captured_is_told_once_enough_is(kind):
    monitor = w.monitor()
    monitor.fold_lost(100)
    assert w.play(monitor, DAYS[:30]) == []
    assert monitor.not_judging
    monitor = thaw("churn", w.POLICY, freeze(monitor))
    monitor.tally.lost = 0
    assert len(of(kind, w.play(monitor, DAYS[30:]))) == 1


def test_a_batch_that_is_told_twice_changes_nothing():
    monitor = w.monitor()
    monitor.set_rollout(replace(w.ROLLOUT, stage=Stage.CANARY))
    for is_challenger in (False, True):
        day = w.world(2)[int(is_challenger)]
        batch = w.answers(day, version=1 + is_challenger, is_challenger=is_challenger)
        monitor.fold_answers(batch)
        before = freeze(monitor)
        assert monitor.fold_answers(batch) == []
        assert freeze(monitor) == before


def test_a_row_that_a_batch_holds_twice_counts_once():
    monitor = w.monitor()
    twice = np.repeat(np.arange(w.ROWS_A_DAY), 2)
    monitor.fold_answers(w.answers(DAYS[0], part=twice))
    assert monitor.rows.counts.rows == monitor.drift.now.row + 1 == w.ROWS_A_DAY


def test_a_batch_without_a_stream_of_the_champion_is_refused_and_changes_nothing():
    monitor = w.monitor()
    w.play(monitor, DAYS[:2])
    before = freeze(monitor)
    with pytest.raises(DriftInputError):
        monitor.fold_answers(replace(w.answers(DAYS[2]), columns={}))
    assert freeze(monitor) == before


def test_a_dismissed_drift_is_tested_anew_from_its_reference():
    monitor = w.monitor()
    days = w.world(60, shifted_from=10)
    assert of(Drifted, w.play(monitor, days[:20]))
    monitor.close_episode("DISMISSED")
    assert monitor.drift.now.evidence < 1
    (again,) = of(Drifted, w.play(monitor, days[20:]))
    assert again.moved.since_us // w.DAY - w.START >= 20
