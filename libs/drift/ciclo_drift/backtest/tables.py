"""Brings tables of any make to one form: numbers, texts and times, as NumPy arrays.

Numbers are float64 with NaN for missing, texts objects with None for missing, times datetime64
of their own clock with NaT for missing. pandas and pyarrow are imported only if they are used.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    Columns = dict[str, NDArray[np.generic]]

MICROSECONDS = "datetime64[us]"
"""How times are held."""

NO_TIME = np.iinfo(np.int64).min
"""NaT as a whole number."""

TIMES = "times, epoch seconds or texts such as 2026-01-31T12:00"
"""What is taken for times."""

OFFSET = re.compile(r"([T ]\d\d[\d:.]*) ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?)$", re.IGNORECASE)
"""An offset from UTC after a time of day."""

TABLES = "a dict of arrays, a pandas DataFrame or a pyarrow Table"
"""What is taken for a table."""


def read_table(path: str, what: str) -> Columns:
    """Reads a `.parquet` or `.csv` file.

    Raises:
        DriftInputError: No such file, of another type, or not readable.
    """
    file = Path(path)
    if not file.is_file():
        raise DriftInputError(what, f"no file {path}", "the path of a .parquet or .csv file")
    try:
        import pyarrow as pa
        from pyarrow import csv, parquet
    except ImportError:
        need = "pyarrow: pip install 'ciclo-drift[backtest]'"
        raise DriftInputError(what, "pyarrow, which reads files, is not installed", need) from None
    # Not `parquet.read_table`, which imports pandas, for seconds.
    readers: dict[str, Any] = {
        ".parquet": lambda name: parquet.ParquetFile(name).read(),
        ".csv": csv.read_csv,
    }
    if file.suffix.lower() not in readers:
        raise DriftInputError(what, f"{path} of type {file.suffix!r}", "a .parquet or .csv file")
    try:
        table = readers[file.suffix.lower()](file)
        # Texts with an offset have become UTC, and their own clock is lost.
        csv_file = file.suffix.lower() == ".csv"
        zoned = [f.name for f in table.schema if csv_file and getattr(f.type, "tz", None)]
        texts = _csv_texts(file, zoned, what) if zoned else {}
    except (pa.ArrowException, OSError) as error:
        line = str(error).partition("\n")[0]
        raise DriftInputError(what, f"{path} cannot be read ({line})", "a whole file") from error
    clocks = {name: times_of_texts(column, name) for name, column in texts.items()}
    return as_columns(table, what) | clocks


def as_columns(table: object, what: str) -> Columns:
    """Columns of a table in the form of this module, in their order.

    Args:
        table: A dict of arrays, a pandas DataFrame or a pyarrow Table.
        what: `reference` or `stream`, for errors.

    Raises:
        DriftInputError: No table, no rows, lengths differ, two columns of one name, or a column
            of something else.
    """
    pandas, arrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    form: Callable[[Any, str], NDArray[np.generic]]
    if arrow is not None and isinstance(table, arrow.Table):
        form, given = _of_arrow, list(zip(table.column_names, table.columns, strict=True))
    elif pandas is not None and isinstance(table, pandas.DataFrame):
        form, given = _of_pandas, [(n, table.iloc[:, i]) for i, n in enumerate(table.columns)]
    elif isinstance(table, Mapping):
        form, given = _of_array, list(table.items())
    else:
        raise DriftInputError(what, f"a {type(table).__name__}", TABLES)
    names = Counter(str(name) for name, _ in given)
    twice = ", ".join(repr(name) for name, count in names.items() if count > 1)
    if twice:
        found = f"more than one column of the name {twice}"
        raise DriftInputError(what, found, "another name for each")
    columns = {str(name): form(column, str(name)) for name, column in given}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DriftInputError(what, f"columns of lengths {lengths}", "columns of equal length")
    if not columns or not min(lengths.values()):
        raise DriftInputError(what, "no rows or no columns", "at least one of each")
    return columns


def times_of_texts(values: NDArray[np.generic], name: str) -> NDArray[np.datetime64]:
    """ISO texts as times of their own clock, whatever its offset; NaT for missing. Shape (n,).

    Raises:
        DriftInputError: A text is no time.
    """
    try:
        return np.array([OFFSET.sub(r"\1", v) if v else "NaT" for v in values], dtype=MICROSECONDS)
    except ValueError as error:
        raise DriftInputError(name, f"texts that are no times ({error})", TIMES) from error


def plain_array(values: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """An array in the form of this module. Shape (n,).

    Raises:
        DriftInputError: Not one-dimensional, or values of another type.
    """
    if values.ndim != 1:
        raise DriftInputError(name, f"shape {values.shape}", "one dimension")
    kind = values.dtype.kind
    if kind in "iuf":
        return values.astype(np.float64)
    if kind == "M":
        return values.astype(MICROSECONDS)
    if kind == "m":
        seconds = values.astype("timedelta64[us]")
        return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 1e6)
    if kind in "bUSO":
        return _of_objects(values.astype(object), name)
    raise DriftInputError(name, f"values of type {values.dtype}", "numbers, text or times")


def as_category(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Numbers or times as texts, the same for whole numbers of any type; texts as they are."""
    if values.dtype == object:
        return values
    unique, inverse = np.unique(values, return_inverse=True)
    texts = [_text(value) for value in unique.tolist()]
    return _texts(texts)[inverse]


def is_missing(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which values are missing. Shape (n,)."""
    if values.dtype == object:
        return np.array([value is None or value == "" for value in values], dtype=np.bool_)
    return np.isnat(values) if values.dtype.kind == "M" else np.isnan(values.astype(np.float64))


def _text(value: object) -> str | None:
    """A category as text: 1.0 and 1 are one category; None for missing."""
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _of_objects(values: NDArray[np.object_], name: str) -> NDArray[np.generic]:
    """Python values: numbers or times if all of them are, else texts."""
    types = {type(value) for value in values}
    if any(issubclass(t, list | tuple | dict | set | np.ndarray) for t in types):
        found = f"values of type {', '.join(sorted(t.__name__ for t in types))}"
        raise DriftInputError(name, found, "numbers, text or times; leave the column out")
    present = np.array([_is_known(value) for value in values], dtype=np.bool_)
    types = {type(value) for value in values[present]}
    if all(issubclass(t, int | float | Decimal | np.number) and t is not bool for t in types):
        numbers = np.full(len(values), np.nan)
        try:
            numbers[present] = [float(value) for value in values[present]]
        except OverflowError as error:
            expected = "numbers below 1.8e308, or texts"
            raise DriftInputError(name, "a whole number beyond float64", expected) from error
        return numbers
    if all(issubclass(t, timedelta) for t in types):
        return plain_array(values.astype("timedelta64[us]"), name)
    if all(issubclass(t, date | np.datetime64) for t in types):
        times = np.full(len(values), "NaT", dtype=MICROSECONDS)
        times[present] = [_naive(value) for value in values[present]]
        return times
    return _texts([_text(v) if known else None for v, known in zip(values, present, strict=True)])


def _is_known(value: object) -> bool:
    """Not None, NaN, NaT, nor what pandas has for missing, which equals nothing, nor differs."""
    missing = getattr(sys.modules.get("pandas"), "NA", None)
    return value is not None and value is not missing and bool(value == value)


def _csv_texts(file: Path, names: list[str], what: str) -> Columns:
    """Columns of a .csv file as they are written."""
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
    )
    return as_columns(csv.read_csv(file, convert_options=options), what)


def _of_array(column: object, name: str) -> NDArray[np.generic]:
    return plain_array(np.asarray(column), name)


def _naive(value: object) -> np.datetime64:
    """A time by its own clock."""
    naive = value.replace(tzinfo=None) if isinstance(value, datetime) else value
    return np.datetime64(naive, "us")  # type: ignore[call-overload,no-any-return]


def _of_pandas(column: pd.Series, name: str) -> NDArray[np.generic]:
    import pandas as pd

    if isinstance(column.dtype, pd.ArrowDtype):
        return _of_arrow(column.array.__arrow_array__(), name)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return as_category(plain_array(_objects(column), name))
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)
    if isinstance(column.dtype, np.dtype):
        return plain_array(column.to_numpy(), name)
    return plain_array(_objects(column), name)


def _objects(column: pd.Series) -> NDArray[np.object_]:
    """Python values, None for missing."""
    values = column.astype(object).to_numpy().copy()
    values[column.isna().to_numpy()] = None
    return values


def _of_arrow(column: Any, name: str) -> NDArray[np.generic]:
    """Without `to_numpy`, which imports pandas, for seconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = column.type, pa.types
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_dictionary(kind):
        return as_category(_of_arrow(column.cast(kind.value_type), name))
    if types.is_date(kind) or types.is_timestamp(kind):
        local = pc.local_timestamp(column) if getattr(kind, "tz", None) else column
        whole = local.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return _filled(whole, int(NO_TIME)).view(MICROSECONDS)
    if types.is_duration(kind):
        whole = column.cast(pa.duration("us"), safe=False).cast(pa.int64())
        return plain_array(_filled(whole, int(NO_TIME)).view("timedelta64[us]"), name)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _filled(column.cast(pa.float64(), safe=False), np.nan)
    if types.is_nested(kind):
        expected = "numbers, text or times; leave the column out"
        raise DriftInputError(name, f"values of type {kind}", expected)
    coded: Any = column.dictionary_encode().combine_chunks()
    texts = [_text(value) for value in coded.dictionary.to_pylist()]
    places = _filled(coded.indices.cast(pa.int64()), len(texts))
    return np.asarray(_texts([*texts, None])[places])


def _filled(column: Any, value: float) -> NDArray[Any]:
    """Numbers of an Arrow column with `value` for missing. Shape (n,)."""
    known = _dense(column.is_valid().cast("uint8")).astype(np.bool_)
    present = _dense(column.drop_null())
    filled = np.full(len(known), value, dtype=present.dtype if len(present) else None)
    filled[known] = present
    return filled


def _dense(column: Any) -> NDArray[Any]:
    """Numbers of an Arrow column or array that misses none. Shape (n,)."""
    chunks = getattr(column, "chunks", [column])
    arrays = [np.asarray(np.from_dlpack(chunk)) for chunk in chunks if len(chunk)]
    return np.concatenate(arrays) if arrays else np.empty(0)


def _texts(texts: list[str | None]) -> NDArray[Any]:
    """Texts as an array of objects. Shape (n,)."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
