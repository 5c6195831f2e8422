"""Inputs tell the loss to be expected: by regression, and by weighting the reference."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import DriftInputError
from ciclo_drift.quality import LossRegression, WeightedQuality

BOTH = pytest.mark.parametrize("kind", [LossRegression, WeightedQuality])


def joint(seed: int, rows: int, shift: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Losses that depend on the two inputs together, and on neither alone."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(shift, 1.0, size=(2, rows))
    return {"a": a, "b": b}, (rng.random(rows) < np.where(a * b > 0, 0.9, 0.1)) + 0.0


def test_weighting_beats_the_plain_mean_and_the_additive_model_where_losses_are_joint():
    errors = {"plain": [], "additive": [], "weighted": []}
    inside = 0
    for seed in range(25):
        columns, losses = joint(seed, 2_000, 0.0)
        live, truth = joint(100 + seed, 800, 0.7)
        errors["plain"].append(losses.mean() - truth.mean())
        for name, kind in (("additive", LossRegression), ("weighted", WeightedQuality)):
            quality = kind.fit(columns, losses)
            quality.update(live)
            errors[name].append(quality.estimate().value - truth.mean())
        found = quality.estimate()
        inside += found.lower <= truth.mean() <= found.upper

    size = {name: float(np.sqrt(np.mean(np.square(e)))) for name, e in errors.items()}
    assert size["weighted"] < 0.35 * size["plain"]
    assert size["weighted"] < 0.35 * size["additive"]
    assert inside >= 0.9 * 25


def test_joint_losses_make_the_additive_model_invalid_and_not_the_weighted_one():
    live = [joint(200 + day, 100, 0.7) for day in range(30)]
    valid = {}
    for kind in (LossRegression, WeightedQuality):
        quality = kind.fit(*joint(0, 2_000, 0.0))
        for columns, losses in live:
            quality.update(columns)
            quality.mature(float(quality.excess(columns, losses).sum()), 100)
        valid[kind] = quality.estimate().valid

    assert valid == {LossRegression: False, WeightedQuality: True}


def test_weights_cost_rows_and_without_a_shift_hardly_any():
    columns, losses = joint(0, 2_000, 0.0)
    quality = WeightedQuality.fit(columns, losses)
    borne = []
    for shift in (0.0, 0.7, 1.5):
        quality.clear()
        quality.update(joint(1, 800, shift)[0])
        borne.append(quality.estimate().effective_rows)

    assert 1_600 < borne[0] <= 2_000
    assert borne[0] > 2.0 * borne[1] > 4.0 * borne[2]


def test_weighting_keeps_no_more_rows_than_said():
    columns, losses = joint(0, 6_000, 0.0)
    snapshot = WeightedQuality.fit(columns, losses, kept_rows=500).snapshot()

    assert snapshot["kept_places"].shape == (500, 2)
    assert snapshot["kept_errors"].shape == (500,)
    with pytest.raises(DriftInputError, match="kept_rows: 100; expected between 200"):
        WeightedQuality.fit(columns, losses, kept_rows=100)


@BOTH
def test_regression_losses_follow_numbers_categories_and_missing_values(kind):
    rng = np.random.default_rng(0)

    def rows(count: int, share: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
        grade = np.where(rng.random(count) < share, "hard", "easy")
        x = np.where(rng.random(count) < share, np.nan, rng.normal(size=count))
        spread = np.where(grade == "hard", 2.0, 1.0) + np.where(np.isnan(x), 1.0, 0.0)
        return {"grade": grade, "x": x}, np.abs(spread * rng.normal(size=count))

    quality = kind.fit(*rows(4_000, 0.2), metric="absolute error")
    live, losses = rows(2_000, 0.6)
    quality.update(live)
    found = quality.estimate()

    assert found.metric == "absolute error"
    assert found.lower <= losses.mean() <= found.upper
    assert found.upper - found.lower < 0.3
    assert (found.valid, found.reason) == (True, "")


@BOTH
def test_a_category_that_the_reference_never_had_counts_as_outside(kind):
    rng = np.random.default_rng(0)
    quality = kind.fit({"grade": rng.choice(["a", "b"], 400)}, rng.random(400))
    quality.update({"grade": np.array(["a"] * 150 + ["c"] * 50)})

    assert quality.estimate().outside == 0.25
    assert not quality.estimate().valid


@BOTH
def test_beyond_the_extremes_the_outermost_cell_is_expected(kind):
    x = np.linspace(0.0, 1.0, 2_000)
    quality = kind.fit({"x": x}, 10.0 * x + np.tile([-1.0, 1.0], 1_000))
    over = quality.excess({"x": np.array([0.0, -5.0, -np.inf, 1.0, 5.0, np.inf])}, np.zeros(6))

    assert np.unique(over[:3]).size == np.unique(over[3:]).size == 1
    assert over[0] - over[5] > 5.0


@BOTH
def test_infinite_inputs_count_as_outside(kind):
    rng = np.random.default_rng(0)
    quality = kind.fit({"x": rng.normal(size=400)}, rng.random(400))
    quality.update({"x": np.array([np.inf, -np.inf, 0.0, 0.1])})

    assert quality.estimate().outside == 0.5


@BOTH
@pytest.mark.parametrize(
    ("columns", "losses", "message"),
    [
        ({"x": np.arange(400.0)}, np.full(400, 0.5), "losses: 0.5 in every row"),
        ({"x": np.arange(400.0)}, np.append(np.arange(399.0), np.nan), "losses: nan at posi"),
        ({"x": np.arange(400.0)}, np.arange(399.0), "losses: 399 values; expected 400"),
        ({"x": np.ones(400)}, np.arange(400.0), "x: one value only, 1"),
        ({"x": np.full(400, np.nan)}, np.arange(400.0), "x: missing values only"),
        ({}, np.arange(400.0), "columns: shapes {}"),
        ({"x": np.arange(400.0), "y": np.arange(3.0)}, np.arange(400.0), "columns: shapes"),
    ],
)
def test_a_reference_that_teaches_nothing_is_refused(kind, columns, losses, message: str):
    with pytest.raises(DriftInputError, match=message):
        kind.fit(columns, losses)


@BOTH
def test_live_rows_of_another_shape_are_refused_and_not_counted(kind):
    rng = np.random.default_rng(0)
    quality = kind.fit({"x": rng.normal(size=400), "y": rng.normal(size=400)}, rng.random(400))

    with pytest.raises(DriftInputError, match=r"columns: no \['y'\]; expected every input"):
        quality.update({"x": np.zeros(5)})
    with pytest.raises(DriftInputError, match="columns: shapes"):
        quality.update({"x": np.zeros(5), "y": np.zeros(4)})
    with pytest.raises(DriftInputError, match="x: values that are not numbers"):
        quality.update({"x": np.array(["a"]), "y": np.zeros(1)})
    with pytest.raises(DriftInputError, match="losses: 1 values; expected 2"):
        quality.excess({"x": np.zeros(2), "y": np.zeros(2)}, [1.0])

    assert quality.estimate().rows == 0
