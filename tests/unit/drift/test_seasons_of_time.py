"""Times become phases, and a season is found where there is one and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import DriftInputError
from ciclo_drift.seasons import Season, best_season

HOUR = 3_600.0
ROWS_A_DAY = 96


def clock(days: int) -> np.ndarray:
    return np.arange(days * ROWS_A_DAY) * (24 * HOUR / ROWS_A_DAY)


def world(kind: str, days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    times = clock(days)
    hour, day = times / HOUR % 24, (times // (24 * HOUR)).astype(int)
    noise = rng.normal(size=len(times))
    values = {
        "independent": noise,
        "days that differ": noise + rng.normal(size=days)[day],
        "a walk": np.cumsum(noise),
        "a trend": noise + 3.0 * times / times[-1],
        "hours": noise + 0.5 * np.sin(hour * np.pi / 12),
        "weekdays": noise + 0.8 * ((day + 3) % 7 >= 5),
        "hours of workdays": noise
        + 3.0 * np.sin(hour * np.pi / 12) * ((day + 3) % 7 < 5)
        + 3.0 * np.cos(hour * np.pi / 12) * ((day + 3) % 7 >= 5),
    }
    return times, values[kind]


@pytest.mark.parametrize(
    ("text", "time", "phase", "count"),
    [
        ("hour", "1970-01-01T23:59", 23, 24),
        ("weekday", "2026-01-05T00:00", 0, 7),
        ("weekday", "1969-12-31T00:00", 2, 7),
        ("month", "2026-12-31T23:59", 11, 12),
        ("minute", "2026-01-01T05:07:59", 7, 60),
        ("weekday,hour", "2026-01-06T03:00", 27, 168),
        ("none", "2026-01-06T03:00", 0, 1),
    ],
)
def test_a_time_has_its_phase(text: str, time: str, phase: int, count: int):
    season = Season.parse(text)

    assert season.phases(np.array([time], "datetime64[ms]")).tolist() == [phase]
    assert season.phases_count == count


def test_epoch_seconds_and_datetimes_have_the_same_phases():
    times = np.array(["2026-03-29T02:30:59", "1969-07-20T20:17"], "datetime64[us]")
    season = Season.parse("hour,weekday")

    seconds = times.astype("datetime64[s]").astype(float) + 0.25
    assert season.phases(times).tolist() == season.phases(seconds).tolist()


def test_a_clock_that_jumps_back_changes_no_phase():
    times = clock(3)
    order = np.random.default_rng(0).permutation(len(times))
    season = Season.parse("hour")

    assert season.phases(times[order]).tolist() == season.phases(times)[order].tolist()


@pytest.mark.parametrize(
    "times", [np.array(["2026-01-01", "NaT"], "datetime64[s]"), np.array([0.0, np.nan])]
)
def test_a_missing_time_is_refused_with_its_row(times: np.ndarray):
    with pytest.raises(DriftInputError, match="times: none at row 1"):
        Season.parse("hour").phases(times)


def test_what_is_no_time_is_refused():
    with pytest.raises(DriftInputError, match="datetime64 or epoch seconds"):
        Season.parse("hour").phases(np.array(["noon"]))


@pytest.mark.parametrize("text", ["fortnight", "hour,hour", "", "hour,none"])
def test_an_unknown_season_is_refused(text: str):
    with pytest.raises(DriftInputError, match=r"season: .* some of minute, hour, weekday, month"):
        Season.parse(text)


def test_a_season_of_too_many_phases_is_refused():
    with pytest.raises(DriftInputError, match=r"2016 phases .* at most 1024: fewer parts"):
        Season.parse("hour,weekday,month")


@pytest.mark.parametrize("kind", ["independent", "days that differ", "a walk", "a trend"])
def test_no_season_is_found_where_there_is_none(kind: str):
    for seed in range(10):
        times, values = world(kind, 60, seed)
        assert str(best_season(times, {"load": values})) == "none"


@pytest.mark.parametrize(
    ("kind", "season"),
    [("hours", "hour"), ("weekdays", "weekday"), ("hours of workdays", "hour,weekday")],
)
def test_a_season_is_found_among_columns_that_have_none(kind: str, season: str):
    for seed in range(5):
        times, values = world(kind, 60, seed)
        rng = np.random.default_rng(seed)
        others = {f"noise {i}": rng.normal(size=len(times)) for i in range(5)}
        assert str(best_season(times, others | {"load": values})) == season


def test_categories_have_seasons_too():
    rng = np.random.default_rng(0)
    times = clock(30)
    night = times / HOUR % 24 < 12
    fuel = np.where(rng.random(len(times)) < np.where(night, 0.3, 0.6), "gas", "coal")

    assert str(best_season(times, {"fuel": fuel})) == "hour"


def test_a_season_that_is_sure_but_small_is_not_worth_splitting_the_reference_for():
    times = clock(1_000)
    small = 0.14 * np.sin(times / HOUR * np.pi / 12)

    noise = np.random.default_rng(0).normal(size=len(times))
    assert str(best_season(times, {"load": small + noise})) == "none"
    assert str(best_season(times, {"load": 3.0 * small + noise})) == "hour"


def test_too_few_days_show_no_season():
    times, values = world("hours of workdays", 3, 0)

    assert str(best_season(times, {"load": values})) == "none"


def test_columns_of_another_length_are_refused():
    with pytest.raises(DriftInputError, match=r"load: shape \(3,\); expected shape \(2,\)"):
        best_season(np.zeros(2), {"load": np.zeros(3)})
