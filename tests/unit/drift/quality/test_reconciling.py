"""What was estimated is held against what came."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.drift.quality.worlds import calibrated, days_of, give

from ciclo_drift import DriftInputError
from ciclo_drift.quality import Limits


def reconciled(seed: int, windows: int, concept: float):
    """Reconciles window after window; returns the estimator and all that was said."""
    quality = calibrated(days_of(seed), limits=Limits(budget_blocks=100.0))
    said = []
    for window in range(windows):
        rows = days_of(1_000 * (seed + 1) + window, 4, concept=concept)
        quality.clear()
        give(quality, rows)
        said.append(quality.reconcile(quality.estimate(), float(rows.losses.mean())))
    return quality, said


def test_the_tally_counts_windows_and_intervals_that_held():
    quality, said = reconciled(0, 60, concept=0.0)

    assert [one.windows for one in said] == list(range(1, 61))
    assert said[-1].inside_share == np.mean([one.inside for one in said])
    assert said[-1].inside_share >= 0.9
    assert said[-1].trusted
    assert quality.estimate().valid


def test_a_sequence_of_misses_makes_later_estimates_not_valid():
    quality, said = reconciled(0, 12, concept=2.0)

    lost = next(i for i, one in enumerate(said) if not one.trusted)
    assert 1 <= lost <= 5
    assert not quality.estimate().valid
    missed = sum(not one.inside for one in said[: lost + 1])
    assert quality.estimate().reason == f"{missed} of {lost + 1} reconciled intervals missed"
    assert said[-1].windows == lost + 1, "what said of itself not to be valid is not counted"


def test_chance_misses_do_not():
    lost = sum(not reconciled(seed, 30, concept=0.0)[1][-1].trusted for seed in range(20))

    # 30 windows of a budget of 100: 26 % may.
    assert lost <= 5


def test_one_miss_alone_is_chance():
    quality = calibrated(days_of(0))
    give(quality, days_of(1, 4))
    said = quality.reconcile(quality.estimate(), 99.0)

    assert (said.inside, said.trusted, said.inside_share) == (False, True, 0.0)
    assert said.miss == 99.0 - quality.estimate().value


def test_with_a_quarter_of_the_labels_the_interval_is_twice_as_wide():
    quality = calibrated(days_of(0))
    give(quality, days_of(1, 4))
    found = quality.estimate()
    outside = found.value + 1.5 * (found.upper - found.value)

    assert not quality.reconcile(found, outside).inside
    assert quality.reconcile(found, outside, rows=found.rows // 4).inside


@pytest.mark.parametrize(
    ("realised", "rows", "what"), [(np.nan, None, "realised"), (0.5, 0, "rows"), (0.5, 241, "rows")]
)
def test_what_was_not_realised_is_refused(realised: float, rows: int | None, what: str):
    quality = calibrated(days_of(0))
    give(quality, days_of(1, 4))

    with pytest.raises(DriftInputError, match=f"{what}: "):
        quality.reconcile(quality.estimate(), realised, rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": 1.0},
        {"least_rows": 0},
        {"least_effective": 0.0},
        {"most_outside": 1.1},
        {"tolerance": -0.1},
        {"budget_blocks": 5.0},
    ],
)
def test_limits_out_of_range_are_refused(wrong: dict[str, float]):
    with pytest.raises(DriftInputError, match=next(iter(wrong))):
        Limits(**wrong)
