"""Nothing is counted twice, forgotten, or moved by one wrong clock."""

from dataclasses import replace

import pytest
from tests.unit.monitor import worlds as w

from ciclo.errors import Retry
from ciclo_monitor.domain.batches import key_of
from ciclo_monitor.domain.findings import Degraded, Stage
from ciclo_monitor.domain.model import ModelMonitor
from ciclo_monitor.handlers import Monitor, Watched
from ciclo_monitor.metrics import MonitorMetrics
from ciclo_runtime.clock import ManualClock

DAYS = w.world(40, degraded_from=12)
YEARS = 13 * 365 * w.DAY


def stray(day):
    """Returns a call and its label by a clock that is years ahead."""
    wrong = {**day, "times": day["times"][:1] + YEARS, "keys": day["keys"][:1] + 7}
    one = {name: value[:1] for name, value in wrong.items()}
    return w.answers(one), w.labels(one)


@pytest.mark.parametrize("after_days", [0, 10])
def test_one_call_and_one_label_with_a_wrong_clock_silence_nothing(after_days: int) -> None:
    expected = [f for f in w.play(w.monitor(), DAYS) if isinstance(f, Degraded)]
    monitor = w.monitor()
    w.play(monitor, DAYS[:after_days])
    call, label = stray(DAYS[after_days])
    monitor.fold_answers(call)
    monitor.fold_labels(label)
    found = [f for f in w.play(monitor, DAYS[after_days:]) if isinstance(f, Degraded)]
    assert len(expected) == 1
    assert found == expected


def test_a_time_years_ahead_is_counted() -> None:
    monitor = w.monitor()
    w.play(monitor, DAYS[:10])
    for part, fold in zip(
        stray(DAYS[10]), (monitor.fold_answers, monitor.fold_labels), strict=True
    ):
        fold(part)
    assert monitor.rows.counts.ahead == 2


def test_completeness_is_of_requests_however_many_rows_they_have() -> None:
    monitor = w.monitor()
    monitor.fold_answers(replace(w.answers(DAYS[0]), requests=2))
    assert monitor.captured == 1.0
    monitor.fold_lost(2)
    assert monitor.captured == 0.5


def test_an_answer_whose_rows_were_not_recorded_is_missing() -> None:
    monitor = w.monitor()
    monitor.fold_answers(replace(w.answers(DAYS[0]), requests=3, omitted=1))
    assert monitor.captured == 0.75


class Journal:
    """Fails to publish as often as it is told to."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.told: list[object] = []
        self.saved: list[object] = []

    async def save(self, models, offsets) -> None:
        self.saved.append(dict(offsets))

    async def tell(self, model, findings) -> None:
        if self.failures:
            self.failures -= 1
            raise Retry("the disk is full")
        self.told += findings

    async def state(self, statement) -> None:
        pass


def use_cases(journal: Journal, *models: ModelMonitor) -> Monitor:
    found = Monitor(
        None, None, journal, metrics=MonitorMetrics(), clock=ManualClock(), most_rows=10**6
    )
    for model in models:
        found._watched[model.model] = Watched(model, None, "sha256:loop")
    return found


async def test_a_record_whose_findings_cannot_be_told_is_taken_once_and_told_later() -> None:
    (expected,) = (f for f in w.play(w.monitor(), DAYS) if isinstance(f, Degraded))
    journal = Journal(failures=2)
    monitor = use_cases(journal, w.monitor())
    failed = 0
    for offset, day in enumerate(DAYS):
        await monitor.take_answers("predictions", offset, "churn", w.answers(day))
        for _ in range(3):
            try:
                await monitor.take_labels("labels", offset, "churn", w.labels(day))
                break
            except Retry:
                failed += 1
                with pytest.raises(Retry):  # nor may the state be saved without its event
                    await monitor.save()
                assert not journal.saved
    assert failed == 1
    assert [f for f in journal.told if isinstance(f, Degraded)] == [expected]


async def test_what_is_lost_of_no_known_model_may_be_any_models() -> None:
    monitors = [w.monitor(), w.monitor()]
    monitors[1].model = "risk"
    for monitor in monitors:
        monitor.fold_answers(replace(w.answers(DAYS[0]), requests=1))
    monitor = use_cases(Journal(0), *monitors)
    await monitor.take_lost("predictions", 0, "-", 1)
    await monitor.take_lost("predictions", 1, "risk", 2)
    assert [m.captured for m in monitors] == [0.5, 0.25]


def test_another_limit_is_in_force_for_the_rows_that_are_kept() -> None:
    lenient = replace(w.POLICY, tolerance=5.0)
    monitor = w.monitor(lenient)
    assert not [f for f in w.play(monitor, DAYS) if isinstance(f, Degraded)]
    monitor.policy = w.POLICY
    monitor.begin_performance()
    after = w.world(41, degraded_from=12)[40:]
    assert [type(f) for f in w.play(monitor, after)] == [Degraded]


def test_a_call_with_a_wrong_clock_that_is_asked_again_makes_no_other_answer_late() -> None:
    monitor = w.monitor()
    monitor.set_rollout(w.ROLLOUT)
    number = key_of(w.ROLLOUT.rollout_id)
    for day in DAYS[:12]:
        monitor.fold_answers(w.answers(day))
        call, _ = stray(day)
        if day is DAYS[3]:
            monitor.fold_answers(call)
            monitor.fold_answers(replace(call, version=2, rollout=number, columns={}))
        monitor.fold_answers(w.answers(day, version=2, rollout=number, scores=day["truth"]))
        monitor.fold_labels(w.labels(day))
    assert monitor.judgement.comparison.blocks == 11


def test_the_limit_of_exposure_is_told_whatever_was_captured() -> None:
    monitor = w.monitor()
    monitor.set_rollout(replace(w.ROLLOUT, stage=Stage.CANARY))
    w.play(monitor, DAYS[:2])
    monitor.fold_lost(100)
    assert monitor.not_judging
    told = monitor.fold_answers(w.answers(DAYS[2], version=2, is_challenger=True))
    assert [f.exposed_rows for f in told] == [w.ROWS_A_DAY]
