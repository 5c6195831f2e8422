"""The paired comparison decides when it should, and only then."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ciclo_drift import DriftInputError, PairedComparison, Verdict, sum_by_block

SD = 0.05


def run(days: np.ndarray, *, margin: float = 0.0, rows: int = 900):
    pair = PairedComparison(margin=margin, clip=0.25)
    return [pair.update(rows * float(day), rows) for day in days]


def first_block(comparisons, *verdicts: Verdict) -> int:
    return next((c.blocks for c in comparisons if c.verdict in verdicts), 10_000)


def test_a_june_sized_gain_is_called_better_in_about_25_days():
    rng = np.random.default_rng(0)

    blocks = [first_block(run(rng.normal(0.034, SD, 90)), Verdict.BETTER) for _ in range(100)]

    assert np.median(blocks) <= 27
    assert np.quantile(blocks, 0.9) <= 60


def test_a_worse_challenger_is_called_worse_and_never_better():
    rng = np.random.default_rng(1)

    last = [run(rng.normal(-0.05, SD, 60), margin=0.005)[-1].verdict for _ in range(50)]

    assert last.count(Verdict.WORSE) >= 48


@pytest.mark.parametrize("law", ["normal", "t5", "ar3"])
def test_equal_models_are_rarely_told_apart_though_looked_at_every_day(law: str):
    rng = np.random.default_rng(2)
    runs = 100

    decided = 0
    for _ in range(runs):
        days = {"normal": rng.normal, "t5": lambda size: rng.standard_t(5, size)}.get(
            law, lambda size: autoregressive(rng, size)
        )(size=90)
        decided += first_block(run(SD * days), Verdict.BETTER, Verdict.WORSE) <= 90

    assert decided <= {"normal": 0.05, "t5": 0.05, "ar3": 0.10}[law] * runs


def autoregressive(rng: np.random.Generator, size: int) -> np.ndarray:
    noise = rng.normal(size=size)
    values = noise.copy()
    for t in range(1, size):
        values[t] = 0.3 * values[t - 1] + math.sqrt(1.0 - 0.09) * noise[t]
    return values


def test_the_interval_is_the_set_of_means_that_the_mixture_does_not_reject():
    low_to_high = np.sort(np.random.default_rng(3).normal(0.05, 0.03, 20))
    # Lowest, highest, next lowest: neighbours are unlike each other, no block counts for less.
    days = np.stack([low_to_high[:10], low_to_high[:9:-1]], axis=1).ravel()
    now = run(days)[-1]

    for mean in (now.lower, now.upper):
        moved, n, c = days - mean, len(days), 3.0
        share = moved.sum() ** 2 / ((n + c) * (moved**2).sum())
        ratio = math.sqrt(c / (n + c)) * (1.0 - share) ** (-n / 2.0)
        assert ratio == pytest.approx(1.0 / 0.05, rel=1e-6)
    assert now.lower < days.mean() < now.upper


def test_blocks_like_their_neighbours_count_for_less():
    days = np.random.default_rng(4).normal(0.0, SD, 30)

    apart, alike = run(days)[-1], run(np.sort(days))[-1]

    assert alike.upper - alike.lower > 1.5 * (apart.upper - apart.lower)


def test_not_worse_is_known_before_better():
    rng = np.random.default_rng(4)
    seen = run(rng.normal(0.02, SD, 200), margin=0.02)

    assert first_block(seen, Verdict.NOT_WORSE) < first_block(seen, Verdict.BETTER) < 200


def test_within_the_margin_a_small_loss_is_not_worse():
    rng = np.random.default_rng(5)

    assert run(rng.normal(-0.02, 0.01, 100), margin=0.05)[-1].verdict is Verdict.NOT_WORSE


def test_the_number_of_blocks_still_expected_is_about_right():
    rng = np.random.default_rng(6)
    ratios = []
    for _ in range(60):
        seen = run(rng.normal(0.034, SD, 120))
        decided = first_block(seen, Verdict.BETTER)
        if decided > 12:
            expected = seen[9].blocks_expected
            ratios.append(10_000 if expected is None else (10 + expected) / decided)

    assert 0.5 <= np.median(ratios) <= 2.0


def test_nothing_is_expected_from_models_without_a_difference():
    rng = np.random.default_rng(7)
    days = rng.normal(0.0, SD, 50)

    assert run(days - days.mean())[-1].blocks_expected is None


def test_the_same_model_twice_stays_undecided_without_a_margin_and_passes_with_one():
    assert run(np.zeros(50))[-1].verdict is Verdict.UNDECIDED
    assert run(np.zeros(50), margin=0.005)[-1].verdict is Verdict.NOT_WORSE


def test_blocks_that_agree_by_chance_decide_nothing_before_the_fifth():
    assert [c.verdict for c in run(np.full(4, 0.1))] == [Verdict.UNDECIDED] * 4


def test_a_freak_day_counts_as_the_clip():
    days = np.random.default_rng(8).normal(0.0, SD, 30)
    freak = days.copy()
    freak[10] = 40.0
    days[10] = 0.25

    found, limited = run(freak)[-1], run(days)[-1]
    assert found == replace(limited, mean=found.mean)
    assert found.mean == pytest.approx(freak.mean())


def test_a_block_of_few_rows_counts_less():
    pair, heavy = PairedComparison(clip=1.0), PairedComparison(clip=1.0)
    for day in np.random.default_rng(9).normal(0.0, SD, 10):
        pair.update(900 * day, 900)
        heavy.update(900 * day, 900)

    pair.update(9 * 0.5, 9)
    heavy.update(900 * 0.5, 900)

    assert abs(pair.judge().gain) < abs(heavy.judge().gain)
    assert pair.judge().rows == 9_009


def test_before_the_first_block_nothing_is_known():
    now = PairedComparison(clip=1.0).judge()

    assert now.verdict is Verdict.UNDECIDED
    assert math.isnan(now.gain)
    assert (now.lower, now.upper, now.blocks, now.blocks_expected) == (-math.inf, math.inf, 0, None)


@pytest.mark.parametrize(
    ("total", "rows", "message"),
    [
        (math.nan, 3, "total: nan; expected a finite sum"),
        (1.0, 0, "rows: 0; expected a whole number >= 1"),
    ],
)
def test_a_block_that_is_none_is_refused_and_not_counted(total: float, rows: int, message: str):
    pair = PairedComparison(clip=1.0)

    with pytest.raises(DriftInputError, match=message):
        pair.update(total, rows)
    assert pair.judge().blocks == 0


@pytest.mark.parametrize(
    "settings",
    [{"clip": 0.0}, {"clip": 1.0, "alpha": 0.0}, {"clip": 1.0, "margin": -1.0}, {"clip": math.nan}],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, float]):
    with pytest.raises(DriftInputError, match="between"):
        PairedComparison(**settings)


def test_sums_by_block_keep_totals_and_rows():
    ids = np.array([3, 1, 3, 1, 2])
    sums = sum_by_block(ids, np.array([1.0, 2.0, 3.0, 4.0, 5.0]))

    assert sums.ids.tolist() == [1, 2, 3]
    assert sums.totals.tolist() == [6.0, 5.0, 4.0]
    assert sums.rows.tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        ([1], [math.nan], "nan at position 0"),
        ([1, 2], [1.0], "block_ids: shape \\(2,\\)"),
        ([], [], "0 values; expected at least 1"),
        ([1], [[1.0]], "shape \\(1, 1\\)"),
        ([1], ["late"], "not numbers"),
    ],
)
def test_sums_by_block_say_what_is_wrong(ids, values, message: str):
    with pytest.raises(DriftInputError, match=message):
        sum_by_block(np.array(ids), values)
