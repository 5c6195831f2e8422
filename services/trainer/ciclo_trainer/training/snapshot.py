"""Reads a dataset snapshot and parts it by event time: trained on, validated on, held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ciclo_trainer.training.errors import DatasetUnfit
from ciclo_trainer.training.request import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ciclo_bundle import Field

    Column = pa.ChunkedArray[Any]

VALIDATION_EVERY: Final = 20
"""One day in so many of the training part is for `Fit.evaluate`: the recipe's own yardstick, spread
over the whole time so that the newest days, which matter most, are still trained on."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled examples in time order.

    Attributes:
        columns: Inputs by name [n]: str objects, float32 or int64.
        label: float32 [n], 0 or 1.
        event_time_us: int64 [n], microseconds since the epoch in UTC, never falling.
        block: int64 [n]: index into `block_names` of the time block that a row belongs to.
        block_names: All blocks of the dataset in order of appearance.
        slices: str objects [n] by the name of the slice column.
    """

    columns: dict[str, NDArray[Any]]
    label: NDArray[np.float32]
    event_time_us: NDArray[np.int64]
    block: NDArray[np.int64]
    block_names: tuple[str, ...]
    slices: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.label)

    def where(self, mask: NDArray[np.bool_]) -> Rows:
        """Return the rows at which `mask` [n] is true."""
        return Rows(
            {name: column[mask] for name, column in self.columns.items()},
            self.label[mask],
            self.event_time_us[mask],
            self.block[mask],
            self.block_names,
            {name: column[mask] for name, column in self.slices.items()},
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A dataset in three parts without a common day (a common row, if there is but one day).

    Attributes:
        train: What weights, medians and vocabularies come from.
        validation: For `Fit.evaluate`.
        holdout: The last days: what the model is judged on.
    """

    train: Rows
    validation: Rows
    holdout: Rows


def read_rows(folder: Path, inputs: Sequence[Field], slices: Sequence[str], block_us: int) -> Rows:
    """Read `rows.parquet` of a snapshot; other columns are not read.

    Args:
        folder: The snapshot.
        inputs: What the model takes.
        slices: Columns by whose values quality is reported.
        block_us: Length of a block where the dataset has no column `block`. Microseconds.

    Raises:
        DatasetUnfit: Missing, unreadable, a column of another type, a null that has no meaning, not
            in time order, or a label that is neither 0 nor 1.
    """
    table = _read_table(folder / "rows.parquet", [*(f.name for f in inputs), *slices])
    event_time_us = _integers("event_time_us", table["event_time_us"])
    if (np.diff(event_time_us) < 0).any():
        raise DatasetUnfit("event_time_us", "falls; expected rows in time order")
    label = _numbers("label", table["label"])
    if not np.isin(label, (0.0, 1.0)).all():
        raise DatasetUnfit("label", "expected 0 or 1 in every row; leave unlabelled rows out")
    block, block_names = _blocks(table, event_time_us // block_us)
    return Rows(
        {field.name: _column(field, table[field.name]) for field in inputs},
        label,
        event_time_us,
        block,
        block_names,
        {name: _strings(name, table[name]) for name in slices},
    )


def split_rows(rows: Rows, holdout_days: int) -> Split:
    """Part rows by event day in UTC.

    Args:
        rows: The dataset, not empty.
        holdout_days: The last days to hold out, >= 1. Days without rows count.

    Raises:
        DatasetUnfit: Nothing is left to train on, or either label is missing from a part.
    """
    day = rows.event_time_us // DAY_US
    held_out = day > day[-1] - holdout_days
    if held_out.all():
        days = int(day[-1] - day[0]) + 1
        raise DatasetUnfit("rows", f"span {days} days, of which {holdout_days} are held out")
    training_days = np.unique(day[~held_out])
    if len(training_days) > 1:
        first = len(training_days) // 2 % VALIDATION_EVERY  # there is one, however few the days
        chosen = training_days[first::VALIDATION_EVERY]
        validation = ~held_out & np.isin(day, chosen)
    else:
        validation = ~held_out & (np.arange(len(rows)) % VALIDATION_EVERY == 0)
    split = Split(rows.where(~held_out & ~validation), rows.where(validation), rows.where(held_out))
    for name, part in (("training", split.train), ("held-out", split.holdout)):
        if len(np.unique(part.label)) < 2:
            raise DatasetUnfit("label", f"{name} part of {len(part)} rows lacks a 0 or a 1")
    return split


def _read_table(path: Path, names: Sequence[str]) -> pa.Table:
    # Not `read_table`: it imports pyarrow.dataset, and with it pandas, which takes seconds.
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as cause:
        raise DatasetUnfit("rows.parquet", f"cannot be read: {cause}") from cause
    present = set(file.schema_arrow.names)
    wanted = dict.fromkeys([*names, "label", "event_time_us"])
    for name in wanted:
        if name not in present:
            raise DatasetUnfit(name, f"is missing; the dataset has {sorted(present)}")
    table = file.read([*wanted, *({"block"} & present - wanted.keys())])
    if table.num_rows == 0:
        raise DatasetUnfit("rows", "there are none")
    return table


def _blocks(
    table: pa.Table, by_time: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if "block" not in table.column_names:
        names, index = np.unique(by_time, return_inverse=True)
        return index.astype(np.int64), tuple(str(name) for name in names)
    codes = pc.cast(table["block"], pa.string()).combine_chunks().dictionary_encode()
    if codes.null_count:
        raise DatasetUnfit("block", "has nulls; expected a block for every row")
    given = tuple(str(name) for name in codes.dictionary.to_pylist())
    return np.from_dlpack(codes.indices).astype(np.int64), given


def _column(field: Field, column: Column) -> NDArray[Any]:
    if field.datatype == "string":
        return _strings(field.name, column)
    if field.datatype == "float32":
        return _numbers(field.name, column)
    return _integers(field.name, column)


def _strings(name: str, column: Column) -> NDArray[np.object_]:
    texts = _cast(name, column, pa.string()).to_pylist()
    return np.array(["" if text is None else text for text in texts], dtype=object)


def _numbers(name: str, column: Column) -> NDArray[np.float32]:
    if pa.types.is_string(column.type):
        raise DatasetUnfit(name, "is string, expected a number")
    numbers = _cast(name, column, pa.float32())
    is_present = _array(numbers.is_valid().cast(pa.uint8())) > 0
    filled = np.full(len(is_present), np.nan, np.float32)
    filled[is_present] = _array(numbers.drop_null())
    return filled


def _integers(name: str, column: Column) -> NDArray[np.int64]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    elif not pa.types.is_integer(column.type):
        raise DatasetUnfit(name, f"is {column.type}, expected int64 or a timestamp")
    if column.null_count:
        raise DatasetUnfit(name, f"has {column.null_count} nulls; whole numbers cannot be missing")
    return _array(_cast(name, column, pa.int64())).astype(np.int64)


def _array(column: Column) -> NDArray[Any]:
    """Return a column without nulls.

    Not by `to_numpy`, here nor above by `fill_null`: these import pandas, for seconds.
    """
    return np.from_dlpack(column.combine_chunks())


def _cast(name: str, column: Column, to: pa.DataType) -> Column:
    try:
        return column.cast(to, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as cause:
        raise DatasetUnfit(name, f"is {column.type}, expected {to}") from cause
