from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flights import (
    DAY_US,
    DELAY_BOUNDS_MINUTES,
    ENTITIES,
    HOUR_US,
    LATE_AFTER_MINUTES,
    REPORTED_LATE_BY_US,
    World,
    delay_rows,
    read_restated,
    read_world,
    restated_delay_rows,
)
from records import MINUTE_US


@pytest.fixture(scope="module")
def spring(flights: pd.DataFrame) -> pd.DataFrame:
    first = pd.Timestamp("2013-03-05T00:00Z").value // 1000
    return flights[flights["scheduled_hour_us"].between(first, first + 14 * DAY_US)]


def test_business_keys_are_unique(world: World) -> None:
    assert world.requests["flight"].is_unique
    assert world.labels["flight"].is_unique


def test_batches_by_hour_and_origin_add_up_to_the_year(world: World) -> None:
    sizes = world.requests.groupby(["event_time_us", "origin"]).size()

    assert sizes.sum() == 336_776
    assert sizes.max() <= 64


def test_a_prediction_is_asked_at_the_top_of_the_hour_in_which_the_flight_is_scheduled(
    world: World,
) -> None:
    lead_us = world.requests["scheduled_departure"] - world.requests["event_time_us"]

    assert (world.requests["event_time_us"] % HOUR_US == 0).all()
    assert lead_us.between(0, HOUR_US - 1).all()


def test_a_landing_is_the_arrival_on_the_clock_of_the_destination(flights: pd.DataFrame) -> None:
    by_key = flights.set_index("flight")

    def landing(flight: str) -> str:
        return str(pd.Timestamp(int(by_key["landing_us"][flight]), unit="us"))

    # UA1545 left Newark at 05:17 and reached Houston at 08:30 Central; the others are analogous.
    assert landing("2013-01-01/EWR/UA1545") == "2013-01-01 14:30:00"
    assert landing("2013-01-01/JFK/B6725") == "2013-01-01 14:04:00"  # San Juan, Atlantic time
    assert landing("2013-07-01/JFK/HA51") == "2013-07-02 01:27:00"  # Honolulu, 15:27


def test_every_flight_lands_after_it_left_and_a_plausible_time_later(flights: pd.DataFrame) -> None:
    landed = flights[flights["landing_us"] >= 0]
    late_us = landed["landing_us"] - landed["scheduled_us"] - landed["arr_delay"] * MINUTE_US
    scheduled_hours = late_us / HOUR_US  # what remains is the scheduled time in the air and on taxi

    assert (landed["landing_us"] > landed["scheduled_us"]).mean() > 0.999
    assert scheduled_hours.between(0.5, 12.5).mean() > 0.9999


def test_a_label_is_known_at_landing_and_one_in_ten_two_days_later(
    world: World, flights: pd.DataFrame
) -> None:
    landing_us = flights.set_index("flight")["landing_us"]
    wait_us = world.labels["known_time_us"] - landing_us[world.labels["flight"]].to_numpy()

    assert set(wait_us.unique()) == {0, REPORTED_LATE_BY_US}
    assert (wait_us > 0).mean() == pytest.approx(0.1, abs=0.003)
    assert world.labels["known_time_us"].is_monotonic_increasing
    assert (world.labels["known_time_us"] > world.labels["event_time_us"]).all()


def test_flights_that_never_arrived_never_get_a_label(world: World, flights: pd.DataFrame) -> None:
    missing = set(flights.loc[flights["arr_delay"].isna(), "flight"])

    assert len(missing) == 9_430
    assert missing.isdisjoint(world.labels["flight"])
    assert len(world.labels) + len(missing) == len(world.requests)


def test_a_label_says_whether_the_flight_was_more_than_fifteen_minutes_late(
    world: World, flights: pd.DataFrame
) -> None:
    delay = flights.set_index("flight")["arr_delay"][world.labels["flight"]].to_numpy()

    assert (world.labels["late"].to_numpy() == (delay > LATE_AFTER_MINUTES)).all()


@pytest.mark.parametrize("view", ["airport_delays", "carrier_delays"])
def test_delay_rows_equal_a_count_by_hand(spring: pd.DataFrame, view: str) -> None:
    entity = ENTITIES[view]
    rows = delay_rows(spring, view).rename(columns=lambda name: name.removeprefix(view[:8]))
    landed = spring[spring["landing_us"] >= 0]

    for row in rows.sample(60, random_state=0).to_dict("records"):
        mine = landed[landed[entity] == row[entity]]
        age_us = row["event_time_us"] - mine["landing_us"]
        for hours in (1, 3, 6):
            counted = mine[(age_us >= 0) & (age_us < hours * HOUR_US)]["arr_delay"]
            expected = counted.clip(*DELAY_BOUNDS_MINUTES).mean()
            assert row[f"delay_{hours}h"] == pytest.approx(expected, abs=1e-3, nan_ok=True)
        counted = mine[(age_us >= 0) & (age_us < 3 * HOUR_US)]["arr_delay"]
        share = (counted > LATE_AFTER_MINUTES).mean()
        assert row["late_share_3h"] == pytest.approx(share, abs=1e-5, nan_ok=True)
        assert row["landed_3h"] == len(counted)


def test_how_flights_end_changes_no_row_stamped_before_they_landed(spring: pd.DataFrame) -> None:
    now_us = int(spring["scheduled_hour_us"].min()) + 5 * DAY_US + 20 * HOUR_US
    future = spring.assign(
        arr_delay=spring["arr_delay"].where(spring["landing_us"] <= now_us, 999.0)
    )

    def known(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["event_time_us"] <= now_us]

    pd.testing.assert_frame_equal(
        known(delay_rows(spring, "airport_delays")), known(delay_rows(future, "airport_delays"))
    )


def test_a_restated_row_knows_how_flights_end_that_have_not_left(spring: pd.DataFrame) -> None:
    rows = restated_delay_rows(spring, "airport_delays")
    landed = spring[spring["landing_us"] >= 0]

    for row in rows.sample(30, random_state=0).to_dict("records"):
        mine = landed[landed["origin"] == row["origin"]]
        ahead_us = mine["scheduled_hour_us"] - row["event_time_us"]
        counted = mine[(ahead_us >= 0) & (ahead_us < 3 * HOUR_US)]["arr_delay"]
        expected = counted.clip(*DELAY_BOUNDS_MINUTES).mean()
        assert row["airport_delay_3h"] == pytest.approx(expected, abs=1e-3, nan_ok=True)


def test_every_view_has_one_row_an_entity_and_event_time(world: World) -> None:
    for view, rows in world.features.items():
        assert not rows.duplicated([ENTITIES[view], "event_time_us"]).any()
        assert rows["event_time_us"].is_monotonic_increasing
        assert rows["event_time_us"].dtype == np.int64


def test_a_slice_of_the_world_holds_what_happens_then(world: World) -> None:
    first_us = pd.Timestamp("2013-05-15").value // 1000

    day = world.between(first_us, first_us + DAY_US)

    assert day.requests["event_time_us"].between(first_us, first_us + DAY_US - 1).all()
    assert day.labels["known_time_us"].between(first_us, first_us + DAY_US - 1).all()
    assert len(day.features["airport_delays"]) == 3 * 24


def test_the_year_is_the_same_from_scratch_and_from_the_cache(world: World, cache: Path) -> None:
    again = read_world(cache)

    pd.testing.assert_frame_equal(world.requests, again.requests)
    pd.testing.assert_frame_equal(world.labels, again.labels)
    for view in ENTITIES:
        pd.testing.assert_frame_equal(world.features[view], again.features[view])


def test_a_restated_row_differs_from_the_honest_one_in_its_values_alone(
    world: World, cache: Path
) -> None:
    for view, restated in read_restated(cache).items():
        honest, changed = world.features[view], f"{view[:8]}delay_3h"
        assert restated.dtypes.equals(honest.dtypes)
        assert restated["event_time_us"].equals(honest["event_time_us"])
        assert not np.allclose(restated[changed], honest[changed], equal_nan=True)
