"""Worlds in which nothing should be decided: the controls of the example."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from flights import DAY_US, ENTITIES, World

if TYPE_CHECKING:
    import pandas as pd


def without_labels(world: World) -> World:
    """Returns the world in which nobody ever learns how a flight ended."""
    return replace(world, labels=world.labels.iloc[:0])


def with_shuffled_days(world: World, seed: int, first_us: int, last_us: int) -> World:
    """Returns the days [first_us, last_us) of a world in random order, and no others.

    A day moves whole: its requests, feature rows, and labels with the delay that each had. So the
    days before and after any date differ by chance alone, and every alarm is a false one.

    Args:
        world: The real one.
        seed: Of the order.
        first_us: Start of the first day. 08:00 UTC is a good hour: nearly nothing flies.
        last_us: End of the last day: a whole number of days later.
    """
    days = (last_us - first_us) // DAY_US
    order = np.random.default_rng(seed).permutation(days).astype(np.int64)

    def shuffled(rows: pd.DataFrame, *by: str) -> pd.DataFrame:
        rows = rows[rows["event_time_us"].between(first_us, last_us, inclusive="left")]
        day = (rows["event_time_us"].to_numpy() - first_us) // DAY_US
        shift_us = (order[day] - day) * DAY_US
        times = rows.columns.intersection(["event_time_us", "known_time_us", "scheduled_departure"])
        moved = rows.assign(**{time: rows[time] + shift_us for time in times})
        return moved.sort_values(list(by), ignore_index=True)

    return World(
        requests=shuffled(world.requests, "event_time_us", "origin", "flight"),
        labels=shuffled(world.labels, "known_time_us", "flight"),
        features={
            view: shuffled(rows, "event_time_us", ENTITIES[view])
            for view, rows in world.features.items()
        },
    )
