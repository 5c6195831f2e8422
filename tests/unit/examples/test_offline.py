from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flights import COLUMNS, DAY_US, ENTITIES, HOUR_US, World
from offline.controls import silent
from offline.examples import Asked, ask, instant_us, losses
from offline.judging import budget_days, calendar, closed, compare
from offline.story import exposed_rows, version

from ciclo.loop import Loop, read_loop

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights"
LAG = timedelta(hours=2)


@pytest.fixture(scope="module")
def loop() -> Loop:
    return read_loop(EXAMPLE / "loop")


@pytest.fixture(scope="module")
def asked(world: World) -> Asked:
    return ask(world, world.features, LAG)


def test_every_request_is_answered_once_and_in_order(world: World, asked: Asked) -> None:
    assert len(asked.rows) == len(world.requests)
    assert asked.rows["flight"].is_unique
    assert asked.rows["event_time_us"].is_monotonic_increasing


@pytest.mark.parametrize("view", ENTITIES)
def test_a_request_meets_the_newest_row_stamped_before_its_lag(
    world: World, asked: Asked, view: str
) -> None:
    entity, columns = ENTITIES[view], list(COLUMNS[view])
    stamped = world.features[view].set_index("event_time_us")

    for row in asked.rows.sample(25, random_state=1).to_dict("records"):
        mine = stamped[stamped[entity] == row[entity]]
        newest = mine[mine.index <= row["event_time_us"] - 2 * HOUR_US].iloc[-1]
        answered = np.array([row[name] for name in columns], np.float64)
        np.testing.assert_array_equal(answered, newest[columns].to_numpy(np.float64))


def test_a_dataset_holds_no_label_that_was_not_known(asked: Asked) -> None:
    cut_us = instant_us("2013-06-20") + 12 * HOUR_US
    rows = asked.known(cut_us - 3 * DAY_US, cut_us, cut_us)
    all_rows = asked.between(cut_us - 3 * DAY_US, cut_us)

    assert rows["label"].notna().all()
    assert (rows["known_time_us"] <= cut_us).all()
    assert 0.7 * len(all_rows) < len(rows) < 0.95 * len(all_rows)


def test_a_closed_day_counts_labels_known_twelve_hours_after_it(asked: Asked, loop: Loop) -> None:
    first_us = instant_us("2013-05-15")

    rows = closed(asked, first_us + HOUR_US, first_us + 3 * DAY_US, loop)

    assert set(rows["day"]) == {first_us // DAY_US + 1, first_us // DAY_US + 2}
    assert (rows["known_time_us"] <= calendar(loop).close_us(first_us // DAY_US + 2)).all()


def test_the_budget_of_a_test_is_that_of_half_the_alarms(loop: Loop) -> None:
    assert budget_days(loop) == 2 * loop.monitor.false_alarms.per.days


def test_a_canary_exposes_its_weight_of_the_rows(asked: Asked, loop: Loop) -> None:
    start_us = instant_us("2013-07-29")
    each_us = 4 * DAY_US
    rows = [
        len(asked.between(start_us + step * each_us, start_us + (step + 1) * each_us))
        for step in range(2)
    ]

    exposed = exposed_rows(asked, start_us, start_us + 2 * each_us, loop)

    assert exposed == pytest.approx(0.05 * rows[0] + 0.25 * rows[1], rel=0.1)
    assert exposed_rows(asked, start_us, start_us, loop) == 0


def test_a_better_one_must_be_so_by_more_than_the_margin(asked: Asked, loop: Loop) -> None:
    class Fixed:
        def __init__(self, pull: float) -> None:
            self.pull = pull

        def score(self, rows: pd.DataFrame) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
            label = rows["label"].to_numpy()
            return np.where(label > 0.5, 0.5, 0.5) + self.pull * (label - 0.5)

    rows = closed(asked, instant_us("2013-06-20"), instant_us("2013-07-20"), loop)
    verdicts = [
        compare(Fixed(0.0), Fixed(pull), rows, loop, {"better", "worse"}).verdict  # type: ignore[arg-type]
        for pull in (0.002, 0.02, -0.02)
    ]

    assert verdicts == ["undecided", "better", "worse"]


def test_the_same_rows_and_seed_give_the_same_version(asked: Asked, loop: Loop) -> None:
    cut_us = instant_us("2013-01-25")
    rows = asked.between(cut_us, cut_us + DAY_US)

    one, same, other = (version(asked, cut_us, loop, seed).score(rows) for seed in (3, 3, 4))

    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_nothing_can_be_judged_or_learned_without_labels(world: World, loop: Loop) -> None:
    found = silent(world, loop, seed=0)

    assert (found.days_tested, found.days_compared, found.rows_to_train_on) == (0, 0, 0)


def test_the_loss_of_a_row_is_its_negative_log_likelihood() -> None:
    found = losses(np.array([1.0, 0.0]), np.array([0.25, 0.25]))

    np.testing.assert_allclose(found, [-np.log(0.25), -np.log(0.75)])
