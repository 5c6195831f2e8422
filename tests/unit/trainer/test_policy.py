"""Whether an episode starts a run."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciclo_trainer.domain.policy import RetrainPolicy, Situation, Skip, Start, decide
from ciclo_trainer.domain.runs import Trigger
from ciclo_trainer.domain.triage import Missing, broken_inputs

NOW = datetime(2013, 6, 19, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = RetrainPolicy("act", frozenset({Trigger.DEGRADED, Trigger.MANUAL}), 7 * DAY, 2, 30 * DAY)
DEGRADED = Situation(
    episode_id="e",
    is_drifted=True,
    is_degraded=True,
    watermark=NOW,
    is_paused=False,
    has_run=False,
    has_rollout=False,
    earlier_cuts=(),
)


def test_a_degraded_champion_is_retrained():
    assert decide(POLICY, DEGRADED) == Start(Trigger.DEGRADED)


def test_drift_alone_starts_nothing_unless_the_policy_says_so():
    drifted = replace(DEGRADED, is_degraded=False)
    assert decide(POLICY, drifted) == Skip(
        "NOT_A_TRIGGER", "the episode has drift; the policy trains for degraded, manual"
    )
    assert decide(replace(POLICY, triggers=frozenset({Trigger.DRIFT})), drifted) == Start(
        Trigger.DRIFT
    )


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (replace(DEGRADED, is_paused=True), "PAUSED"),
        (replace(DEGRADED, has_rollout=True), "ROLLOUT_IN_PROGRESS"),
        (replace(DEGRADED, earlier_cuts=(NOW - 6 * DAY,)), "COOLDOWN"),
        (replace(DEGRADED, earlier_cuts=(NOW - 8 * DAY, NOW - 20 * DAY)), "BUDGET_SPENT"),
    ],
)
def test_what_holds_a_run_back_is_named(situation, reason):
    skip = decide(POLICY, situation)
    assert isinstance(skip, Skip)
    assert skip.reason == reason


@pytest.mark.parametrize(
    ("mode", "reason"), [("observe", "OBSERVE_ONLY"), ("propose", "AWAITING_PERSON")]
)
def test_a_loop_that_does_not_act_trains_nothing_by_itself(mode, reason):
    assert decide(replace(POLICY, mode=mode), DEGRADED).reason == reason


def test_a_run_that_is_under_way_is_not_started_twice():
    assert decide(POLICY, replace(DEGRADED, has_run=True)) is None


def test_old_cuts_hold_nothing_back():
    cuts = tuple(NOW - (31 + n) * DAY for n in range(9))
    assert decide(POLICY, replace(DEGRADED, earlier_cuts=cuts)) == Start(Trigger.DEGRADED)


@given(st.lists(st.integers(0, 120), max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_no_more_runs_are_started_than_the_budget_allows(ages, is_paused, has_rollout, is_degraded):
    situation = replace(
        DEGRADED,
        is_paused=is_paused,
        has_rollout=has_rollout,
        is_degraded=is_degraded,
        earlier_cuts=tuple(NOW - age * DAY for age in ages),
    )
    if isinstance(decide(POLICY, situation), Start):
        assert is_degraded
        assert not is_paused
        assert not has_rollout
        assert all(age >= 7 for age in ages)
        assert sum(age < 30 for age in ages) < 2


def test_an_input_that_vanished_is_broken_and_one_that_was_always_sparse_is_not():
    missing = {
        "wind": Missing(0.01, 0.9),
        "visibility": Missing(0.6, 0.9),
        "temp": Missing(0.0, 0.2),
    }
    assert broken_inputs(missing) == ("wind",)
