"""The reference keeps counts, measures dependence and says what it can promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from ciclo_drift import DriftInputError, RankBank, Reference
from ciclo_drift.cells import LABELS
from ciclo_drift.dependence import largest_ratio, measure_dependence

RNG_ROWS = 4_000


def normal(rows: int = RNG_ROWS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


def autoregressive(correlation: float, rows: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=rows)
    return lfilter([np.sqrt(1.0 - correlation**2)], [1.0, -correlation], noise)


def codes_of(reference: Reference, values: object) -> np.ndarray:
    return reference.codes(values, np.zeros(len(values), dtype=np.int16), np.zeros(6))[0]


def test_a_sketch_counts_every_row_once():
    values = np.concatenate([normal(), [np.nan] * 50, [np.inf, -np.inf]])

    reference = Reference.numeric(values)

    assert reference.rows == len(values)
    assert reference.counts[0, 0] == 50
    assert reference.counts.shape[1] <= 259


def test_repeated_values_have_a_cell_of_their_own():
    values = np.concatenate([normal(), np.zeros(2_000), np.full(500, 1.5)])
    reference = Reference.numeric(values)

    for atom, rows in ((0.0, 2_000), (1.5, 500)):
        assert reference.counts[0, codes_of(reference, [atom])[0]] == rows


def test_values_beyond_the_reference_have_cells_of_their_own():
    reference = Reference.numeric(np.random.default_rng(0).integers(0, 5, 1_000))

    low, high = codes_of(reference, [-1.0, 5.0])
    assert reference.counts[0, low] == reference.counts[0, high] == 0


@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=100, max_size=300
    ).filter(lambda values: len({v for v in values if v == v}) > 1)
)
@settings(max_examples=20, deadline=None)
def test_cells_are_in_the_order_of_the_values(values: list[float]):
    column = np.array(values)
    reference = Reference.numeric(column, cells=16)
    codes = codes_of(reference, column)

    present = ~np.isnan(column)
    order = np.argsort(column[present], kind="stable")
    assert (np.diff(codes[present][order].astype(int)) >= 0).all()
    assert (codes[~present] == 0).all()
    assert codes.max() < reference.counts.shape[1]


def test_frequent_categories_have_a_cell_and_rare_ones_share():
    rng = np.random.default_rng(1)
    column = rng.choice([f"c{i}" for i in range(300)], 20_000)
    reference = Reference.categorical(column)

    assert len(reference.labels) == LABELS
    assert len(np.unique(codes_of(reference, column))) <= LABELS + 12
    assert reference.cell_name(int(codes_of(reference, ["never seen"])[0])) == "(unseen)"


def test_missing_categories_are_a_category():
    column = np.array(["a", None, "", float("nan")] * 50, dtype=object)
    reference = Reference.categorical(column)

    assert reference.counts[0, 0] == 150
    assert reference.cell_name(0) == "(missing)"


def test_bytes_bring_the_same_reference_back():
    for reference in (
        Reference.numeric(normal(), name="delay", budgets_rows=[1_000]),
        Reference.categorical(np.random.default_rng(0).choice(list("abc"), 500), name="origin"),
    ):
        packed = reference.to_bytes()
        back = Reference.from_bytes(packed)

        assert back.to_bytes() == packed
        assert (back.name, back.kind, back.rows) == (reference.name, reference.kind, reference.rows)
        assert back.threshold(1_000) == reference.threshold(1_000)


@pytest.mark.parametrize("packed", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_bytes_of_something_else_are_refused(packed: bytes):
    with pytest.raises(DriftInputError, match="expected bytes made by `pack`"):
        Reference.from_bytes(packed)


def test_merged_counts_are_those_of_all_rows():
    whole = np.random.default_rng(2).choice(list("aaabbc"), 2_000)
    first, second = Reference.categorical(whole[:1_000]), Reference.categorical(whole[1_000:])

    merged = first.merge(second)

    assert merged.rows == 2_000
    assert merged.counts.tolist() == Reference.categorical(whole).counts.tolist()


def test_sketches_with_other_cells_are_not_merged():
    with pytest.raises(DriftInputError, match="a sketch with other cells"):
        Reference.numeric(normal()).merge(Reference.numeric(normal(seed=1)))


def test_independent_rows_show_no_dependence():
    assert sum(Reference.numeric(normal(seed=seed)).kappa > 1.0 for seed in range(20)) <= 2


@pytest.mark.parametrize(("correlation", "kappa"), [(0.5, 3.0), (0.9, 19.0)])
def test_dependence_is_measured(correlation: float, kappa: float):
    values = autoregressive(correlation, 40_000)[:, None]
    found = measure_dependence(values, np.zeros(1, dtype=np.int64), None, largest_ratio)

    assert 0.6 * kappa <= found.kappas.max() <= 1.8 * kappa
    assert found.ratios[-1] > found.ratios[0] > 1.0


@pytest.mark.parametrize("correlation", [0.5, 0.9, -0.6])
def test_what_rows_foretell_of_the_next_is_taken_out(correlation: float):
    reference = Reference.numeric(autoregressive(correlation, 40_000))

    assert reference.whitening is not None
    assert reference.whitening.weights[0] == pytest.approx(correlation, abs=0.03)
    assert reference.kappa <= 1.15


def test_whitening_that_takes_no_dependence_away_is_not_kept():
    rng = np.random.default_rng(5)
    runs = np.repeat(rng.normal(size=8_000), rng.geometric(1 / 40, size=8_000))[:40_000]
    reference = Reference.numeric(np.abs(runs) * rng.choice([-1.0, 1.0], len(runs)))

    assert reference.whitening is None
    assert reference.kappa > 10.0
    assert reference.dependence[min(reference.dependence)] > 1.0


def test_whitening_survives_bytes_and_is_not_merged():
    reference = Reference.numeric(autoregressive(0.5, 5_000))
    back = Reference.from_bytes(reference.to_bytes())
    values = autoregressive(0.5, 50, seed=9)

    assert codes_of(back, values).tolist() == codes_of(reference, values).tolist()
    with pytest.raises(DriftInputError, match="a sketch with other cells"):
        reference.merge(back)


def test_declared_blocks_show_the_dependence_within_them():
    rng = np.random.default_rng(3)
    days = np.repeat(np.arange(60), 100)
    values = rng.normal(size=60)[days] * 0.5 + rng.normal(size=6_000)

    assert 10.0 <= Reference.numeric(values, blocks=days).kappa <= 60.0


def test_a_memory_longer_than_the_reference_is_not_certified():
    walk = np.cumsum(normal())

    certificate = Reference.numeric(walk).certificate(10_000)

    assert not certificate.certified
    assert certificate.rows_needed >= 4 * RNG_ROWS
    assert "budget not certifiable: needs about" in certificate.reason


def test_a_dependent_reference_that_is_too_short_says_how_many_rows_it_needs():
    runs = np.repeat(normal(200), 10)[:1_000]
    certificate = Reference.numeric(np.abs(runs)).certificate(1_000)

    assert not certificate.certified
    assert certificate.rows_needed > 1_000


def test_a_budget_beyond_a_dependent_reference_is_not_certified():
    reference = Reference.numeric(autoregressive(0.9, 1_000), budgets_rows=[1_000, 10_000])

    assert reference.certificate(1_000).certified
    assert "needs about 5000 rows (budget beyond" in reference.certificate(10_000).reason


def test_too_few_declared_blocks_are_not_certified():
    days = np.repeat(np.arange(10), 400)

    certificate = Reference.numeric(normal(), blocks=days).certificate(1_000)

    assert not certificate.certified
    assert "10 blocks seen, 20 needed" in certificate.reason


def test_dependent_rows_without_a_calibrated_threshold_are_not_certified():
    values = autoregressive(0.5, 20_000)

    assert "give it in `budgets_rows`" in Reference.numeric(values).certificate(1_000).reason
    assert Reference.numeric(values, budgets_rows=[1_000]).certificate(1_000).certified


def test_a_budget_far_from_a_calibrated_one_is_not_certified():
    reference = Reference.numeric(autoregressive(0.5, 5_000), budgets_rows=[300])

    assert reference.certificate(600).certified
    assert "give it in `budgets_rows`" in reference.certificate(5_000).reason


def test_a_merged_reference_keeps_the_more_cautious_promise():
    rng = np.random.default_rng(6)
    walk = np.cumsum(rng.choice([-1, 1], 4_000)) // 40 % 3
    calm = np.repeat(rng.integers(0, 3, 200), 20)
    texts = np.array(["a", "b", "c"])
    wandering, steady = (
        Reference.categorical(np.append(texts[values], ["a", "b"]), budgets_rows=[100])
        for values in (walk, calm)
    )
    merged = [wandering.merge(steady), steady.merge(wandering)]

    assert wandering.serial.still_grows
    assert not steady.serial.still_grows
    assert all(both.serial.still_grows for both in merged)
    assert all(both.kappa == max(wandering.kappa, steady.kappa) for both in merged)
    assert not any(both.certificate(100).certified for both in merged)


def test_references_with_and_without_blocks_are_not_merged():
    texts = np.tile(["a", "b"], 200)
    declared = Reference.categorical(texts, blocks=np.repeat(np.arange(40), 10))

    with pytest.raises(DriftInputError, match="blocks declared for one only"):
        declared.merge(Reference.categorical(texts))


@pytest.mark.parametrize("kinds", [300, 3_000])
def test_many_categories_keep_the_budget(kinds: int):
    alarms, rows = 0, 0
    for seed in range(60):
        rng = np.random.default_rng([seed, kinds])
        drawn = np.array([f"id {value}" for value in rng.integers(0, kinds, 4_000)])
        bank = RankBank(Reference.categorical(drawn[:2_000], seed=seed), budget_rows=500)
        alarm = bank.update(drawn[2_000:])
        alarms += alarm is not None
        rows += alarm.row + 1 if alarm else 2_000

    assert alarms / (rows / 500) <= 1.2


def test_missing_values_of_pandas_are_missing():
    column = np.array(["a", pd.NA, None, "b"] * 50, dtype=object)

    assert Reference.categorical(column).counts[0, 0] == 100


def test_a_year_is_not_promised_on_a_quarter_of_one():
    rng = np.random.default_rng(4)
    days = np.repeat(np.arange(90), 50)
    reference = Reference.numeric(rng.normal(size=4_500), blocks=days, budgets_rows=[4_500])

    assert reference.certificate(90 * 50).certified
    assert "needs about 18250 rows (budget beyond" in reference.certificate(365 * 50).reason


def test_a_reference_says_which_budgets_it_is_long_enough_for():
    values = autoregressive(0.5, 5_000)
    days = np.repeat(np.arange(50), 100)

    assert Reference.numeric(normal()).certificate(10).longest_rows == np.inf
    dependent = Reference.numeric(values, budgets_rows=[1_000]).certificate(1_000)
    assert dependent.longest_rows == 10_000.0
    assert Reference.numeric(normal(5_000), blocks=days).certificate(100).longest_rows == 5_000.0
    assert Reference.numeric(np.cumsum(normal())).certificate(100).longest_rows == 0.0


def test_a_long_independent_reference_is_certified():
    assert Reference.numeric(normal()).certificate(1_000_000).certified


def test_dependent_rows_get_a_calibrated_threshold():
    reference = Reference.numeric(autoregressive(0.5, 5_000), budgets_rows=[1_000])

    assert reference.budgets.tolist() == [1_000.0]
    assert reference.threshold(1_000) >= 780.0
    assert reference.threshold(2_000) == 2.0 * reference.threshold(1_000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(99), "delay: 99 rows; expected at least 100"),
        (np.zeros(200), "delay: one value only, 0; expected values that vary"),
        (np.full(200, np.nan), "delay: missing values only"),
        (np.zeros((200, 2)), r"delay: shape \(200, 2\); expected one dimension"),
        (np.array(["x"] * 200), "delay: values that are not numbers"),
    ],
)
def test_a_column_that_is_no_reference_is_refused(values: np.ndarray, message: str):
    with pytest.raises(DriftInputError, match=message):
        Reference.numeric(values, name="delay")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (np.zeros(3), r"blocks: shape \(3,\); expected shape \(4000,\)"),
        (np.arange(RNG_ROWS) % 2, "rows do not lie together"),
    ],
)
def test_blocks_that_are_none_are_refused(blocks: np.ndarray, message: str):
    with pytest.raises(DriftInputError, match=message):
        Reference.numeric(normal(), blocks=blocks)
