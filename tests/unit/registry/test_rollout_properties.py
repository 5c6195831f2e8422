"""What must hold of a model whatever is done to it, in any order."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.registry.examples import STALL, WALL, day, judgement, model, policy, version

from ciclo_registry.domain import decisions
from ciclo_registry.domain import rollout as rollouts
from ciclo_registry.domain.decisions import Outcome
from ciclo_registry.domain.facts import (
    ModelPromoted,
    RolloutAdvanced,
    RolloutRolledBack,
    RolloutStarted,
    Variant,
)
from ciclo_registry.domain.model import weights
from ciclo_registry.domain.policy import EndReason, Judgement, Stage, Verdict

POLICY = policy()
LIVE = [Stage.SHADOW, Stage.CANARY, Stage.BAKING]
ORDER = [Stage.SHADOW, Stage.CANARY, Stage.BAKING, Stage.COMPLETED]

judgements = st.builds(
    judgement,
    st.sampled_from(LIVE),
    st.sampled_from(Verdict),
    at=st.floats(0, 60),
    rollout_id=st.sampled_from(["rollout-1", "rollout-2", "rollout-3"]),
    challenger=st.integers(1, 4),
    exposed=st.integers(0, 3000),
    blocks=st.integers(0, 50),
)


@dataclass
class Exposure:
    """What callers may have got from the present challenger."""

    reported: int = 0
    last_increase: int = 0


class AnyHistory(RuleBasedStateMachine):
    """Does everything that can be done to a model, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.model = model(champion=None, watermark=None)
        self.now = WALL
        self.event_day = 0.0
        self.versions = 0
        self.exposure = Exposure()

    def apply(self, outcome: Outcome) -> None:
        before, self.model = self.model, outcome.model
        starts = sum(isinstance(fact, RolloutStarted) for fact in outcome.facts)
        assert not (starts and before.rollout), "a rollout began while another was under way"
        for fact in outcome.facts:
            if isinstance(fact, RolloutAdvanced) and fact.from_stage is not fact.to_stage:
                assert ORDER.index(fact.to_stage) == ORDER.index(fact.from_stage) + 1
        if before.champion != self.model.champion:
            said = (ModelPromoted, RolloutRolledBack)
            assert any(isinstance(fact, said) for fact in outcome.facts)
        if before.rollout and self.model.rollout is None:
            assert outcome.rollout is not None
            assert outcome.rollout.is_over
            assert (outcome.rollout.weight == 0) == (outcome.rollout.end is not None)

    @precondition(lambda self: self.model.rollout is None)
    @rule()
    def start(self) -> None:
        self.versions += 1
        self.exposure = Exposure()
        self.apply(
            decisions.start(
                self.model,
                version(self.versions),
                rollout_id=f"rollout-{self.versions}",
                now=self.now,
            )
        )

    @precondition(lambda self: self.model.rollout)
    @rule(verdict=st.sampled_from(Verdict), days=st.floats(0, 12), rows=st.integers(0, 700))
    def judge(self, verdict: Verdict, days: float, rows: int) -> None:
        rollout = self.model.rollout
        assert rollout
        self.event_day += days
        if rollout.weight:
            self.exposure = Exposure(self.exposure.reported + rows, rows)
        told = judgement(
            rollout.stage,
            verdict,
            at=self.event_day,
            rollout_id=rollout.rollout_id,
            challenger=rollout.challenger.number,
            exposed=self.exposure.reported,
            blocks=(rollout.judgement.blocks if rollout.judgement else 0) + 1,
        )
        self.apply(decisions.judge(self.model, POLICY, told, now=self.now))
        self.after_a_judgement_exposure_is_within_the_limit_but_for_what_it_reports()

    def after_a_judgement_exposure_is_within_the_limit_but_for_what_it_reports(self) -> None:
        rollout = self.model.rollout
        if rollout and rollout.stage is Stage.CANARY and not rollout.is_proven:
            assert rollout.exposed_rows < POLICY.exposure_at_most
            assert self.exposure.reported - self.exposure.last_increase < POLICY.exposure_at_most

    @rule(told=judgements)
    def judge_anything(self, told: Judgement) -> None:
        rollout = self.model.rollout
        is_its_own = (
            rollout
            and told.rollout_id == rollout.rollout_id
            and told.stage is rollout.stage
            and told.challenger == rollout.challenger.number
        )
        if is_its_own:
            return
        outcome = decisions.judge(self.model, POLICY, told, now=self.now)
        assert outcome.model == self.model
        assert outcome.facts == ()

    @precondition(lambda self: self.model.rollout and self.model.rollout.judgement)
    @rule()
    def repeat_the_last_judgement(self) -> None:
        told = self.model.rollout and self.model.rollout.judgement
        assert told
        assert decisions.judge(self.model, POLICY, told, now=self.now).model == self.model

    @precondition(lambda self: self.model.rollout)
    @rule()
    def force(self) -> None:
        outcome = decisions.force(self.model, POLICY, by="ada", reason="why", now=self.now)
        advanced = [fact for fact in outcome.facts if isinstance(fact, RolloutAdvanced)]
        assert all((f.forced_by, f.forced_reason) == ("ada", "why") for f in advanced)
        assert outcome.facts
        self.apply(outcome)

    @precondition(lambda self: self.model.rollout or self.model.previous)
    @rule()
    def roll_back(self) -> None:
        outcome = decisions.take_back(self.model, EndReason.MANUAL, "why", by="ada")
        fact = outcome.facts[0]
        assert isinstance(fact, RolloutRolledBack)
        assert (fact.end.requested_by, fact.end.detail) == ("ada", "why")
        self.apply(outcome)

    @rule(minutes=st.integers(0, 20), days=st.floats(0, 3), lives=st.booleans())
    def time_passes(self, minutes: int, days: float, lives: bool) -> None:
        self.now += timedelta(minutes=minutes)
        self.event_day += days
        self.apply(
            decisions.observe(
                self.model,
                POLICY if self.model.rollout else None,
                watermark=day(self.event_day),
                heartbeat=self.now if lives else None,
                watching_since=WALL,
                now=self.now,
            )
        )

    @rule(number=st.integers(1, 5))
    def a_lease_expires(self, number: int) -> None:
        self.apply(decisions.expire_lease(self.model, f"rollout-{number}", now=self.now))

    @rule()
    def pause_or_resume(self) -> None:
        turn = decisions.resume if self.model.is_paused else decisions.pause
        self.apply(turn(self.model, "why", by="ada"))

    @invariant()
    def weights_add_up_to_one_or_there_are_none(self) -> None:
        shares = weights(self.model)
        if self.model.champion is None:
            assert shares == ()
        else:
            assert sum(weight.share for weight in shares) == 1.0
            assert all(0 <= weight.share <= 1 for weight in shares)

    @invariant()
    def there_is_never_more_than_one_champion(self) -> None:
        variants = [weight.variant for weight in weights(self.model)]
        assert variants.count(Variant.CHAMPION) == (self.model.champion is not None)
        numbers = [weight.version for weight in weights(self.model)]
        assert len(numbers) == len(set(numbers))
        assert self.model.champion is None or self.model.champion != self.model.previous

    @invariant()
    def only_a_canary_shares_and_only_a_canary_has_a_lease(self) -> None:
        rollout = self.model.rollout
        is_canary = rollout is not None and rollout.stage is Stage.CANARY
        assert (self.model.lease_expire_time is not None) == is_canary
        assert (sum(weight.share > 0 for weight in weights(self.model)) == 2) == is_canary

    @invariant()
    def a_rollout_under_way_is_not_over(self) -> None:
        assert self.model.rollout is None or not self.model.rollout.is_over


AnyHistory.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase


def begun() -> rollouts.Rollout:
    outcome = decisions.start(model(), version(2), rollout_id="rollout-1", now=WALL)
    assert outcome.rollout is not None
    return outcome.rollout


own_judgements = st.lists(
    st.builds(
        judgement,
        st.sampled_from(LIVE),
        st.sampled_from([Verdict.UNDECIDED, Verdict.BETTER, Verdict.NOT_WORSE]),
        at=st.integers(1, 60),
        exposed=st.integers(0, 1400),
        blocks=st.integers(1, 60),
    ),
    max_size=12,
)


@given(own_judgements, st.data())
@settings(max_examples=200, deadline=None)
def test_judgements_that_come_twice_or_again_later_change_nothing(
    told: list[Judgement], data: st.DataObject
) -> None:
    once = twice = begun()
    past = []
    for one in told:
        once = rollouts.judge(once, POLICY, one, now=WALL)
        twice = rollouts.judge(twice, POLICY, one, now=WALL)
        past.append(one)
        again = data.draw(st.lists(st.sampled_from(past), max_size=3))
        earlier = [x for x in again if x.stage is not twice.stage or x.order <= _last(twice)]
        for repeated in earlier:
            twice = rollouts.judge(twice, POLICY, repeated, now=WALL)
    assert twice == once


def _last(rollout: rollouts.Rollout) -> tuple[datetime, int, int]:
    last = rollout.judgement
    return last.order if last and last.stage is rollout.stage else (day(-1), 0, 0)


@given(own_judgements, st.data())
@settings(max_examples=200, deadline=None)
def test_a_judgement_overtaken_by_a_newer_one_of_its_stage_is_lost_without_effect(
    told: list[Judgement], data: st.DataObject
) -> None:
    if not told:
        return
    newest = max(told, key=lambda one: one.order)
    newest = replace(newest, stage=Stage.SHADOW, verdict=Verdict.UNDECIDED)
    alone = rollouts.judge(begun(), POLICY, newest, now=WALL)
    after = alone
    for late in data.draw(st.permutations(told)):
        if late.order <= newest.order and not alone.is_over:
            after = rollouts.judge(after, POLICY, replace(late, stage=Stage.SHADOW), now=WALL)
    assert after == alone


@given(st.lists(st.tuples(st.integers(0, 1200), st.booleans()), max_size=20))
def test_a_silent_rollout_always_ends_within_the_wall_limit_and_one_look(
    steps: list[tuple[int, bool]],
) -> None:
    rollout, now = begun(), WALL
    for seconds, moves in steps:
        now += timedelta(seconds=seconds)
        watermark = day(100 + now.timestamp() / 1e9) if moves else None
        rollout = rollouts.observe(
            rollout, POLICY, watermark=watermark, watching_since=WALL, now=now
        )
        if rollout.is_over:
            break
    final = now + STALL
    ended = rollouts.observe(rollout, POLICY, watermark=None, watching_since=WALL, now=final)
    assert ended.is_over
