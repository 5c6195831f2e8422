"""Which columns are watched, which are time, label or block, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.backtest.report import counted
from ciclo_drift.backtest.tables import MICROSECONDS, TIMES, as_category, is_missing, times_of_texts
from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.backtest.tables import Columns

NAMES_SHOWN = 8
"""Column names that a message lists."""

CLOCK_VALUES = 10
"""Values that a column must take, without ever falling, to be a counter or a clock: a version of
something takes fewer."""

EXACT = 2.0**53
"""Whole numbers beyond this are rounded in float64."""

SORTS = {"f": "numbers", "O": "text", "M": "times"}
"""What columns hold, by NumPy's letter."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of the columns that are not merely watched; None: there is none.

    Args:
        time: When a row came; not watched.
        label: What came true; not watched.
        score: Probability of the label 1.
        prediction: The value or class that was foretold.
        block: Rows of one block depend on each other; not watched.
        categorical: Numbers that are categories.
    """

    time: str | None = None
    label: str | None = None
    score: str | None = None
    prediction: str | None = None
    block: str | None = None
    categorical: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two tables, ready to be used.

    Args:
        streams: Columns that are watched. Shape (n,) each.
        times: Time of each row, none missing, in the order of the rows. Shape (n,); or None.
        blocks: Block of each row. Shape (n,); or None.
        label: Labels. Shape (n,); or None.
    """

    streams: Columns
    times: NDArray[np.datetime64] | None
    blocks: NDArray[np.generic] | None
    label: NDArray[np.generic] | None

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return len(next(iter(self.streams.values())))

    def time_of(self, row: int) -> str | None:
        """Time of a row to the second, ISO."""
        return None if self.times is None else str(self.times[row].astype("datetime64[s]"))


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Reference and stream with the same columns.

    Args:
        reference: Rows that were normal, in time order.
        stream: Rows that are looked at, in their order.
        notes: What was left out, counted or taken otherwise, for a reader.
    """

    reference: Side
    stream: Side
    notes: tuple[str, ...]


def give_roles(reference: Columns, stream: Columns, roles: Roles) -> Tables:
    """Chooses what is watched and brings both tables to the same columns.

    Rows keep their order: a clock that jumps back is counted, and so is a missing time, which
    becomes that of the row before.

    Raises:
        DriftInputError: A named column is absent, the stream lost a column, or holds another
            sort of values; nothing is left to watch.
    """
    _require_named(reference, stream, roles)
    notes: list[str] = []
    aside = {roles.time, roles.label, roles.block}
    streams: dict[str, Columns] = {"reference": {}, "stream": {}}
    gone = [name for name in reference if name not in stream and name not in aside]
    if gone:
        held = f"{_listed(list(stream))}"
        expected = f"the columns of the reference; the stream has {held}"
        raise DriftInputError("stream", f"no column {_listed(gone)}", expected)
    for name in reference:
        if name in aside:
            continue
        before, now = reference[name], stream[name]
        reason = _unfit(before)
        if reason:
            notes.append(f"{name} is left out: {reason}")
            continue
        if name in roles.categorical or _has_one_value(before):
            if name not in roles.categorical and before.dtype != object:
                known = before[~is_missing(before)]
                notes.append(
                    f"{name} has one value in the reference{_rounded(known[0])} and is watched as "
                    "a category"
                )
            before, now = as_category(before), as_category(now)
        streams["reference"][name], streams["stream"][name] = before, _same_sort(name, before, now)
    new = [name for name in stream if name not in reference and name not in aside]
    if new:
        notes.append(f"{_listed(new)}: new in the stream, not watched")
    if not streams["reference"]:
        raise DriftInputError("reference", "no column to watch", "one that is not left out")
    sides = [
        _side(streams[what], table, roles, what, notes)
        for what, table in (("reference", reference), ("stream", stream))
    ]
    return Tables(sides[0], sides[1], tuple(notes))


def times_of(values: NDArray[np.generic], name: str) -> NDArray[np.datetime64]:
    """A column as times: datetime64, epoch seconds or ISO texts; NaT for missing. Shape (n,).

    Raises:
        DriftInputError: No times.
    """
    if values.dtype.kind == "M":
        return values.astype(MICROSECONDS)
    if values.dtype.kind == "f":
        numbers = values.astype(np.float64)
        held = np.where(np.isnan(numbers), 0.0, numbers)
        if np.abs(held).max() > 1e11:
            raise DriftInputError(name, f"{held.max():g}, beyond the year 5000", TIMES)
        times = (held * 1e6).round().astype(np.int64).view(MICROSECONDS)
        return np.where(np.isnan(numbers), np.datetime64("NaT"), times)
    return times_of_texts(values, name)


def _require_named(reference: Columns, stream: Columns, roles: Roles) -> None:
    """Refuses a role whose column is absent; labels of the stream may be still to come."""
    named = {"time": roles.time, "label": roles.label, "score": roles.score}
    named |= {"prediction": roles.prediction, "block": roles.block}
    wanted = [(role, name) for role, name in named.items() if name is not None]
    wanted += [("categorical", name) for name in roles.categorical]
    for what, table in (("reference", reference), ("stream", stream)):
        for role, name in wanted:
            if name not in table and (what, role) != ("stream", "label"):
                held = f"one of its columns: {_listed(list(table))}"
                raise DriftInputError(role, f"no column {name!r} in the {what}", held)


def _side(streams: Columns, table: Columns, roles: Roles, what: str, notes: list[str]) -> Side:
    times = None
    if roles.time is not None:
        times = _filled_times(times_of(table[roles.time], roles.time), roles.time, what, notes)
    blocks = None
    if roles.block is not None:
        blocks = table[roles.block]
        missing = np.flatnonzero(is_missing(blocks))
        if len(missing):
            found = f"none at row {missing[0]} of the {what}"
            raise DriftInputError(roles.block, found, "the block of every row")
        blocks = blocks.astype(np.str_) if blocks.dtype == object else blocks
    label = table.get(roles.label) if roles.label is not None else None
    if roles.label is not None and label is None:
        notes.append(f"{roles.label} is absent from the stream: no losses, no kind of change")
    return Side(streams, times, blocks, label)


def _filled_times(
    times: NDArray[np.datetime64], name: str, what: str, notes: list[str]
) -> NDArray[np.datetime64]:
    """Times without gaps; notes what was filled and where the clock jumps back."""
    known = np.flatnonzero(~np.isnat(times))
    if len(known) == 0:
        raise DriftInputError(name, f"no time at all in the {what}", "the time of each row")
    if len(known) < len(times):
        gaps = counted(len(times) - len(known), "row")
        notes.append(f"{name} is missing in {gaps} of the {what}: taken from the row before")
        last = np.searchsorted(known, np.arange(len(times)), side="right") - 1
        times = times[known[np.maximum(last, 0)]]
    back = int((np.diff(times) < np.timedelta64(0)).sum())
    if back:
        often = counted(back, "time")
        notes.append(f"{name} jumps back {often} in the {what}: rows keep their order")
    return times


def _unfit(column: NDArray[np.generic]) -> str | None:
    """Why a reference column cannot be watched, if so."""
    missing = is_missing(column)
    if missing.all():
        return "the reference has no value of it"
    if column.dtype.kind == "M":
        return "it holds times, which always move on"
    if missing.any():
        return None
    values = column.tolist()
    if column.dtype == object and len(set(values)) == len(values):
        return "every row has another text, as names of rows have"
    # Texts of a clock sort as its times do.
    rises = all(first <= second for first, second in pairwise(values))
    many = rises and len(set(values)) >= CLOCK_VALUES
    return "it never falls from row to row, as counters and clocks do" if many else None


def _rounded(value: np.generic) -> str:
    """A word of caution where other whole numbers are the same float64."""
    large = abs(float(value)) >= EXACT
    return " once rounded to float64, as whole numbers from 2^53 on are," if large else ""


def _has_one_value(column: NDArray[np.generic]) -> bool:
    """Whether all values that are known are the same."""
    known = column[~is_missing(column)]
    return bool((known == known[0]).all())


def _same_sort(
    name: str, before: NDArray[np.generic], now: NDArray[np.generic]
) -> NDArray[np.generic]:
    """The stream's column, if it holds what the reference's does.

    Raises:
        DriftInputError: It holds another sort of values.
    """
    if before.dtype.kind == now.dtype.kind:
        return now
    if is_missing(now).all():
        empty = np.full(len(now), np.nan)
        return empty if before.dtype.kind == "f" else as_category(empty)
    sorts = [SORTS[column.dtype.kind] for column in (before, now)]
    raise DriftInputError(
        name,
        f"{sorts[1]} in the stream, {sorts[0]} in the reference",
        "the same in both; name it in `categorical` to compare numbers as categories",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")
