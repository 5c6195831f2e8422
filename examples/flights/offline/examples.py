"""Joins requests with what was known when they were asked, and with labels as far as known.

Does by array what the feature store does by service: the same values at the same lag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from flights import COLUMNS, DAY_US, ENTITIES, World

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from numpy.typing import NDArray


def microseconds(span: timedelta) -> int:
    """Returns a span in microseconds."""
    return round(span.total_seconds() * 1e6)


def instant_us(day: str) -> int:
    """Returns a day's start, such as `2013-05-15`, in microseconds since the epoch (UTC)."""
    return int(np.datetime64(day, "us").astype(np.int64))


def day_name(time_us: int) -> str:
    """Returns the date (UTC) of a time in microseconds."""
    return str(np.datetime64(int(time_us), "us").astype("datetime64[D]"))


@dataclass(frozen=True, slots=True)
class Asked:
    """Every request row with the features it was answered from, in order of event time.

    Attributes:
        rows: The columns of `World.requests`, those of the views, `label` (NaN: never known),
            `known_time_us` (of the label), `day` (UTC day number of the event time).
    """

    rows: pd.DataFrame

    def between(self, first_us: int, last_us: int) -> pd.DataFrame:
        """Returns the rows asked in [first_us, last_us)."""
        times = self.rows["event_time_us"].to_numpy()
        start, end = np.searchsorted(times, [first_us, last_us])
        return self.rows.iloc[start:end]

    def known(self, first_us: int, last_us: int, now_us: int) -> pd.DataFrame:
        """Returns the rows asked in [first_us, last_us) whose labels are known at `now_us`."""
        rows = self.between(first_us, last_us)
        return rows[rows["known_time_us"] <= now_us]


def ask(world: World, features: dict[str, pd.DataFrame], lag: timedelta) -> Asked:
    """Answers every request of a world from features as of its event time less the lag.

    Args:
        world: Whose requests and labels are taken.
        features: Rows by view: those of the world or, for a dataset, restated ones.
        lag: The loop's `knowledge_lag`.
    """
    rows = world.requests.merge(world.labels[["flight", "late", "known_time_us"]], "left", "flight")
    never = np.iinfo(np.int64).max
    rows["known_time_us"] = rows["known_time_us"].astype("Int64").fillna(never).astype(np.int64)
    rows["label"] = rows.pop("late").astype("float64")
    rows["day"] = rows["event_time_us"] // DAY_US
    rows["_as_of_us"] = rows["event_time_us"] - microseconds(lag)
    for view, entity in ENTITIES.items():
        stamped = features[view].rename(columns={"event_time_us": "_stamp_us"})
        rows = pd.merge_asof(rows, stamped, left_on="_as_of_us", right_on="_stamp_us", by=entity)
        rows = rows.drop(columns="_stamp_us")
    return Asked(rows.drop(columns="_as_of_us"))


def write_dataset(rows: pd.DataFrame, folder: Path) -> Path:
    """Writes rows as a dataset snapshot, as the trainer reads it, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["origin", "carrier", "dest", "distance", "scheduled_departure", "flight"]
    features = [name for view in COLUMNS.values() for name in view]
    table = rows[[*names, *features, "label", "event_time_us"]]
    table.to_parquet(folder / "rows.parquet", index=False)
    return folder


def losses(label: NDArray[np.float64], late: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the log loss of each row."""
    late = np.clip(late.astype(np.float64), 1e-6, 1 - 1e-6)
    return -(label * np.log(late) + (1 - label) * np.log1p(-late))


def entropies(late: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the loss that a model expects of each of its own answers."""
    return losses(late.astype(np.float64), late)
