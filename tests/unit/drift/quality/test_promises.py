"""What every estimate of quality promises, shown on worlds in which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.drift.quality.worlds import calibrated, days_of, give, mature, regressed, weighted

from ciclo_drift import DriftInputError, pack, unpack
from ciclo_drift.quality import Limits

EVERY = pytest.mark.parametrize("make", [calibrated, regressed, weighted])
WINDOWS, WINDOW_DAYS = 5, 8


def held(make, references: int, *, shift: float = 0.0, concept: float = 0.0) -> tuple[float, float]:
    """Share of windows whose interval held, and share of valid ones."""
    inside = valid = 0
    for seed in range(references):
        quality = make(days_of(seed))
        for window in range(WINDOWS):
            rows = days_of(
                1_000 + WINDOWS * seed + window, WINDOW_DAYS, shift=shift, concept=concept
            )
            quality.clear()
            give(quality, rows)
            found = quality.estimate()
            inside += found.lower <= rows.losses.mean() <= found.upper
            valid += found.valid
    return inside / (references * WINDOWS), valid / (references * WINDOWS)


@EVERY
def test_intervals_hold_in_nine_windows_of_ten_after_the_inputs_moved(make):
    inside, valid = held(make, 40, shift=0.8)

    assert inside >= 0.9
    assert valid >= 0.95


@EVERY
def test_intervals_know_that_a_small_reference_is_not_the_truth(make):
    inside = 0
    for seed in range(40):
        quality, rows = make(days_of(seed, 10)), days_of(100 + seed, 80)
        give(quality, rows)
        found = quality.estimate()
        inside += found.lower <= rows.losses.mean() <= found.upper

    assert inside >= 0.9 * 40


@EVERY
def test_intervals_do_not_hold_after_the_concept_changed(make):
    assert held(make, 6, concept=-1.2)[0] <= 0.5


@EVERY
def test_intervals_are_as_narrow_as_the_noise_of_labels_allows(make):
    quality = make(days_of(0, day_sd=0.0))
    rows = days_of(1, WINDOW_DAYS, day_sd=0.0)
    give(quality, rows)
    found = quality.estimate()

    noise = 2.0 * 1.96 * rows.losses.std() / np.sqrt(len(rows.losses))
    assert found.upper - found.lower <= 1.5 * noise


@EVERY
def test_matured_labels_say_that_the_concept_changed_and_only_then(make):
    limits = Limits(budget_blocks=200.0)
    unchanged, changed = [], []
    for seed in range(10):
        for found, concept in ((unchanged, 0.0), (changed, -1.2)):
            quality = make(days_of(seed), limits=limits)
            give(quality, days_of(100 + seed, 4, shift=0.5))
            assert quality.estimate().valid
            found.append(mature(quality, days_of(200 + seed, 30, shift=0.5, concept=concept)))

    # 30 days of a budget of 200: 14 % may be told so without a change.
    assert sum(day is not None for day in unchanged) <= 3
    assert sum(day is not None for day in changed) >= 9
    assert np.median([day for day in changed if day is not None]) <= 15


@EVERY
def test_the_objection_names_size_direction_and_start(make):
    quality = make(days_of(0))
    give(quality, days_of(1, 4))
    mature(quality, days_of(2, 40, concept=-1.5))

    assert quality.estimate().reason.startswith("matured labels: ")
    assert "above the estimate since block" in quality.estimate().reason


@EVERY
def test_a_difference_within_the_tolerance_is_no_objection(make):
    rows = days_of(2, 40, concept=-1.5)
    for tolerance, valid in ((0.0, False), (1.0, True)):
        quality = make(days_of(0), limits=Limits(tolerance=tolerance))
        give(quality, days_of(1, 4))
        mature(quality, rows)

        assert quality.estimate().valid is valid


@EVERY
@pytest.mark.parametrize("sizes", [(1, 2, 3, 234), (120, 120), (7,) * 34 + (2,)])
def test_batches_of_any_length_give_the_same_result(make, sizes: tuple[int, ...]):
    rows = days_of(3, 4)
    whole, parts = make(days_of(0)), make(days_of(0))

    give(whole, rows)
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        give(parts, rows, slice(end - size, end))

    assert whole.estimate() == parts.estimate()
    assert pack(whole.snapshot()) == pack(parts.snapshot())


@EVERY
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(make):
    first, second = days_of(4, 20, concept=0.7), days_of(5, 20, concept=0.7)
    whole = make(days_of(0))
    give(whole, first)
    whole.reconcile(whole.estimate(), 0.1)
    mature(whole, first)
    restored = type(whole).restore(unpack(pack(whole.snapshot())))

    for quality in (whole, restored):
        give(quality, second)
        mature(quality, second)
        quality.reconcile(quality.estimate(), 0.1)

    assert whole.estimate() == restored.estimate()
    assert pack(whole.snapshot()) == pack(restored.snapshot())


@EVERY
def test_reset_starts_anew_and_clear_keeps_what_matured(make):
    quality, rows = make(days_of(0)), days_of(6, 40, concept=2.0)
    fresh = pack(quality.snapshot())
    give(quality, rows)
    assert mature(quality, rows) is not None

    quality.clear()
    give(quality, rows)
    assert not quality.estimate().valid
    quality.reset()

    assert pack(quality.snapshot()) == fresh


@EVERY
def test_a_snapshot_holds_no_input_and_is_refused_by_others(make):
    rows = days_of(0)
    snapshot = make(rows).snapshot()

    kept = {float(v) for v in snapshot.get("knots", np.zeros(0)).ravel()}
    for name, array in snapshot.items():
        if name.endswith("places"):
            assert array.dtype.kind == "i"
    assert not kept & set(rows.scores.tolist())
    with pytest.raises(DriftInputError, match="something else; expected a snapshot of ciclo_drift"):
        type(make(rows)).restore(snapshot | {"kind": np.array("something else")})


@EVERY
def test_without_rows_the_answer_is_that_there_are_none(make):
    found = make(days_of(0)).estimate()

    assert np.isnan(found.value)
    assert (found.valid, found.rows, found.reason) == (False, 0, "0 rows; needs 100")


@EVERY
def test_rows_beyond_the_reference_make_an_estimate_invalid(make):
    quality = make(days_of(0))
    give(quality, days_of(1, 4, shift=9.0))

    assert not quality.estimate().valid
    assert "of rows outside the reference; at most 5.0%" in quality.estimate().reason


@EVERY
def test_few_reference_rows_behind_an_estimate_make_it_invalid(make):
    quality = make(days_of(0), limits=Limits(most_outside=1.0, least_effective=300.0))
    give(quality, days_of(1, 4, shift=2.5))

    assert "reference rows bear it; needs 300" in quality.estimate().reason


@EVERY
def test_too_few_reference_rows_or_blocks_are_refused(make):
    rows = days_of(0, 3)
    with pytest.raises(DriftInputError, match="180 rows; expected at least 200"):
        make(rows)

    rows = days_of(0, 4)
    with pytest.raises(DriftInputError, match="4 blocks; expected at least 5, or None"):
        make(rows)


@EVERY
def test_blocks_of_another_length_are_refused(make):
    rows = days_of(0)
    with pytest.raises(DriftInputError, match=r"blocks: shape \(7,\); expected shape \(2400,\)"):
        make(rows._replace(days=rows.days[:7]))


@EVERY
def test_blocks_widen_the_interval_where_days_differ(make):
    widths = []
    rows, live = days_of(0, 80, day_sd=1.0), days_of(1, 8, day_sd=1.0)
    order = np.random.default_rng(0).permutation(len(rows.days))
    shuffled = type(rows)(
        {name: column[order] for name, column in rows.columns.items()},
        rows.scores[order],
        rows.labels[order],
        rows.days[np.arange(len(order))],
    )
    for reference in (rows, shuffled):
        quality = make(reference)
        give(quality, live)
        widths.append(quality.estimate().upper - quality.estimate().lower)

    assert widths[0] >= 1.3 * widths[1]
