"""Rows are compared with those of their phase; sums over streams show what none of them does."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import DriftInputError, RankBank, Reference, StreamSet

DAY = 24


def seasonal(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hours = np.arange(rows) // 10 % DAY
    fuel = np.where(rng.random(rows) < np.where(hours < 12, 0.2, 0.7), "night", "day")
    return 3.0 * np.sin(hours * 2 * np.pi / DAY) + rng.normal(size=rows), fuel, hours


def alarms(seed: int, shift: float, season: bool, rows: int = 2_000) -> int | None:
    values, fuel, hours = seasonal(6_000, seed)
    streams = StreamSet.fit(
        {"load": values, "fuel": fuel}, phases=hours if season else None, budget_rows=4_000
    )
    values, fuel, hours = seasonal(rows, 500 + seed)
    found = streams.update({"load": values + shift, "fuel": fuel}, hours if season else None)
    return found.row if found else None


def test_a_season_that_is_declared_raises_no_alarm():
    assert sum(alarms(seed, 0.0, season=True) is not None for seed in range(20)) <= 10


def test_a_change_within_a_season_is_found_as_if_there_were_none():
    rows = [alarms(seed, 1.0, season=True) for seed in range(20)]

    assert all(row is not None for row in rows)
    assert np.mean([row for row in rows if row is not None]) <= 40.0


def test_the_reference_of_a_season_shows_no_dependence():
    values, fuel, hours = seasonal(6_000, 1)

    assert Reference.numeric(values, phases=hours).kappa <= 1.15
    assert Reference.categorical(fuel, phases=hours).kappa <= 1.15
    assert Reference.categorical(fuel).kappa > 5.0


def test_rows_of_a_season_need_their_phases():
    values, _, hours = seasonal(2_000, 0)
    bank = RankBank(Reference.numeric(values, name="load", phases=hours), budget_rows=1_000)

    with pytest.raises(DriftInputError, match="phases: None; expected the phase of each row, 0 to"):
        bank.update(values[:10])
    with pytest.raises(DriftInputError, match="phases: 24 at row 0; expected whole numbers from 0"):
        bank.update(values[:1], phases=[DAY])
    with pytest.raises(DriftInputError, match=r"phases: shape \(2,\)"):
        bank.update(values[:1], phases=[0, 1])
    with pytest.raises(DriftInputError, match="phases: values of type float64"):
        bank.update(values[:1], phases=[0.5])
    assert bank.rows == 0


def normal(rows: int, streams: int, seed: int) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(streams, rows))
    return {f"x{i}": column for i, column in enumerate(values)}


def test_small_changes_of_all_streams_are_found_in_their_sums():
    rows = {}
    for sums in (True, False):
        streams = StreamSet.fit(normal(4_000, 32, 0), budget_rows=10_000, sums=sums)
        live = {name: column + 0.25 for name, column in normal(400, 32, 1).items()}
        alarm = streams.update(live)
        assert alarm
        rows[sums] = alarm.row
        assert (alarm.culprits[0].stream == "(sum)") == sums

    assert rows[True] <= 25 < rows[False]


def test_sums_are_watched_from_sixteen_streams_on():
    assert len(StreamSet.fit(normal(200, 15, 0), budget_rows=100).report().culprits) == 15
    assert len(StreamSet.fit(normal(200, 16, 0), budget_rows=100).report().culprits) == 18


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_whitened_rows_in_any_batches_and_over_a_snapshot_are_the_same(batch: int):
    rng = np.random.default_rng(4)
    noise = rng.normal(size=3_300)
    values = noise.copy()
    for i in range(1, len(values)):
        values[i] += 0.8 * values[i - 1]
    values[rng.random(len(values)) < 0.05] = np.nan
    bank = RankBank(Reference.numeric(values[:3_000], budgets_rows=[500]), budget_rows=500)
    assert bank.reference.whitening is not None
    whole = RankBank.restore(bank.snapshot())
    whole.update(values[3_000:])

    for at in range(3_000, 3_300, batch):
        bank.update(values[at : at + batch])
        bank = RankBank.restore(bank.snapshot())

    for name, array in bank.snapshot().items():
        np.testing.assert_array_equal(array, whole.snapshot()[name], err_msg=name)
