"""Labels tell covariate, label and concept change apart, and say so when they cannot."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ciclo_drift import DriftInputError, Kind, pack, unpack
from ciclo_drift.kinds import LabelTable

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 100
REFERENCE_ROWS = 10_000
LIVE_ROWS = 2_000
WORLDS = {"covariate": Kind.COVARIATE, "label": Kind.LABEL, "concept": Kind.CONCEPT}


def probability(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def classified(world: str, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores and labels; the share of the label 1 is .33."""
    x = rng.normal(size=20 * rows if world == "label" else rows)
    x += 0.7 * (world == "covariate")
    labels = rng.random(len(x)) < probability(2 * x - 1 + 0.8 * (world == "concept"))
    if world == "label":
        positive = rng.random(rows) < 0.5
        drawn = [rng.choice(x[labels], rows), rng.choice(x[~labels], rows)]
        x, labels = np.where(positive, *drawn), positive
    return probability(2 * x - 1), labels


def predicted(world: str, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of numbers and what came true."""
    x = rng.normal(size=20 * rows if world == "label" else rows)
    x += 0.7 * (world == "covariate")
    outcome = x + 0.5 * rng.normal(size=len(x)) + 0.2 * (world == "concept")
    if world == "label":
        weight = np.exp(0.6 * outcome)
        drawn = rng.choice(len(x), rows, p=weight / weight.sum())
        x, outcome = x[drawn], outcome[drawn]
    return x, outcome


SORTS = pytest.mark.parametrize(
    ("make", "rows_of"),
    [(LabelTable.binary, classified), (LabelTable.numeric, predicted)],
    ids=["binary", "numeric"],
)


def kinds(make: Callable[..., LabelTable], rows_of: Callable[..., tuple], world: str) -> Counter:
    found: Counter = Counter()
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        table = make(*rows_of("null", REFERENCE_ROWS, rng))
        table.update(*rows_of(world, LIVE_ROWS, rng))
        found[table.kind()] += 1
    return found


@SORTS
@pytest.mark.parametrize("world", WORLDS)
def test_each_planted_world_is_called_right(make, rows_of, world: str):
    assert kinds(make, rows_of, world)[WORLDS[world]] >= 0.9 * RUNS


@SORTS
def test_without_a_change_neither_concept_nor_label_is_called(make, rows_of):
    found = kinds(make, rows_of, "null")

    assert found[Kind.CONCEPT] + found[Kind.LABEL] <= 0.05 * RUNS


def days(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Days that differ in how often the label is 1, as a matter of course."""
    x = rng.normal(size=(count, 100))
    labels = rng.random(x.shape) < probability(2 * x - 1 + 0.7 * rng.normal(size=(count, 1)))
    return probability(2 * x - 1).ravel(), labels.ravel(), np.repeat(np.arange(count), 100)


@pytest.mark.parametrize("declared", [True, False])
def test_days_that_differ_are_no_change_once_they_are_declared(declared: bool):
    wrong = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scores, labels, blocks = days(90, rng)
        table = LabelTable.binary(scores, labels, blocks if declared else None)
        table.update(*days(30, rng)[:2])
        wrong += table.kind() in {Kind.CONCEPT, Kind.LABEL}

    assert (wrong <= 0.05 * 60) is declared


def fitted(seed: int = 0, world: str = "null") -> LabelTable:
    return LabelTable.binary(*classified(world, 5_000, np.random.default_rng(seed)))


def test_too_few_rows_have_no_kind():
    table = fitted()
    rng = np.random.default_rng(1)

    assert table.kind() is None
    table.update(*classified("concept", 499, rng))
    assert table.kind() is None
    table.update(*classified("concept", 1_500, rng))
    assert table.kind() is Kind.CONCEPT


def test_rows_without_a_label_or_a_score_are_left_out():
    table = fitted()
    scores, labels = classified("null", 1_000, np.random.default_rng(1))
    labels = labels.astype(float)
    labels[::2] = np.nan
    scores[1::4] = np.nan

    table.update(scores, labels)

    assert table.rows == 250


def test_no_labels_at_all_have_no_kind():
    table = fitted()

    table.update(np.full(5_000, 0.5), np.full(5_000, np.nan))

    assert table.rows == 0
    assert table.kind() is None


def test_live_labels_of_one_class_are_an_answer():
    table = fitted()
    scores, _ = classified("null", 2_000, np.random.default_rng(1))

    table.update(scores, np.ones(2_000))

    assert table.kind() is Kind.CONCEPT


def test_any_batching_and_order_give_the_same():
    scores, labels = classified("concept", 900, np.random.default_rng(1))
    whole, parts = fitted(), fitted()

    whole.update(scores, labels)
    for part in np.split(np.random.default_rng(2).permutation(900), [1, 300]):
        parts.update(scores[part], labels[part])

    assert pack(whole.snapshot()) == pack(parts.snapshot())


def test_a_restored_table_goes_on_as_if_nothing_had_happened():
    table = fitted()
    table.update(*classified("concept", 400, np.random.default_rng(1)))
    restored = LabelTable.restore(unpack(pack(table.snapshot())))
    rows = classified("concept", 1_600, np.random.default_rng(2))

    table.update(*rows)
    restored.update(*rows)

    assert pack(table.snapshot()) == pack(restored.snapshot())
    assert restored.kind() is Kind.CONCEPT
    assert len(pack(table.snapshot())) < 10_000


def test_merged_tables_hold_the_rows_of_both():
    table = fitted()
    rows = [classified("concept", 600, np.random.default_rng(seed)) for seed in (1, 2)]
    halves = [LabelTable.restore(table.snapshot()) for _ in rows]
    for half, part in zip(halves, rows, strict=True):
        half.update(*part)

    merged = halves[0].merge(halves[1])

    assert merged.rows == 1_200
    assert merged.kind() is Kind.CONCEPT


def test_tables_with_other_cells_do_not_merge():
    with pytest.raises(DriftInputError, match="a table with other cells"):
        fitted(0).merge(fitted(1))


def test_reset_forgets_live_rows():
    table, fresh = fitted(), fitted()
    table.update(*classified("concept", 900, np.random.default_rng(1)))

    table.reset()

    assert pack(table.snapshot()) == pack(fresh.snapshot())


def test_a_snapshot_of_something_else_is_refused():
    with pytest.raises(DriftInputError, match="expected a snapshot of ciclo_drift"):
        LabelTable.restore({"kind": np.array("something else")})


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.linspace(0, 1, 200), np.zeros(200), "labels: all 0; expected values that vary"),
        (np.full(200, 0.5), np.arange(200) % 2, "scores: all 0.5; expected values that vary"),
        (np.linspace(0, 1, 200), np.arange(200) % 3, "labels: 2 at row 2; expected 0 or 1"),
        (np.linspace(0, 1, 99), np.arange(99) % 2, "labels: 99 known; expected at least 100"),
        (np.linspace(0, 1, 200), np.full(200, np.nan), "labels: 0 known"),
        (np.linspace(0, 1, 200), np.zeros(3), r"labels: shape \(3,\); expected shape \(200,\)"),
    ],
)
def test_a_reference_that_says_nothing_is_refused(scores, labels, message: str):
    with pytest.raises(DriftInputError, match=message):
        LabelTable.binary(scores, labels)


def test_blocks_of_another_length_are_refused():
    scores, labels = classified("null", 200, np.random.default_rng(0))

    with pytest.raises(DriftInputError, match="blocks: shape"):
        LabelTable.binary(scores, labels, np.zeros(3))
