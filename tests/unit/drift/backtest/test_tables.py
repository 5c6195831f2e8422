"""Tables of any make come to one form."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ciclo_drift import DriftInputError
from ciclo_drift.backtest.roles import times_of
from ciclo_drift.backtest.tables import as_category, as_columns, read_table

if TYPE_CHECKING:
    from pathlib import Path

ARROW = {
    "whole": pa.array([1, None, 3]),
    "real": pa.array([1.5, None, float("nan")]),
    "exact": pa.array([Decimal("1.25"), None, Decimal("2.00")]),
    "text": pa.array(["a", None, "ü"]),
    "coded": pa.array(["x", None, "y"]).dictionary_encode(),
    "numbers coded": pa.array([7, None, 8]).dictionary_encode(),
    "flag": pa.array([True, None, False]),
    "day": pa.array([dt.date(2026, 1, 1), None, dt.date(2026, 1, 2)]),
    "local": pa.array(
        [dt.datetime(2026, 7, 1, 5), None, dt.datetime(2026, 7, 2)],  # noqa: DTZ001
        pa.timestamp("ns", tz="Europe/Berlin"),
    ),
    "lasted": pa.array([dt.timedelta(seconds=5), None, dt.timedelta(days=1)]),
    "nothing": pa.array([None] * 3),
    "no number": pa.array([None] * 3, pa.int32()),
    "no time": pa.array([None] * 3, pa.timestamp("s")),
    "no text": pa.array([None] * 3, pa.string()),
}
NUMBERS = {
    "whole": [1.0, None, 3.0],
    "real": [1.5, None, None],
    "exact": [1.25, None, 2.0],
    "lasted": [5.0, None, 86_400.0],
    "nothing": [None] * 3,
    "no number": [None] * 3,
}
TEXTS = {
    "text": ["a", None, "ü"],
    "coded": ["x", None, "y"],
    "numbers coded": ["7", None, "8"],
    "flag": ["True", None, "False"],
}
TIMES = {
    "day": ["2026-01-01", None, "2026-01-02"],
    "local": ["2026-07-01T07:00", None, "2026-07-02T02:00"],
    "no time": [None] * 3,
}
MAKES = {
    "arrow": lambda table: table,
    "chunks": lambda table: pa.concat_tables(
        [table.slice(0, 1), table.slice(1, 0), table.slice(1)]
    ),
    "pandas": lambda table: table.to_pandas(),
    "nullable pandas": lambda table: table.to_pandas().convert_dtypes(),
    "arrow in pandas": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
}


@pytest.mark.parametrize("make", MAKES)
def test_every_make_of_a_table_has_the_same_form(make: str):
    columns = as_columns(MAKES[make](pa.table(ARROW)), "stream")

    for name, wanted in NUMBERS.items():
        np.testing.assert_array_equal(columns[name], np.array(wanted, dtype=float), err_msg=name)
    for name, texts in TEXTS.items():
        assert columns[name].tolist() == texts, name
    for name, times in TIMES.items():
        wanted = np.array([t or "NaT" for t in times], dtype="datetime64[us]")
        np.testing.assert_array_equal(columns[name], wanted, err_msg=name)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([True, None, False], ["True", None, "False"]),
        (["a", 1, 1.0], ["a", "1", "1"]),
        ([b"a", None, "b"], ["a", None, "b"]),
        ([Decimal(2), 1, None], [2.0, 1.0, None]),
        ([1, pd.NA, 2], [1.0, None, 2.0]),
        (["a", pd.NA, None], ["a", None, None]),
    ],
)
def test_python_values_have_the_form_of_all_of_them(values: list, form: list):
    column = as_columns({"x": np.array(values, dtype=object)}, "stream")["x"]

    assert [None if v != v else v for v in column.tolist()] == form


def test_whole_numbers_of_any_type_are_the_same_categories():
    for numbers in (np.array([1, 2]), np.array([1.0, 2.0]), np.array([1, 2], dtype=object)):
        column = as_columns({"x": numbers}, "stream")["x"]
        assert as_category(column).tolist() == ["1", "2"]


@pytest.mark.parametrize(
    "times",
    [
        np.array(["2026-01-01T00:00:01", "NaT"], "datetime64[s]"),
        np.array([1_767_225_601.0, np.nan]),
        np.array(["2026-01-01 00:00:01", ""]),
    ],
)
def test_times_are_read_from_datetimes_epochs_and_texts(times: np.ndarray):
    column = as_columns({"t": times}, "stream")["t"]

    wanted = np.array(["2026-01-01T00:00:01", "NaT"], "datetime64[us]")
    np.testing.assert_array_equal(times_of(column, "t"), wanted)


def test_milliseconds_are_not_taken_for_seconds():
    with pytest.raises(
        DriftInputError, match="beyond the year 5000; expected times, epoch seconds"
    ):
        times_of(np.array([1_767_225_601_000.0]), "t")


@pytest.mark.parametrize(
    "column", [pa.array([[1], [2]]), pd.Series([[1], [2]]), np.array([{"a": 1}, {"a": 2}])]
)
def test_lists_and_records_are_refused(column):
    tables = {pa.ListArray: pa.table, pd.Series: pd.DataFrame}
    table = tables.get(type(column), dict)({"deep": column})

    with pytest.raises(DriftInputError, match=r"deep: values of type .*; leave the column out"):
        as_columns(table, "stream")


@pytest.mark.parametrize(
    "table",
    [
        {"5": [1, 2], 5: [3, 4]},
        pd.DataFrame([[1, 2], [3, 4]], columns=["5", "5"]),
        pd.DataFrame([[1, 2], [3, 4]], columns=["5", 5]),
        pa.table([[1, 2], [3, 4]], names=["5", "5"]),
    ],
)
def test_two_columns_of_one_name_are_refused(table):
    with pytest.raises(DriftInputError, match="stream: more than one column of the name '5'"):
        as_columns(table, "stream")


def test_a_number_beyond_float64_is_refused():
    with pytest.raises(DriftInputError, match="x: a whole number beyond float64; expected numbers"):
        as_columns({"x": np.array([10**400, 1], dtype=object)}, "stream")


ZONED = ["2026-07-01 07:00:00+02:00", "2026-07-01T07:15-05:00", "2026-07-01T07:30:00.5Z", ""]
OWN = np.array(
    ["2026-07-01T07:00", "2026-07-01T07:15", "2026-07-01T07:30:00.5", "NaT"], "datetime64[us]"
)


@pytest.mark.filterwarnings("error")
def test_texts_with_an_offset_keep_their_own_clock_as_datetimes_do():
    column = as_columns({"t": np.array(ZONED)}, "stream")["t"]
    moments = [dt.datetime.fromisoformat(text) if text else None for text in ZONED]
    datetimes = as_columns({"t": np.array(moments, dtype=object)}, "stream")["t"]

    np.testing.assert_array_equal(times_of(column, "t"), OWN)
    np.testing.assert_array_equal(times_of(datetimes, "t"), OWN)


def test_a_day_alone_has_no_offset():
    column = as_columns({"t": np.array(["2026-01-31"])}, "stream")["t"]

    assert times_of(column, "t") == np.datetime64("2026-01-31", "us")


def test_csv_and_parquet_with_zones_have_the_same_clock(tmp_path: Path):
    times = pd.date_range("2026-07-01", periods=3, freq="h", tz="Europe/Berlin")
    times = times.insert(1, pd.NaT)
    table = pd.DataFrame({"t": times, "x": ["a", "NA", "b", "c"]})
    table.to_csv(tmp_path / "t.csv", index=False, na_rep="NaN")
    table.to_parquet(tmp_path / "t.parquet")

    texts, native = (read_table(str(tmp_path / f"t.{kind}"), "x") for kind in ("csv", "parquet"))

    np.testing.assert_array_equal(native["t"], times.tz_localize(None).to_numpy("datetime64[us]"))
    np.testing.assert_array_equal(texts["t"], native["t"])
    assert texts["x"].tolist() == native["x"].tolist() == ["a", "NA", "b", "c"]
