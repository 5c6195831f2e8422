"""Joint changes of vectors are found within the budget, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import DriftInputError, pack, unpack
from ciclo_drift.dependence import every_other
from ciclo_drift.joint import JointBank, kernels, rowwise, scores

DIMENSIONS = 8
REFERENCE = np.random.default_rng(0).normal(size=(1_200, DIMENSIONS))


def normal(seed: int, rows: int = 120, dimensions: int = DIMENSIONS) -> np.ndarray:
    return np.random.default_rng([1, seed]).normal(size=(rows, dimensions))


def correlated(seed: int, correlation: float, rows: int) -> np.ndarray:
    """Pairs of dimensions, turned so that no dimension shows which sign they have."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    vectors = normal(seed, rows)
    rest = np.sqrt(1.0 - correlation**2)
    vectors[:, 1] = correlation * vectors[:, 0] + rest * vectors[:, 1]
    return vectors @ turn.T


def fitted(budget: float = 2_000.0) -> JointBank:
    return JointBank.fit(REFERENCE, budget_rows=budget)


def changed(seed: int, rows: int = 160) -> np.ndarray:
    vectors = normal(seed, rows)
    vectors[50:] += 0.8
    vectors[20, 3], vectors[90, 0] = np.nan, np.inf
    return vectors


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize("sizes", [(1,) * 160, (3, 50, 7, 100), (80, 0, 80)])
@pytest.mark.parametrize("dimensions", [DIMENSIONS, 40])
def test_batches_of_any_length_give_the_same_bits(sizes: tuple[int, ...], dimensions: int):
    reference, live = normal(1, 300, dimensions), normal(2, 160, dimensions)
    live[50:] += 0.8
    whole = JointBank.fit(reference, budget_rows=2_000.0)
    parts = JointBank.restore(whole.snapshot())

    whole.update(live)
    for part in np.split(live, np.cumsum(sizes)[:-1]):
        parts.update(part)

    assert whole.alarm is not None
    assert_equal(whole.snapshot(), parts.snapshot())


def test_equal_seeds_and_rows_give_equal_state():
    first, second = fitted(), fitted()

    first.update(changed(3))
    second.update(changed(3))

    assert_equal(first.snapshot(), second.snapshot())


@pytest.mark.parametrize("row", [0, 30, 120])
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(row: int):
    bank, live = fitted(), changed(4)
    bank.update(live[:row])
    restored = JointBank.restore(unpack(pack(bank.snapshot())))

    assert bank.update(live[row:]) == restored.update(live[row:])
    assert_equal(bank.snapshot(), restored.snapshot())
    assert bank.moved() == restored.moved()


def test_a_snapshot_is_not_changed_by_what_comes_after():
    bank = fitted()
    snapshot = bank.snapshot()
    before = pack(snapshot)

    bank.update(normal(5))

    assert pack(snapshot) == before


def test_reset_starts_anew_also_after_a_restore():
    fresh, bank = fitted(), fitted()
    bank.update(changed(6))
    bank = JointBank.restore(bank.snapshot())

    bank.reset()

    assert_equal(bank.snapshot(), fresh.snapshot())


def test_a_snapshot_of_something_else_is_refused():
    with pytest.raises(DriftInputError, match=r"expected a snapshot of ciclo_drift\.JointBank"):
        JointBank.restore(fitted().snapshot() | {"kind": np.array("another")})


def test_a_score_does_not_look_ahead():
    live, other = normal(7), normal(7)
    other[60:] += 5.0

    first, second = fitted()._scores.run(live), fitted()._scores.run(other)

    for name, column in first.items():
        np.testing.assert_array_equal(column[:60], second[name][:60], err_msg=name)
        assert (column[60:] != second[name][60:]).any()


def test_a_witness_is_chosen_before_the_row_that_it_scores():
    bank = fitted()

    found = bank._scores.run(normal(8, 3_000))

    # A row that had a part in its own witness would score some half a deviation above 0.
    for name, column in found.items():
        if name.startswith("witness"):
            assert abs(column.mean()) < 0.15, name


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("dimensions", [2, 60])
def test_the_false_alarm_budget_is_kept(dimensions: int, heavy: bool):
    rng = np.random.default_rng(9)
    runs, budget, rows = 20, 200.0, 200

    def draw(count: int) -> np.ndarray:
        vectors = rng.normal(size=(count, dimensions))
        return vectors / np.sqrt(rng.chisquare(3, (count, 1)) / 3) if heavy else vectors

    banks = [JointBank.fit(draw(600), budget_rows=budget, seed=run) for run in range(runs)]
    alarms = sum(bank.update(draw(rows)) is not None for bank in banks)

    expected = runs * (1.0 - np.exp(-rows / budget))
    assert alarms <= expected + 2.5 * np.sqrt(expected * np.exp(-rows / budget))


def test_a_shift_spread_over_all_dimensions_is_found_and_located():
    direction = np.array([0.6, -0.5, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0])
    for seed in range(5):
        bank = fitted(50_000.0)
        assert bank.update(normal(seed, 200)) is None
        alarm = bank.update(normal(50 + seed, 200) + 1.5 * direction)

        assert alarm is not None
        assert alarm.row < 200 + 80
        first, second = bank.moved(2)
        assert (first.dimension, second.dimension) == (0, 1)
        assert first.shift > 0.3 > 0.0 > second.shift


def test_a_rotation_that_no_dimension_shows_is_found():
    before = correlated(0, 0.8, 1_200)
    after = correlated(1, -0.8, 100)

    alarm = JointBank.fit(before, budget_rows=2_000).update(after)

    assert alarm is not None
    assert alarm.row < 40
    named = [culprit.stream for culprit in alarm.culprits[:3]]
    assert any(word in name for name in named for word in ("spreads", "pairs", "mahalanobis"))


def test_what_leaves_the_main_axes_is_found_outside_them():
    rng = np.random.default_rng(10)
    basis = rng.normal(size=(3, 40))

    def draw(rows: int) -> np.ndarray:
        return 10.0 * rng.normal(size=(rows, 3)) @ basis + rng.normal(size=(rows, 40))

    bank = JointBank.fit(draw(300), budget_rows=2_000)
    live = draw(60)
    live[:, 0] += 8.0 * rng.normal(size=60)
    alarm = bank.update(live)

    assert alarm is not None
    assert alarm.culprits[0].stream == "outside"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_row_without_a_length_is_missing_everywhere_and_not_remembered(value: float):
    bank, other = fitted(), fitted()
    live = normal(11, 3)
    bad = live.copy()
    bad[1, 2] = value

    found = bank._scores.run(bad)
    without = other._scores.run(live[[0, 2]])

    assert all(np.isnan(column[1]) for column in found.values())
    for name, column in found.items():
        np.testing.assert_array_equal(column[[0, 2]], without[name])
    assert_equal(bank._scores.snapshot(), other._scores.snapshot())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_many_rows_without_a_length_are_a_change(value: float):
    live = normal(12, 60)
    live[::2, 1] = value

    alarm = fitted().update(live)

    assert alarm is not None
    assert all(np.isfinite(culprit.share) for culprit in alarm.culprits)


@pytest.mark.parametrize("dimensions", [2, 9, 33, 400])
def test_constant_repeated_and_many_dimensions_work(dimensions: int):
    reference, live = normal(13, 300, dimensions), normal(14, 100, dimensions)
    constant = np.full((400, 1), 7.0)
    reference = np.hstack([reference, reference[:, :1], constant[:300]])
    live = np.hstack([live, live[:, :1], constant[300:]])

    bank = JointBank.fit(reference, budget_rows=1e5)

    assert bank.update(live) is None
    assert bank.update(live[::-1] + 3.0) is not None


def test_dimensions_that_seldom_move_work():
    reference, live = normal(19, 300), normal(20, 200)
    reference[:, 0] = 0.0
    reference[[0, 16, 32], 0] = 1.0
    live[:, 0] = 0.0
    live[100, 0] = 1.0
    bank = JointBank.fit(reference, budget_rows=1e5)

    bank.update(live)

    assert all(np.isfinite(column).all() for column in bank._scores.run(live).values())


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (REFERENCE[:, [0, 0]], "1 that varies on its own; expected two or more"),
        (np.zeros((300, 3)), "the same value in all rows; expected rows that vary"),
        (REFERENCE[:200], "200 rows; expected at least 240"),
        (np.where(np.arange(300)[:, None] < 200, np.nan, REFERENCE[:300]), "without NaN"),
        (REFERENCE[:, 0], r"shape \(1200,\); expected shape \(n, d\)"),
        ([["a", "b"]], "expected numbers"),
    ],
)
def test_a_reference_that_is_none_is_refused(vectors: object, message: str):
    with pytest.raises(DriftInputError, match=message):
        JointBank.fit(vectors, budget_rows=1_000)  # type: ignore[arg-type]


@pytest.mark.parametrize("vectors", [np.zeros((4, 5)), np.zeros(8), [["a"] * 8], np.zeros((0, 5))])
def test_a_batch_of_another_shape_is_refused_and_not_counted(vectors: object):
    bank = fitted()
    before = bank.snapshot()

    with pytest.raises(DriftInputError, match="vectors"):
        bank.update(vectors)

    assert_equal(bank.snapshot(), before)


def test_what_is_given_is_not_changed():
    reference, live = REFERENCE.copy(), normal(15)
    kept = live.copy()

    JointBank.fit(reference, budget_rows=1_000).update(live)

    np.testing.assert_array_equal(reference, REFERENCE)
    np.testing.assert_array_equal(live, kept)


@pytest.mark.parametrize("dimensions", [DIMENSIONS, 40])
def test_both_engines_raise_the_same_alarm(monkeypatch: pytest.MonkeyPatch, dimensions: int):
    reference, live = normal(16, 400, dimensions), normal(17, 150, dimensions)
    live[40:] += 0.6
    live[10, 0] = np.nan
    seen = []
    for engine in (kernels, rowwise):
        monkeypatch.setattr(scores, "ENGINE", engine)
        bank = JointBank.fit(reference, budget_rows=1_000)
        alarm = bank.update(live)
        assert alarm is not None
        seen.append((alarm.row, alarm.since_row, [c.stream for c in alarm.culprits[:2]]))
        seen.append(bank.evidence)

    assert seen[0] == seen[2]
    assert seen[1] == pytest.approx(seen[3], rel=1e-6)


def test_rows_that_depend_on_each_other_raise_the_threshold_or_are_reported():
    rng = np.random.default_rng(18)
    walk = rng.normal(size=(2_000, DIMENSIONS))
    for row in range(1, len(walk)):
        walk[row] = 0.9 * walk[row - 1] + 0.44 * walk[row]

    bank = JointBank.fit(walk, budget_rows=500)

    assert bank.threshold > 500 or not bank.certificate.certified


def test_declared_blocks_are_kept_whole():
    blocks = np.repeat(np.arange(100), 12)

    bank = JointBank.fit(REFERENCE, budget_rows=300, blocks=blocks)
    fitting = every_other(1_200, np.arange(0, 1_200, 12))

    assert fitting.reshape(100, 12).all(axis=1).sum() == 50
    assert bank.threshold >= 0.78 * 300
    with pytest.raises(DriftInputError, match="two or more"):
        JointBank.fit(REFERENCE, budget_rows=300, blocks=np.zeros(1_200))
