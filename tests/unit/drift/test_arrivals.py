"""Events that stop, or come more or less often, are noticed by the clock, in whatever order."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import ArrivalBank, DriftInputError

MINUTE = 60.0
HOURS = 400


def busy_times(seed: int, hours: float, rate: float = 1.0, first: float = 0.0) -> np.ndarray:
    """Events whose rate per minute follows the hour of the day: 2 at night, 20 by day."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(int(hours * 60))
    per_minute = rate * np.where((minutes + first / MINUTE) // 60 % 24 < 8, 2.0, 20.0)
    counts = rng.poisson(per_minute)
    times = np.repeat(minutes * MINUTE, counts) + rng.random(counts.sum()) * MINUTE
    return first + times


def fitted(cycle_buckets: int = 96) -> ArrivalBank:
    return ArrivalBank.fit(
        busy_times(0, HOURS),
        bucket_seconds=15 * MINUTE,
        cycle_buckets=cycle_buckets,
        budget_buckets=1_000,
    )


def play(bank: ArrivalBank, seed: int, hours: float, rate: float) -> int | None:
    """Buckets until the alarm."""
    start = bank.next_bucket * bank.bucket_seconds
    bank.update(busy_times(seed, hours, rate, start))
    alarm = bank.advance(start + hours * 3600)
    return None if alarm is None else alarm.row


def test_as_many_events_as_usual_raise_no_alarm():
    assert sum(play(fitted(), seed, 24, 1.0) is not None for seed in range(1, 21)) <= 4


@pytest.mark.parametrize("rate", [0.6, 1.6])
def test_fewer_and_more_events_are_noticed_within_hours(rate: float):
    rows = [play(fitted(), seed, 48, rate) for seed in range(1, 11)]

    assert all(row is not None and row <= 60 for row in rows)


def test_silence_is_noticed_without_an_event():
    bank = fitted()
    start = bank.next_bucket * bank.bucket_seconds + 12 * 3600
    bank.advance(start)
    bank.reset()

    alarm = bank.advance(start + 3 * 3600)

    assert alarm is not None
    assert alarm.row <= 4
    assert (alarm.culprits[0].change, bank.silent_buckets) == ("down", 60)


def test_the_order_of_events_and_of_batches_does_not_matter():
    first, second = fitted(), fitted()
    start = first.next_bucket * first.bucket_seconds
    times = busy_times(5, 10, 1.0, start)
    shuffled = np.random.default_rng(0).permutation(times)

    first.update(times)
    first.advance(start + 36_000)
    for at in range(0, len(times), 100):
        second.update(shuffled[at : at + 100])
        second = ArrivalBank.restore(second.snapshot())
    for hour in range(1, 11):
        second.advance(start + hour * 3600)

    assert second.evidence == first.evidence
    assert second.late_events == first.late_events == 0


def test_late_events_are_counted_and_change_nothing():
    bank = fitted()
    now = (bank.next_bucket + 4) * bank.bucket_seconds
    bank.advance(now)
    before = bank.evidence

    bank.update([now - 1.0, now - 7_000.0])
    assert bank.advance(now - 10_000.0) is None

    assert (bank.late_events, bank.evidence) == (2, before)


def test_a_clock_far_ahead_is_counted_or_refused():
    bank = fitted()
    far = (bank.next_bucket + 1_000_000) * bank.bucket_seconds

    bank.update([far])
    with pytest.raises(DriftInputError, match=r"now: .* expected a time at most 100000 buckets"):
        bank.advance(far)

    assert bank.ahead_events == 1


def test_times_that_are_none_are_refused():
    bank = fitted()
    with pytest.raises(DriftInputError, match="times: nan at position 1"):
        bank.update([0.0, np.nan])
    with pytest.raises(DriftInputError, match=r"times: buckets: 8.*between 100"):
        ArrivalBank.fit(np.arange(10.0), bucket_seconds=1, budget_buckets=100)
    assert bank.late_events == 0
