"""Seasons: which hour, weekday or month a row belongs to, and whether that is worth knowing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.cells import as_texts, category_codes, frequent_labels
from ciclo_drift.errors import DriftInputError
from ciclo_drift.rows import MOST_PHASES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

DAY_SECONDS = 86_400
"""Seconds of a day of the clock that is given; no leap seconds."""

PARTS = {"minute": 60, "hour": 24, "weekday": 7, "month": 12}
"""Parts of a season and how many phases each has: weekdays from Monday, months from January."""

CANDIDATES = ("hour", "weekday", "hour,weekday")
"""Seasons that `best_season` weighs against none."""

LEAST_CYCLES = {"hour": 4, "weekday": 21, "hour,weekday": 28}
"""Days below which a season is not looked for: half of them must show it to the other half."""

LEAST_GAIN = 0.005
"""Nats a row that a season must tell of a column, as a shift of a tenth of a deviation would: for
less it is not worth to split the reference."""

SURE = 3.0
"""Standard errors, over days, by which that gain must exceed 0. Gains of what is no season lie
below 0, by what it costs to estimate it: of 1,080 series without one, none passed."""

PRIORS_ROWS = (10.0, 100.0)
"""Rows of the overall shares that each phase is mixed with, whichever foretells better: few for
strong seasons of many phases, many for weak ones."""

QUANTILES = 6
"""Cells of a number, when its season is looked for: more are dearer to estimate."""

LEAST_DATED = 100
"""Rows below which no season is looked for."""


@dataclass(frozen=True, slots=True)
class Season:
    """Parts of the clock by which rows are compared with their like.

    Args:
        parts: Some of `PARTS`, each once; none: no season.

    Raises:
        DriftInputError: An unknown part, one given twice, or more than 1,024 phases.

    Example:
        >>> season = Season.parse("hour,weekday")
        >>> season.phases(np.array(["2026-01-05T00:30", "2026-01-06T23:59"], "datetime64[s]"))
        array([  0, 162], dtype=int16)
        >>> season.phases_count, str(season)
        (168, 'hour,weekday')
    """

    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or len(set(self.parts)) < len(self.parts):
            found = f"{unknown[0]!r}" if unknown else f"{str(self)!r}"
            raise DriftInputError("season", found, f"some of {', '.join(PARTS)}, each once")
        if self.phases_count > MOST_PHASES:
            found = f"{self.phases_count} phases of {str(self)!r}"
            raise DriftInputError("season", found, f"at most {MOST_PHASES}: fewer parts")

    @classmethod
    def parse(cls, text: str) -> Season:
        """Reads parts with commas between them: `hour,weekday`; `none` is no season.

        Raises:
            DriftInputError: As for the constructor.
        """
        words = [word.strip() for word in text.lower().split(",")]
        return cls() if words == ["none"] else cls(tuple(words))

    def __str__(self) -> str:
        return ",".join(self.parts) or "none"

    @property
    def phases_count(self) -> int:
        """Phases that there are; 1 without a season."""
        return int(np.prod([PARTS[part] for part in self.parts], dtype=np.int64))

    def phases(self, times: object) -> NDArray[np.int16]:
        """Phase of each time, by itself: clocks that jump back and gaps change nothing.

        Args:
            times: `datetime64` of the clock whose hours matter, or epoch seconds. Shape (n,).

        Returns:
            Shape (n,), from 0; the last part moves fastest.

        Raises:
            DriftInputError: Not times, or one is missing.
        """
        seconds = epoch_seconds(times)
        phases = np.zeros(len(seconds), dtype=np.int64)
        for part in self.parts:
            phases = phases * PARTS[part] + _part_of(part, seconds)
        return phases.astype(np.int16)


def epoch_seconds(times: object) -> NDArray[np.int64]:
    """Times as whole seconds since 1970 of their own clock. Shape (n,).

    Raises:
        DriftInputError: Not times, not one-dimensional, or one is missing.
    """
    given = np.asarray(times)
    if given.ndim != 1 or given.dtype.kind not in "Miuf":
        found = f"values of type {given.dtype}, shape {given.shape}"
        raise DriftInputError("times", found, "datetime64 or epoch seconds, one dimension")
    bad = np.flatnonzero(np.isnat(given) if given.dtype.kind == "M" else ~np.isfinite(given))
    if len(bad):
        raise DriftInputError("times", f"none at row {bad[0]}", "a time for every row")
    if given.dtype.kind == "M":
        return np.asarray(given.astype("datetime64[s]").astype(np.int64))
    return np.asarray(np.floor(given), dtype=np.int64)


def best_season(times: object, columns: Mapping[str, NDArray[np.generic]]) -> Season:
    """Finds out whether hour, weekday or both tell something of any column.

    Every other day foretells, from its phases, the cells of the days between. Gains of days are
    compared, not of rows, since rows of a day resemble each other. A column counts for a season
    where the gain is beyond chance (`SURE`) and worth it (`LEAST_GAIN`); the season whose gains
    sum to most wins, and without any there is none. 0.1 us a row, column and season.

    Args:
        times: As for `Season.phases`. Shape (m,).
        columns: Numbers, or text and objects for categories. Shape (m,) each.

    Raises:
        DriftInputError: Times are missing, or lengths differ.

    Example:
        >>> hours = np.arange(0, 40 * 24, 0.25)
        >>> noise = np.random.default_rng(0).normal(size=len(hours))
        >>> str(best_season(hours * 3600, {"load": np.sin(hours * np.pi / 12) + noise}))
        'hour'
        >>> str(best_season(hours * 3600, {"load": noise}))
        'none'

    Reference:
        S. Geisser, "The predictive sample reuse method with applications", Journal of the
        American Statistical Association 70 (1975).
    """
    seconds = epoch_seconds(times)
    for name, column in columns.items():
        if np.shape(column) != seconds.shape:
            raise DriftInputError(name, f"shape {np.shape(column)}", f"shape {seconds.shape}")
    days, day_of = np.unique(seconds // DAY_SECONDS, return_inverse=True)
    span = int(days[-1] - days[0]) + 1 if len(days) else 0
    seasons = [Season.parse(text) for text in CANDIDATES if span >= LEAST_CYCLES[text]]
    if len(seconds) < LEAST_DATED or not seasons:
        return Season()
    halves = (days % 2)[day_of].astype(bool)
    phases = [season.phases(seconds) for season in seasons]
    worth = np.zeros(len(seasons))
    for column in columns.values():
        cells = _coarse_cells(np.asarray(column))
        for place, phase in enumerate(phases):
            gains = (_held_out_gain(cells, phase, halves, rows) for rows in PRIORS_ROWS)
            worth[place] += max(_worth(gain, day_of) for gain in gains)
    return seasons[int(np.argmax(worth))] if worth.max() > 0.0 else Season()


def _part_of(part: str, seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    if part == "minute":
        return np.asarray(seconds // 60 % 60)
    if part == "hour":
        return np.asarray(seconds // 3_600 % 24)
    if part == "weekday":
        return np.asarray((seconds // DAY_SECONDS + 3) % 7)  # 1 January 1970 was a Thursday.
    return np.asarray(seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12)


def _coarse_cells(column: NDArray[np.generic]) -> NDArray[np.int64]:
    """A few cells: 0 for missing, then quantiles or categories. Shape (m,)."""
    if column.dtype.kind in "OUSb":
        texts = as_texts(column, "column")
        return category_codes(texts, *frequent_labels(texts)).astype(np.int64)
    numbers = column.astype(np.float64)
    known = numbers[~np.isnan(numbers)]
    if len(known) == 0:
        return np.zeros(len(numbers), dtype=np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, QUANTILES + 1)[1:-1]))
    cells = np.searchsorted(edges, numbers, side="right") + 1
    return np.where(np.isnan(numbers), 0, cells).astype(np.int64)


def _held_out_gain(
    cells: NDArray[np.int64], phases: NDArray[np.int16], halves: NDArray[np.bool_], prior: float
) -> NDArray[np.float64]:
    """Nats that the other half's phases tell of each row, beyond its overall shares. Shape (m,)."""
    width, season = int(cells.max()) + 1, int(phases.max()) + 1
    places = phases.astype(np.int64) * width + cells
    gains = np.zeros(len(cells))
    for held in (halves, ~halves):
        counts = np.bincount(places[~held], minlength=season * width).reshape(season, width)
        whole = (counts.sum(axis=0) + 0.5) / (counts.sum() + 0.5 * width)
        shares = (counts + prior * whole) / (counts.sum(axis=1, keepdims=True) + prior)
        gains[held] = np.log(shares / whole)[phases[held], cells[held]]
    return gains


def _worth(gains: NDArray[np.float64], day_of: NDArray[np.int64]) -> float:
    """The mean gain, where it is beyond chance and large enough; else 0."""
    by_day = np.bincount(day_of, weights=gains)
    mean, noise = float(by_day.mean()), float(by_day.std(ddof=1)) / len(by_day) ** 0.5
    gain = float(gains.mean())
    return gain if mean > SURE * noise and gain >= LEAST_GAIN else 0.0
