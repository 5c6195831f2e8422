"""Every registered detector keeps the promises of all detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ciclo_drift import DETECTORS, DriftInputError, pack, unpack

if TYPE_CHECKING:
    from ciclo_drift.registry import Registration

EVERY = pytest.mark.parametrize("entry", DETECTORS, ids=lambda entry: entry.name)
NULL_RUNS = 40


def stream(seed: int, rows: int, shift_at: int | None = None, shift: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=rows)
    if shift_at is not None:
        values[shift_at:] += shift
    return values


def fresh(entry: Registration, seed: int = 0):
    return entry.build(stream(1_000 + seed, entry.reference_rows), seed)


def trace(entry: Registration, detector, values: np.ndarray) -> list[float]:
    seen = []
    for value in values:
        entry.feed(detector, np.array([value]))
        seen.append(entry.evidence(detector))
    return seen


@EVERY
def test_equal_seeds_and_rows_give_equal_evidence(entry: Registration):
    values = stream(1, 60)

    assert trace(entry, fresh(entry), values) == trace(entry, fresh(entry), values)


@EVERY
def test_later_rows_do_not_change_what_was_said_before(entry: Registration):
    values = stream(2, 60)
    other = np.concatenate([values[:40], values[40:] + 5.0])

    first = trace(entry, fresh(entry), values)
    second = trace(entry, fresh(entry), other)

    assert first[:40] == second[:40]
    assert first[40:] != second[40:]


@EVERY
@pytest.mark.parametrize("sizes", [(1, 2, 3, 54), (30, 30), (7,) * 8 + (4,)])
def test_batches_of_any_length_give_the_same_result(entry: Registration, sizes: tuple[int, ...]):
    values = stream(3, 60, shift_at=35, shift=3.0)
    whole, parts = fresh(entry), fresh(entry)

    entry.feed(whole, values)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        entry.feed(parts, part)

    assert_equal(whole.snapshot(), parts.snapshot())


@EVERY
@pytest.mark.parametrize("row", [0, 1, 17, 59])
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(entry: Registration, row: int):
    values = stream(4, 60, shift_at=35, shift=3.0)
    whole = fresh(entry)
    entry.feed(whole, values[:row])
    restored = type(whole).restore(unpack(pack(whole.snapshot())))

    entry.feed(whole, values[row:])
    entry.feed(restored, values[row:])

    assert_equal(whole.snapshot(), restored.snapshot())
    assert entry.evidence(whole) == entry.evidence(restored)


@EVERY
def test_a_snapshot_is_not_changed_by_what_comes_after(entry: Registration):
    detector = fresh(entry)
    entry.feed(detector, stream(5, 10))
    snapshot = detector.snapshot()
    before = pack(snapshot)

    entry.feed(detector, stream(6, 10))

    assert pack(snapshot) == before


@EVERY
def test_a_snapshot_holds_arrays_that_need_no_pickle_and_stays_small(entry: Registration):
    detector = fresh(entry)
    entry.feed(detector, stream(7, 50))

    assert len(pack(detector.snapshot())) < entry.most_bytes


@EVERY
def test_reset_starts_anew(entry: Registration):
    values = stream(8, 60)
    detector = fresh(entry)
    entry.feed(detector, stream(9, 60, shift_at=20, shift=4.0))

    detector.reset()

    assert trace(entry, detector, values) == trace(entry, fresh(entry), values)


@EVERY
def test_a_snapshot_of_something_else_is_refused(entry: Registration):
    snapshot = fresh(entry).snapshot() | {"kind": np.array("something else")}

    with pytest.raises(DriftInputError, match="something else; expected a snapshot of ciclo_drift"):
        type(fresh(entry)).restore(snapshot)


@EVERY
def test_the_false_alarm_budget_is_kept_on_independent_rows(entry: Registration):
    alarms = sum(
        entry.feed(fresh(entry, seed), stream(seed, entry.null_rows)) for seed in range(NULL_RUNS)
    )

    expected = entry.null_share * NULL_RUNS
    # Two and a half standard errors of noise: seeds are fixed, so this holds or fails for good.
    assert alarms <= expected + 2.5 * np.sqrt(expected * (1.0 - entry.null_share)) + 0.5


@EVERY
def test_a_planted_shift_is_found(entry: Registration):
    runs = 20
    found = sum(
        entry.feed(fresh(entry, seed), stream(500 + seed, entry.power_rows) + entry.shift)
        for seed in range(runs)
    )

    assert found >= 0.9 * runs


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
