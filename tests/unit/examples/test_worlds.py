import numpy as np
import pandas as pd
import pytest
from flights import DAY_US, HOUR_US, World
from worlds import with_shuffled_days, without_labels

FIRST_US = pd.Timestamp("2013-02-01T08:00").value // 1000
LAST_US = FIRST_US + 20 * DAY_US


@pytest.fixture(scope="module")
def winter(world: World) -> World:
    return world.between(FIRST_US - 3 * DAY_US, LAST_US + 6 * DAY_US)


def test_without_labels_everything_else_stays(winter: World) -> None:
    silent = without_labels(winter)

    assert len(silent.labels) == 0
    assert list(silent.labels.columns) == list(winter.labels.columns)
    assert silent.requests is winter.requests
    assert silent.features is winter.features


def test_shuffled_days_are_the_same_days_in_another_order(winter: World) -> None:
    shuffled = with_shuffled_days(winter, 1, FIRST_US, LAST_US)
    moved = winter.requests.merge(shuffled.requests, on="flight", suffixes=("", "_new"))
    shift_us = moved["event_time_us_new"] - moved["event_time_us"]
    day = (moved["event_time_us"] - FIRST_US) // DAY_US

    assert (shift_us % DAY_US == 0).all()
    assert (shift_us.groupby(day).nunique() == 1).all()
    assert set((moved["event_time_us_new"] - FIRST_US) // DAY_US) == set(range(20))
    assert day.between(0, 19).all()
    assert len(moved) == winter.requests["event_time_us"].between(FIRST_US, LAST_US - 1).sum()
    assert (moved["scheduled_departure_new"] - moved["scheduled_departure"] == shift_us).all()
    assert (shift_us != 0).mean() > 0.5


def test_shuffled_days_keep_what_was_known_of_each_flight(winter: World) -> None:
    shuffled = with_shuffled_days(winter, 1, FIRST_US, LAST_US)
    lag_us = 2 * HOUR_US

    def inputs(world: World) -> pd.DataFrame:
        asked = world.requests.assign(event_time_us=world.requests["event_time_us"] - lag_us)
        rows = asked.merge(world.features["airport_delays"], on=["event_time_us", "origin"])
        return rows.merge(world.labels[["flight", "late"]], on="flight").set_index("flight")

    before, after = inputs(winter), inputs(shuffled)
    both = before.index.intersection(after.index)
    columns = ["airport_delay_1h", "airport_delay_3h", "airport_landed_3h", "late"]
    assert len(both) > 0.95 * len(after)
    pd.testing.assert_frame_equal(before.loc[both, columns], after.loc[both, columns])


def test_a_label_waits_as_long_on_a_shuffled_day_as_on_its_own(winter: World) -> None:
    shuffled = with_shuffled_days(winter, 1, FIRST_US, LAST_US)

    def waits(world: World) -> "pd.Series[int]":
        labels = world.labels.set_index("flight")
        return labels["known_time_us"] - labels["event_time_us"]

    after = waits(shuffled)
    assert (waits(winter)[after.index] == after).all()


def test_the_seed_settles_the_order(winter: World) -> None:
    one, same, other = (with_shuffled_days(winter, seed, FIRST_US, LAST_US) for seed in (1, 1, 2))

    assert one.requests.equals(same.requests)
    assert not np.array_equal(one.requests["flight"], other.requests["flight"])
