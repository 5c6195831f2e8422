"""A budget is read, turned into rows, and set beside what was spent of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ciclo_drift import DriftInputError
from ciclo_drift.budget import Budget, Spending

DAY_SECONDS = 86_400.0


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 per 100000 rows", 100_000.0),
        ("1 per 100,000 rows", 100_000.0),
        ("2 per 1e5 rows", 50_000.0),
        ("  1  PER 20 row ", 20.0),
        ("0.5 per 100 rows", 200.0),
    ],
)
def test_a_budget_in_rows_needs_no_rate(text: str, rows: float):
    assert Budget.parse(text).rows() == rows


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1 per 30 days", 30),
        ("2 per year", 365.25 / 2),
        ("1 per week", 7),
        ("1 per month", 30.4375),
    ],
)
def test_a_budget_in_time_becomes_rows_by_their_rate(text: str, days: float):
    rows_a_day = 500.0

    assert Budget.parse(text).rows(rows_a_day / DAY_SECONDS) == pytest.approx(days * rows_a_day)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "often",
        "1 in 100 rows",
        "1 per rowss",
        "one per 10 rows",
        "1 per 3 moons",
        "1 per , rows",
    ],
)
def test_nonsense_is_refused_with_an_example(text: str):
    with pytest.raises(
        DriftInputError, match=r"budget: '.*'; expected .* such as '1 per 100000 rows'"
    ):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0 per 100 rows", "1 per 0 rows"])
def test_a_budget_of_nothing_is_refused(text: str):
    with pytest.raises(DriftInputError, match="numbers above 0"):
        Budget.parse(text)


def test_a_budget_in_time_without_a_rate_is_refused():
    with pytest.raises(
        DriftInputError, match="no rate of rows is known; expected times of the rows"
    ):
        Budget.parse("1 per day").rows()


def test_a_budget_that_no_detector_can_keep_is_refused():
    with pytest.raises(DriftInputError, match="an alarm every 5 rows"):
        Budget.parse("2 per 10 rows").rows()


def test_a_written_budget_reads_as_the_same():
    for text in ("1 per 100000 rows", "2 per 30 days"):
        budget = Budget.parse(text)
        assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize("given", [1_000, 1e3, np.float32(1_000), "1 per 1000 rows"])
def test_a_number_is_rows_between_false_alarms(given):
    assert Budget.of(given) == Budget(1.0, 1_000.0) == Budget.of(Budget(1.0, 1_000.0))


@pytest.mark.parametrize("given", [True, None, 0, math.nan, [1]])
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(DriftInputError, match="budget: "):
        Budget.of(given)


def test_the_interval_holds_the_true_rate_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, size=2_000)

    held = [
        low <= 1.0 <= high
        for low, high in (Spending(1_000.0, 3_000, int(count), {}).interval for count in counts)
    ]

    assert 0.95 <= np.mean(held) <= 0.99


def test_nothing_watched_says_nothing():
    spent = Spending(1_000.0, 0, 0, {})

    assert spent.interval == (0.0, math.inf)
    assert math.isnan(spent.ratio)


def test_no_alarm_has_an_upper_bound():
    low, high = Spending(1_000.0, 1_000, 0, {}).interval

    assert low == 0.0
    assert high == pytest.approx(-math.log(0.025))
