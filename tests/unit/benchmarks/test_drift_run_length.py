"""From first alarms to delays: the arithmetic that every figure of the benchmark rests on."""

from __future__ import annotations

import numpy as np
import pytest
from tests.benchmarks.drift.run_length import curve, delay_at, mean_run_length, poisson_bounds
from tests.benchmarks.drift.streams import CHANGED_ROWS, PREFIX_ROWS

NULL_ROWS, MOVED_ROWS = 4_000, PREFIX_ROWS + CHANGED_ROWS
NEVER = np.full((50, 2), -1)


def geometric(mean: float, runs: int = 2_000) -> np.ndarray:
    """First alarms of a detector that alarms at a constant rate. Shape (runs, 1)."""
    alarms = np.random.default_rng(0).geometric(1.0 / mean, size=(runs, 1)) - 1
    return np.where(alarms < NULL_ROWS, alarms, -1)


def after_change(rows: int, runs: int = 2_000) -> np.ndarray:
    return np.full((runs, 1), PREFIX_ROWS + rows - 1)


def test_runs_that_end_without_an_alarm_do_not_shorten_the_run_length():
    assert mean_run_length(geometric(2_000.0), NULL_ROWS)[0] == pytest.approx(2_000.0, rel=0.1)
    assert mean_run_length(NEVER, NULL_ROWS).tolist() == [np.inf, np.inf]


def test_the_first_row_after_the_change_is_a_delay_of_one():
    measured = curve(geometric(900.0), NULL_ROWS, after_change(1), MOVED_ROWS)

    assert measured.delay.tolist() == [1.0]


def test_alarms_before_the_change_count_neither_as_found_nor_as_quick():
    moved = after_change(50, runs=10)
    moved[:4] = 7

    measured = curve(geometric(900.0), NULL_ROWS, moved, MOVED_ROWS)

    assert measured.delay.tolist() == [50.0]
    assert measured.found.tolist() == [1.0]


def test_the_delay_is_read_off_at_the_wanted_run_length():
    quiet = np.hstack([geometric(500.0), geometric(2_000.0)])
    moved = np.hstack([after_change(20), after_change(40)])

    found = delay_at(curve(quiet, NULL_ROWS, moved, MOVED_ROWS), 1_000.0)

    assert found.rows == pytest.approx(30.0, abs=1.0)


def test_a_detector_that_never_alarms_has_missed():
    found = delay_at(curve(NEVER, NULL_ROWS, NEVER, MOVED_ROWS), 1_000.0)

    assert (found.rows, found.note) == (None, "missed")


def test_a_detector_that_is_blind_has_missed_although_its_false_alarms_come_in_time():
    quiet = np.hstack([geometric(400.0), geometric(500.0)])
    moved = np.where((quiet >= 0) & (quiet < CHANGED_ROWS), quiet + PREFIX_ROWS, -1)

    found = delay_at(curve(quiet, NULL_ROWS, moved, MOVED_ROWS), 450.0)

    assert found.found > 0.97
    assert (found.rows, found.note) == (None, "missed")


def test_no_delay_is_made_up_outside_the_run_lengths_that_were_measured():
    quiet = np.hstack([geometric(100.0), geometric(300.0)])
    moved = np.hstack([after_change(20), after_change(40)])

    found = delay_at(curve(quiet, NULL_ROWS, moved, MOVED_ROWS), 1_000.0)

    assert (found.rows, found.note) == (None, "no parameter gives this run length")


def test_a_ratio_of_delays_on_the_same_streams_knows_that_they_are_the_same():
    quiet = np.hstack([geometric(500.0), geometric(2_000.0)])
    spread = np.random.default_rng(1).integers(20, 60, size=(2_000, 1))
    one = PREFIX_ROWS - 1 + np.hstack([spread, spread])
    first = delay_at(curve(quiet, NULL_ROWS, one, MOVED_ROWS), 1_000.0)
    second = delay_at(curve(quiet, NULL_ROWS, one + spread, MOVED_ROWS), 1_000.0)

    ratio, _, (low, high), _ = second.over(first)

    assert ratio == pytest.approx(2.0)
    assert high - low < 1e-6


@pytest.mark.parametrize("expected", [3.0, 40.0])
def test_poisson_bounds_hold_the_truth_nineteen_times_in_twenty(expected: float):
    counts = np.random.default_rng(2).poisson(expected, size=2_000)

    held = [low <= 1.0 <= high for low, high in (poisson_bounds(int(c), expected) for c in counts)]

    assert 0.945 <= np.mean(held) <= 0.99
