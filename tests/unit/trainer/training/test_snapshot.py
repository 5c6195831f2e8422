"""A snapshot is read strictly and parted by day."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciclo_trainer.training import DatasetUnfit
from ciclo_trainer.training.request import DAY_US
from ciclo_trainer.training.snapshot import Rows, read_rows, split_rows
from ciclo_trainer.training.spec import LEAST_ROWS, FittedSpec

from .conftest import INPUTS, make_table, write_snapshot

Change = Callable[[pa.Table], pa.Table]


def read(folder: Path, table: pa.Table, block_us: int = DAY_US) -> Rows:
    return read_rows(write_snapshot(folder / "snapshot", table), INPUTS, ("_version",), block_us)


def replaced(name: str, values: object) -> Change:
    def change(table: pa.Table) -> pa.Table:
        column = pa.array([values] * len(table)) if not callable(values) else values(table)
        return table.set_column(table.column_names.index(name), name, column)

    return change


def one_null(name: str) -> Change:
    return replaced(name, lambda t: pa.array([None, *t[name].to_pylist()[1:]], t[name].type))


def test_columns_come_as_the_inputs_say_with_nan_and_empty_for_missing(tmp_path: Path) -> None:
    rows = read(tmp_path, make_table(300))

    kinds = [rows.columns[field.name].dtype.kind for field in INPUTS]
    assert kinds == ["O", "O", "O", "i", "i", "f", "f"]
    assert rows.columns["departure"][0] - rows.event_time_us[0] == DAY_US // 24
    assert np.isnan(rows.columns["wind"]).sum() == 6
    assert "" in rows.columns["origin"]
    assert rows.block_names == tuple(str(d) for d in np.unique(rows.event_time_us // DAY_US))


def test_blocks_of_the_dataset_are_taken_where_it_has_them(tmp_path: Path) -> None:
    table = make_table(4).append_column("block", pa.array(["b", "b", "a", "b"]))

    rows = read(tmp_path, table)

    assert rows.block_names == ("b", "a")
    assert rows.block.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("temp", lambda t: t.drop_columns(["temp"])),
        ("label", lambda t: t.drop_columns(["label"])),
        ("_version", lambda t: t.drop_columns(["_version"])),
        ("temp", replaced("temp", "warm")),
        ("seats", replaced("seats", 1.5)),
        ("label", replaced("label", 2)),
        ("label", one_null("label")),
        ("seats", one_null("seats")),
        ("departure", one_null("departure")),
        ("event_time_us", one_null("event_time_us")),
        ("event_time_us", lambda t: t.take(list(range(len(t)))[::-1])),
        ("block", lambda t: t.append_column("block", pa.array([None] * len(t), pa.int64()))),
        ("rows", lambda t: t.slice(0, 0)),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_with_its_column(
    tmp_path: Path, column: str, change: Change
) -> None:
    with pytest.raises(DatasetUnfit) as error:
        read(tmp_path, change(make_table(100)))

    assert error.value.metadata == {"column": column}


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"csv,really")

    with pytest.raises(DatasetUnfit, match="cannot be read"):
        read_rows(tmp_path, INPUTS, (), DAY_US)


def rows_at(days: list[int]) -> Rows:
    time = np.array(sorted(days), dtype=np.int64) * DAY_US
    label = (np.arange(len(time)) % 2).astype(np.float32)
    return Rows({}, label, time, np.zeros(len(time), np.int64), ("all",), {})


@settings(deadline=None)
@given(
    days=st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True),
    holdout_days=st.integers(1, 30),
)
def test_no_day_is_in_two_parts_and_the_last_ones_are_held_out(
    days: list[int], holdout_days: int
) -> None:
    rows = rows_at([day for day in days for _ in range(25)])
    try:
        split = split_rows(rows, holdout_days)
    except DatasetUnfit:
        assert max(days) - min(days) < holdout_days
        return

    parts = [split.train, split.validation, split.holdout]
    of_part = [set(part.event_time_us // DAY_US) for part in parts]
    assert sum(len(part) for part in parts) == len(rows)
    assert all(len(part) > 0 for part in parts)
    assert of_part[2] == {day for day in days if day > max(days) - holdout_days}
    if len(of_part[0] | of_part[1]) > 1:
        assert not of_part[0] & of_part[1]


def test_a_part_of_one_label_is_refused() -> None:
    rows = rows_at([0, 0, 1, 2, 3])
    rows.label[-1:] = 1

    with pytest.raises(DatasetUnfit, match="held-out"):
        split_rows(rows, 1)


def test_rare_and_missing_categories_have_the_code_of_the_unseen(tmp_path: Path) -> None:
    columns = read(tmp_path, make_table()).columns
    spec = FittedSpec(INPUTS, columns)

    codes = spec.encode({**columns, "dest": np.array(["RARE", "", "never", "D3"], dtype=object)})

    assert (columns["dest"] == "RARE").sum() < LEAST_ROWS
    assert codes["dest"].tolist() == [0, 0, 0, spec.vocabulary("dest").index("D3") + 1]
    assert "flight" not in codes
    assert "" not in spec.vocabulary("origin")


def test_a_column_without_a_number_is_harmless() -> None:
    column = np.full(20, np.nan, np.float32)

    spec = FittedSpec(INPUTS[-1:], {"wind": column})

    x = spec.tabular()(spec.encode({"wind": column}))
    assert x.tolist() == [[0.0, 1.0]] * 20
