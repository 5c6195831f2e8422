"""What the monitor finds, and that it does not depend on how records arrive."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.monitor import worlds as w

from ciclo_drift import Verdict
from ciclo_monitor.domain.batches import key_of
from ciclo_monitor.domain.findings import Closed, Degraded, Drifted, Judged, Stage
from ciclo_monitor.domain.snapshots import freeze, thaw


def of(kind, findings):
    return [finding for finding in findings if isinstance(finding, kind)]


def test_a_champion_that_keeps_its_promise_raises_no_alarm():
    assert w.play(w.monitor(), w.world(60)) == []


def test_a_champion_that_is_wrong_from_a_day_on_is_found_with_that_day():
    (found,) = of(Degraded, w.play(w.monitor(), w.world(60, degraded_from=20)))
    assert abs(found.start_us // w.DAY - w.START - 20) <= 1
    assert 20 < found.detect_us // w.DAY - w.START < 30
    assert found.observed > found.reference + 0.05
    assert found.rise.evidence >= found.rise.threshold
    assert found.cause_event_id == ""


def test_without_labels_nothing_is_called_degraded():
    monitor = w.monitor()
    for day in w.world(60, degraded_from=20):
        assert of(Degraded, monitor.fold_answers(w.answers(day))) == []


def test_an_input_that_moves_is_told_with_its_name_and_starts_nothing_without_a_promise():
    monitor = w.monitor()
    (found,) = of(Drifted, w.play(monitor, w.world(40, shifted_from=20)))
    assert found.moved.alarm.culprits[0].stream == "x"
    assert abs(found.moved.since_us // w.DAY - w.START - 20) <= 1
    assert found.limitation
    assert not monitor.episode.is_drifted


def test_too_many_lost_answers_stop_all_judging():
    monitor = w.monitor()
    monitor.fold_lost(10_000)
    assert w.play(monitor, w.world(60, degraded_from=20)) == []
    assert "captured" in monitor.not_judging


def test_an_episode_ends_with_its_champion():
    monitor = w.monitor()
    w.play(monitor, w.world(40, degraded_from=20))
    (closed,) = monitor.set_champion(w.champion(w.V2))
    assert isinstance(closed, Closed)
    assert closed.reason == "CHAMPION_CHANGED"
    assert monitor.episode is None


def test_a_dismissed_episode_does_not_come_back_from_the_same_days():
    monitor = w.monitor()
    days = w.world(45, degraded_from=20)
    assert of(Degraded, w.play(monitor, days[:25]))
    assert [f.reason for f in monitor.close_episode("DISMISSED")] == ["DISMISSED"]
    assert monitor.episode is None
    assert of(Degraded, w.play(monitor, days[25:27])) == []


@pytest.mark.parametrize("late", [False, True])
def test_labels_that_come_in_time_count_and_later_ones_are_only_reported(late):
    monitor = w.monitor()
    delay = 49 * w.HOUR if late else 2 * w.HOUR
    days = w.world(30)
    for day in days:
        monitor.fold_answers(w.answers(day))
        monitor.fold_labels(w.labels(day, delay=delay))
    reported = sum(loss.rows for loss in monitor.losses.with_kept(monitor.rows.kept))
    assert reported == 30 * w.ROWS_A_DAY
    assert (monitor.performance.rise.rows == 0) == late


def test_a_label_that_comes_after_never_after_is_counted_and_left_out():
    monitor = w.monitor()
    days = w.world(8)
    for day in days:
        monitor.fold_answers(w.answers(day))
    monitor.fold_labels(w.labels(days[0], delay=4 * w.DAY))
    assert monitor.rows.counts.too_late == w.ROWS_A_DAY
    assert monitor.rows.counts.joined == 0


def test_labels_for_nothing_are_counted_once_they_could_have_matured():
    monitor = w.monitor()
    days = w.world(12)
    stranger = replace(w.labels(days[0]), keys=np.arange(1, w.ROWS_A_DAY + 1, dtype=np.int64))
    monitor.fold_labels(stranger)
    w.play(monitor, days)
    assert monitor.rows.counts.unmatched == w.ROWS_A_DAY


def test_rows_without_a_label_are_counted():
    monitor = w.monitor()
    days = w.world(12)
    monitor.fold_answers(w.answers(days[0]))
    w.play(monitor, days[1:])
    assert monitor.rows.never_labelled() == w.ROWS_A_DAY


def test_an_answer_that_is_told_twice_counts_once():
    monitor = w.monitor()
    day = w.world(1)[0]
    monitor.fold_answers(w.answers(day))
    monitor.fold_answers(w.answers(day))
    assert monitor.rows.counts.rows == w.ROWS_A_DAY


def roll_out(monitor, days, *, gain, stage=Stage.SHADOW):
    """Asks a challenger the same rows; `gain` moves its scores towards the truth, or away."""
    findings = list(monitor.set_rollout(replace(w.ROLLOUT, stage=stage)))
    number = key_of(w.ROLLOUT.rollout_id)
    for day in days:
        findings += monitor.fold_answers(w.answers(day))
        scores = np.clip(day["score"] + gain * (day["truth"] - day["score"]), 0.001, 0.999)
        findings += monitor.fold_answers(w.answers(day, version=2, rollout=number, scores=scores))
        findings += monitor.fold_labels(w.labels(day))
    return of(Judged, findings)


def test_a_better_challenger_is_called_better_and_a_worse_one_worse():
    days = w.world(40, degraded_from=0)
    assert roll_out(w.monitor(), days, gain=1.0)[-1].comparison.verdict is Verdict.BETTER
    assert roll_out(w.monitor(), days, gain=-1.0)[-1].comparison.verdict is Verdict.WORSE


def test_an_equal_challenger_is_never_called_better():
    for seed in range(5):
        judged = roll_out(w.monitor(), w.world(40, seed=seed), gain=0.0)
        assert {j.comparison.verdict for j in judged} <= {Verdict.UNDECIDED, Verdict.NOT_WORSE}


def test_a_rollout_is_judged_at_least_once_a_day_so_that_its_clock_goes_on():
    judged = roll_out(w.monitor(), w.world(20), gain=0.0)
    days = {j.watermark_us // w.DAY for j in judged}
    assert len(days) >= 19
    assert len({j.event_id for j in judged}) == len(judged)


def test_the_exposure_is_told_at_once_when_its_limit_is_reached():
    monitor = w.monitor()
    days = w.world(3)
    monitor.set_rollout(replace(w.ROLLOUT, stage=Stage.CANARY))
    findings = []
    for n in range(0, w.ROWS_A_DAY, 20):
        part = slice(n, n + 20)
        findings += monitor.fold_answers(
            w.answers(days[0], version=2, is_challenger=True, part=part)
        )
    assert [j.exposed_rows for j in of(Judged, findings)] == [20, 100]


def test_a_rollout_that_comes_again_counts_its_exposure_anew():
    monitor = w.monitor()
    day = w.world(1)[0]
    monitor.set_rollout(replace(w.ROLLOUT, stage=Stage.CANARY))
    monitor.fold_answers(w.answers(day, version=2, is_challenger=True, part=slice(0, 50)))
    monitor.set_rollout(None)
    monitor.set_rollout(replace(w.ROLLOUT, rollout_id="r-2", stage=Stage.CANARY))
    assert monitor.exposed_rows(2) == 0


def test_answers_asked_again_before_the_rollout_was_known_count():
    monitor = w.monitor()
    days = w.world(30, degraded_from=0)
    number = key_of(w.ROLLOUT.rollout_id)
    for day in days:
        monitor.fold_answers(w.answers(day))
        monitor.fold_answers(w.answers(day, version=2, rollout=number, scores=day["truth"]))
        monitor.fold_labels(w.labels(day))
    monitor.set_rollout(w.ROLLOUT)
    assert monitor.judged.comparison.blocks >= 27


def test_rows_are_let_go_of_and_their_losses_stay():
    policy = replace(w.POLICY, kept_us=5 * w.DAY)
    monitor = w.monitor(policy)
    w.play(monitor, w.world(30))
    assert len(monitor.rows.kept) <= 7 * w.ROWS_A_DAY
    assert (
        sum(loss.rows for loss in monitor.losses.with_kept(monitor.rows.kept)) == 30 * w.ROWS_A_DAY
    )


def test_beyond_its_limit_the_oldest_rows_are_dropped_and_counted():
    monitor = w.monitor(replace(w.POLICY, most_rows=1_000))
    w.play(monitor, w.world(10))
    assert len(monitor.rows.kept) <= 1_000 + w.ROWS_A_DAY
    assert monitor.rows.counts.dropped > 0


DAYS = w.world(16, degraded_from=6)


def interleaved(order, cuts, snapshots):
    """Feeds the two topics in some order and some batches, with kills in between."""
    monitor = w.monitor()
    monitor.set_rollout(w.ROLLOUT)
    number = key_of(w.ROLLOUT.rollout_id)
    served, known = [], []
    for n, day in enumerate(DAYS):
        parts = np.array_split(np.arange(w.ROWS_A_DAY), cuts[n % len(cuts)])
        served += [w.answers(day, part=part) for part in parts]
        served.append(w.answers(day, version=2, rollout=number, scores=day["truth"]))
        known += [w.labels(day, part=part) for part in parts]
    findings = []
    for step in range(len(served) + len(known)):
        take_label = known and (not served or order[step % len(order)])
        if take_label:
            findings += monitor.fold_labels(known.pop(0))
        else:
            findings += monitor.fold_answers(served.pop(0))
        if step in snapshots:
            monitor = thaw("churn", w.POLICY, freeze(monitor))
    return monitor, findings


def decisive(findings):
    """What must not depend on arrival: which blocks say what. Watermarks at the telling may."""
    degraded = [
        (f.event_id, f.rise.evidence, f.start_us, f.observed) for f in of(Degraded, findings)
    ]
    blocks = {f.comparison.blocks: f.comparison for f in of(Judged, findings)}
    return degraded, blocks


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=20),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.sets(st.integers(0, 80), max_size=4),
)
def test_findings_do_not_depend_on_interleaving_batches_or_kills(order, cuts, snapshots):
    plain, expected = interleaved([False, True], [1], ())
    other, found = interleaved(order, cuts, snapshots)
    assert decisive(found)[0] == decisive(expected)[0]
    shared = decisive(found)[1].keys() & decisive(expected)[1].keys()
    assert all(decisive(found)[1][n] == decisive(expected)[1][n] for n in shared)
    assert other.judgement.comparison == plain.judgement.comparison
    assert other.performance.rise == plain.performance.rise
    assert len({f.event_id for f in found}) == len(found)


def test_a_snapshot_changes_nothing():
    monitor, _ = interleaved([False, True], [2], ())
    again = thaw("churn", w.POLICY, freeze(monitor))
    assert freeze(again) == freeze(monitor)
