"""The block-mean test keeps its budget with ten reference blocks, and finds rises."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import BlockMeanTest, DriftInputError
from ciclo_drift.block_mean import RESTARTS


def make(reference: np.ndarray, **settings) -> BlockMeanTest:
    rows = np.full(len(reference), 900)
    return BlockMeanTest(900 * reference, rows, **{"budget_blocks": 100} | settings)


def blocks_until_alarm(test: BlockMeanTest, days: np.ndarray) -> int:
    for day in days:
        if test.update(900 * float(day), 900).alarm:
            return test.judge().blocks
    return 10_000


def noise(law: str, rng: np.random.Generator, size: int) -> np.ndarray:
    if law == "t5":
        return rng.standard_t(5, size) / np.sqrt(5.0 / 3.0)
    values = rng.normal(size=size)
    if law == "ar3":
        for t in range(1, size):
            values[t] = 0.3 * values[t - 1] + np.sqrt(0.91) * values[t]
    return values


@pytest.mark.parametrize("law", ["normal", "t5", "ar3"])
def test_ten_reference_blocks_keep_the_budget(law: str):
    rng = np.random.default_rng(0)
    runs = 50
    alarms = 0
    for _ in range(runs):
        days = 0.46 + 0.1 * noise(law, rng, 110)
        alarms += blocks_until_alarm(make(days[:10]), days[10:]) <= 100

    # A mean of 100 blocks between false alarms lets 63 % of the runs alarm within 100.
    assert alarms <= 0.632 * runs


def test_a_rise_of_one_deviation_is_found_in_days_and_dated():
    rng = np.random.default_rng(1)
    delays, starts = [], []
    for _ in range(40):
        days = 0.46 + 0.1 * rng.normal(size=100)
        days[50:] += 0.1
        test = make(days[:10], budget_blocks=365)
        delays.append(blocks_until_alarm(test, days[10:]) - 40)
        starts.append(test.judge().since_block)

    assert np.median(delays) <= 20
    assert abs(np.median(starts) - 40) <= 3


def test_a_rise_within_the_tolerance_is_no_alarm_and_one_beyond_is():
    rng = np.random.default_rng(2)
    days = 0.46 + 0.03 * rng.normal(size=130)
    days[30:] += 0.04

    assert blocks_until_alarm(make(days[:10], tolerance=0.06), days[10:]) == 10_000
    assert blocks_until_alarm(make(days[:10], tolerance=0.0), days[10:]) < 60


def test_a_fall_is_no_alarm():
    rng = np.random.default_rng(3)
    days = 0.46 + 0.1 * rng.normal(size=80)
    days[20:] -= 0.3

    assert blocks_until_alarm(make(days[:10]), days[10:]) == 10_000


def test_the_interval_of_the_rise_holds_the_truth():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        days = 0.1 * rng.normal(size=60)
        days[30:] += 0.3
        test = make(days[:10])
        blocks_until_alarm(test, days[10:40])
        for day in days[40:]:
            test.update(900 * float(day), 900)
        held += test.judge().lower <= 0.3 <= test.judge().upper

    assert held >= 50


def test_the_alarm_stays_until_reset():
    days = 0.1 * np.random.default_rng(5).normal(size=120)
    days[40:60] += 0.5
    days[60:] -= 0.5
    test = make(days[:10])
    blocks_until_alarm(test, days[10:])
    for day in days[60:]:
        test.update(900 * float(day), 900)

    assert test.judge().evidence < test.judge().threshold
    assert test.judge().alarm
    test.reset()
    assert not test.judge().alarm


def test_a_slow_ramp_is_not_absorbed():
    days = (
        0.1 * np.random.default_rng(6).normal(size=210) + np.r_[np.zeros(10), np.arange(200) / 400]
    )

    assert blocks_until_alarm(make(days[:10], budget_blocks=365), days[10:]) <= 120


def test_memory_is_bounded_and_a_rise_is_still_found():
    days = np.random.default_rng(7).normal(size=RESTARTS + 200)
    test = make(days[:10], budget_blocks=1e9)
    for day in days[10:]:
        test.update(900 * float(day), 900)

    assert test.snapshot()["live"].shape == (2, RESTARTS)
    test.update(900 * 100.0, 900)
    assert test.judge().since_block == RESTARTS + 190


def test_blocks_of_few_rows_count_less():
    reference = 0.1 * np.random.default_rng(8).normal(size=10)
    few, many = make(reference), make(reference)

    few.update(9 * 0.5, 9)
    many.update(900 * 0.5, 900)

    assert few.judge().evidence < many.judge().evidence


@pytest.mark.parametrize(
    ("totals", "rows", "message"),
    [
        ([1.0, 2.0], [1, 1], "2 values; expected at least 5"),
        ([1.0, 2.0, 3.0, 4.0, np.nan], [1] * 5, "nan at position 4"),
        ([1.0] * 6, [2] * 6, "the same mean in every block"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [1, 1, 1, 1, 0], "smallest 0"),
    ],
)
def test_a_reference_that_is_none_is_refused(totals, rows, message: str):
    with pytest.raises(DriftInputError, match=message):
        BlockMeanTest(np.array(totals), np.array(rows), budget_blocks=100)
