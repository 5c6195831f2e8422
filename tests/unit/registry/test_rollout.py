"""The rollout state machine: each way through it, by example."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.registry.examples import (
    LEASE,
    STALL,
    WALL,
    day,
    judgement,
    model,
    policy,
    ref,
    version,
)

from ciclo_registry.domain import decisions
from ciclo_registry.domain.decisions import Outcome
from ciclo_registry.domain.facts import (
    LoopPaused,
    ModelPromoted,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutRolledBack,
)
from ciclo_registry.domain.model import Model, weights
from ciclo_registry.domain.policy import EndReason, Stage, Verdict


def started(**changes: Any) -> Model:
    outcome = decisions.start(model(**changes), version(2), rollout_id="rollout-1", now=WALL)
    return outcome.model


def judged(before: Model, *args: Any, now: Any = WALL, **kwargs: Any) -> Outcome:
    changes = kwargs.pop("policy", {})
    return decisions.judge(before, policy(**changes), judgement(*args, **kwargs), now=now)


def in_canary(verdict: Verdict = Verdict.BETTER) -> Model:
    return judged(started(), Stage.SHADOW, verdict, at=1, policy={"until": verdict}).model


def in_baking() -> Model:
    second = judged(in_canary(), Stage.CANARY, Verdict.BETTER, at=6).model
    return judged(second, Stage.CANARY, Verdict.BETTER, at=11).model


def end_of(outcome: Outcome) -> EndReason | None:
    ends = [f.end.reason for f in outcome.facts if isinstance(f, RolloutRolledBack)]
    return ends[0] if ends else None


def stage_of(outcome: Outcome) -> Stage | None:
    return outcome.model.rollout.stage if outcome.model.rollout else None


def shares(of: Model) -> dict[int, float]:
    return {weight.version: weight.share for weight in weights(of)}


def test_a_rollout_goes_from_shadow_through_each_weight_and_the_bake_to_completed() -> None:
    shadow = started()
    assert shares(shadow) == {1: 1.0}
    first = judged(shadow, Stage.SHADOW, Verdict.BETTER, at=1)
    assert shares(first.model) == pytest.approx({1: 0.95, 2: 0.05})
    second = judged(first.model, Stage.CANARY, Verdict.BETTER, at=6)
    assert shares(second.model) == pytest.approx({1: 0.75, 2: 0.25})
    baking = judged(second.model, Stage.CANARY, Verdict.BETTER, at=11)
    assert shares(baking.model) == {2: 1.0, 1: 0.0}
    assert [type(fact) for fact in baking.facts] == [RolloutAdvanced, ModelPromoted]
    done = judged(baking.model, Stage.BAKING, Verdict.BETTER, at=18)
    assert [type(fact) for fact in done.facts] == [RolloutCompleted]
    assert (done.model.champion, done.model.previous) == (ref(2), ref(1))
    assert done.model.rollout is None


def test_a_canary_step_lasts_its_whole_event_time() -> None:
    assert judged(in_canary(), Stage.CANARY, Verdict.BETTER, at=5.99).facts == ()


def test_a_shadow_that_proves_nothing_is_given_up_after_its_time() -> None:
    late = judged(started(), Stage.SHADOW, Verdict.UNDECIDED, at=35)
    assert end_of(late) is EndReason.NOT_BETTER
    assert end_of(judged(started(), Stage.SHADOW, Verdict.UNDECIDED, at=34.9)) is None


def test_a_shadow_that_proves_it_at_the_last_moment_goes_on() -> None:
    assert judged(started(), Stage.SHADOW, Verdict.BETTER, at=35).model.rollout is not None


def test_not_worse_suffices_only_where_the_policy_says_so() -> None:
    assert judged(started(), Stage.SHADOW, Verdict.NOT_WORSE).facts == ()
    enough = judged(started(), Stage.SHADOW, Verdict.NOT_WORSE, policy={"until": Verdict.NOT_WORSE})
    assert [type(fact) for fact in enough.facts] == [RolloutAdvanced]


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.CANARY, Stage.BAKING])
def test_a_worse_challenger_is_taken_back_from_every_stage(stage: Stage) -> None:
    before = {Stage.SHADOW: started, Stage.CANARY: in_canary, Stage.BAKING: in_baking}[stage]()
    outcome = judged(before, stage, Verdict.WORSE, at=12)
    assert end_of(outcome) is EndReason.WORSE
    assert outcome.model.champion == ref(1)
    assert shares(outcome.model) == {1: 1.0}
    assert outcome.model.lease_expire_time is None


def test_a_worse_challenger_is_taken_back_while_the_loop_is_paused() -> None:
    paused = decisions.pause(in_canary(), "holiday", by="ada").model
    assert end_of(judged(paused, Stage.CANARY, Verdict.WORSE, at=3)) is EndReason.WORSE


def test_a_paused_loop_does_not_advance() -> None:
    paused = decisions.pause(started(), "holiday", by="ada").model
    assert judged(paused, Stage.SHADOW, Verdict.BETTER).facts == ()


def test_an_unproven_challenger_is_taken_back_at_the_exposure_limit() -> None:
    canary = in_canary(Verdict.NOT_WORSE)
    assert end_of(judged(canary, Stage.CANARY, Verdict.NOT_WORSE, at=2, exposed=1499)) is None
    over = judged(canary, Stage.CANARY, Verdict.NOT_WORSE, at=2, exposed=1500)
    assert end_of(over) is EndReason.EXPOSURE_LIMIT


def test_exposure_that_grows_while_event_time_stands_still_is_news() -> None:
    seen = judged(in_canary(Verdict.NOT_WORSE), Stage.CANARY, Verdict.NOT_WORSE, at=2, exposed=10)
    over = judged(seen.model, Stage.CANARY, Verdict.NOT_WORSE, at=2, exposed=1500)
    assert end_of(over) is EndReason.EXPOSURE_LIMIT
    assert judged(seen.model, Stage.CANARY, Verdict.NOT_WORSE, at=2, exposed=10).rollout is None


def test_a_proven_challenger_may_pass_the_exposure_limit() -> None:
    assert judged(in_canary(), Stage.CANARY, Verdict.BETTER, at=2, exposed=9999).facts == ()


def test_a_forced_challenger_is_limited_even_if_it_is_judged_better() -> None:
    forced = decisions.force(started(), policy(), by="ada", reason="demo", now=WALL)
    outcome = judged(forced.model, Stage.CANARY, Verdict.BETTER, at=2, exposed=1500)
    assert end_of(outcome) is EndReason.EXPOSURE_LIMIT


def test_a_forced_challenger_needs_evidence_before_it_answers_more_callers() -> None:
    forced = decisions.force(started(), policy(), by="ada", reason="demo", now=WALL).model
    undecided = judged(forced, Stage.CANARY, Verdict.UNDECIDED, at=100).model
    assert undecided.rollout is not None
    assert undecided.rollout.weight == policy().weights[0]
    shown = judged(undecided, Stage.CANARY, Verdict.NOT_WORSE, at=101, blocks=3).model
    assert shown.rollout is not None
    assert shown.rollout.weight == policy().weights[1]


def test_a_forced_version_is_compared_since_it_was_forced() -> None:
    since = datetime(2013, 7, 20, tzinfo=UTC)
    outcome = decisions.start(model(), version(2), rollout_id="r", now=WALL, since=since)
    assert outcome.rollout is not None
    assert outcome.rollout.shadow_since == since


def test_a_canary_of_which_nothing_is_judged_does_not_go_on_and_ends() -> None:
    canary = in_canary()
    waiting = judged(canary, Stage.CANARY, Verdict.BETTER, at=20, blocks=1).model
    assert waiting.rollout is not None
    assert waiting.rollout.weight == policy().weights[0]
    late = 1 + (policy().each + policy().shadow_at_most) / timedelta(days=1)
    ended = judged(waiting, Stage.CANARY, Verdict.BETTER, at=late, blocks=1)
    assert end_of(ended) is EndReason.TIMEOUT


def test_forcing_moves_past_the_present_stage_and_says_who_and_why() -> None:
    outcome = decisions.force(in_canary(), policy(), by="ada", reason="demo", now=WALL)
    assert stage_of(outcome) is Stage.BAKING
    advanced = outcome.facts[0]
    assert isinstance(advanced, RolloutAdvanced)
    assert (advanced.forced_by, advanced.forced_reason) == ("ada", "demo")


def test_a_policy_without_weights_bakes_at_once() -> None:
    outcome = judged(started(), Stage.SHADOW, Verdict.BETTER, policy={"weights": ()})
    assert stage_of(outcome) is Stage.BAKING


def test_without_requests_the_clock_of_a_stage_begins_with_the_first_judgement() -> None:
    shadow = started(watermark=None)
    first = judged(shadow, Stage.SHADOW, Verdict.UNDECIDED, at=100).model
    assert first.rollout is not None
    assert end_of(judged(first, Stage.SHADOW, at=134, blocks=2)) is None
    assert end_of(judged(first, Stage.SHADOW, at=135, blocks=2)) is EndReason.NOT_BETTER


def test_the_first_version_serves_at_once() -> None:
    outcome = decisions.start(model(champion=None), version(1), rollout_id="r", now=WALL)
    assert shares(outcome.model) == {1: 1.0}
    assert [type(fact) for fact in outcome.facts] == [ModelPromoted]


def test_after_completion_one_may_return_to_the_previous_champion() -> None:
    done = judged(in_baking(), Stage.BAKING, Verdict.BETTER, at=18).model
    back = decisions.take_back(done, EndReason.MANUAL, "complaints", by="ada")
    assert (back.model.champion, back.model.previous) == (ref(1), None)
    fact = back.facts[0]
    assert isinstance(fact, RolloutRolledBack)
    assert (fact.rollout_id, fact.challenger, fact.end.from_stage) == (
        "rollout-1",
        ref(2),
        Stage.COMPLETED,
    )


def test_three_failed_cycles_in_a_row_pause_the_loop() -> None:
    broken = decisions.fail_cycle(model(), "training").model
    broken = decisions.fail_cycle(broken, "gates").model
    before = decisions.start(broken, version(2), rollout_id="rollout-1", now=WALL).model
    outcome = judged(before, Stage.SHADOW, Verdict.WORSE)
    assert outcome.model.is_paused
    assert isinstance(outcome.facts[-1], LoopPaused)


def test_a_person_who_takes_back_fails_no_cycle() -> None:
    before = started(failed_cycles=2)
    outcome = decisions.take_back(before, EndReason.MANUAL, "no", by="ada")
    assert not outcome.model.is_paused


def test_a_completed_rollout_forgets_failed_cycles() -> None:
    before = replace(in_baking(), failed_cycles=2)
    assert judged(before, Stage.BAKING, Verdict.BETTER, at=18).model.failed_cycles == 0


def observed(before: Model, *, now: Any, at: float | None = 0, heartbeat: Any = None) -> Outcome:
    return decisions.observe(
        before,
        policy(),
        watermark=None if at is None else day(at),
        heartbeat=heartbeat,
        watching_since=WALL,
        now=now,
    )


def test_a_rollout_without_progress_is_taken_back() -> None:
    assert end_of(observed(started(), now=WALL + STALL)) is EndReason.TIMEOUT
    assert end_of(observed(started(), now=WALL + STALL - LEASE)) is None


def test_event_time_that_moves_towards_the_next_judgement_is_progress() -> None:
    moving = observed(started(), now=WALL + STALL - LEASE, at=1).model
    assert end_of(observed(moving, now=WALL + STALL, at=1)) is None


def test_event_time_alone_is_no_progress_once_a_judgement_is_overdue() -> None:
    overdue = policy().judged_within / timedelta(days=1)
    moving = observed(started(), now=WALL + STALL / 2, at=overdue).model
    assert end_of(observed(moving, now=WALL + STALL, at=overdue + 1)) is EndReason.TIMEOUT


def test_a_proven_challenger_is_not_taken_back_from_its_bake_because_nothing_comes() -> None:
    assert end_of(observed(in_baking(), now=WALL + 9 * STALL)) is None


def test_a_forced_challenger_is_taken_back_from_its_bake_when_nothing_comes() -> None:
    forced = decisions.force(in_canary(), policy(), by="ada", reason="demo", now=WALL).model
    assert end_of(observed(forced, now=WALL + STALL)) is EndReason.TIMEOUT


def test_a_lease_is_renewed_while_the_monitor_lives() -> None:
    canary = in_canary()
    assert canary.lease_expire_time == WALL + LEASE
    soon, due = WALL + LEASE / 4, WALL + LEASE / 3
    assert observed(canary, now=soon, heartbeat=soon).model.lease_expire_time == WALL + LEASE
    assert observed(canary, now=due, heartbeat=due).model.lease_expire_time == due + LEASE


def test_a_lease_is_not_renewed_when_the_monitor_is_silent() -> None:
    due = WALL + LEASE / 2
    for heartbeat in (None, due - LEASE):
        outcome = observed(in_canary(), now=due, heartbeat=heartbeat)
        assert outcome.model.lease_expire_time == WALL + LEASE


def test_a_lease_that_ran_out_is_not_renewed_by_a_monitor_that_is_back() -> None:
    late = WALL + LEASE
    assert end_of(observed(in_canary(), now=late, heartbeat=late)) is EndReason.LEASE_EXPIRED


def test_a_judgement_cannot_lengthen_a_lease_that_ran_out() -> None:
    for verdict, why in [
        (Verdict.BETTER, EndReason.LEASE_EXPIRED),
        (Verdict.WORSE, EndReason.WORSE),
    ]:
        late = judged(in_canary(), Stage.CANARY, verdict, at=6, now=WALL + LEASE)
        assert end_of(late) is why


def test_only_a_canary_has_a_lease() -> None:
    assert started().lease_expire_time is None
    assert in_baking().lease_expire_time is None


def test_an_expired_lease_takes_the_canary_back_unless_it_was_renewed() -> None:
    canary = in_canary()
    gone = decisions.expire_lease(canary, "rollout-1", now=WALL + LEASE)
    assert end_of(gone) is EndReason.LEASE_EXPIRED
    assert decisions.expire_lease(canary, "rollout-1", now=WALL + LEASE / 2).facts == ()
    assert decisions.expire_lease(canary, "rollout-0", now=WALL + LEASE).facts == ()
