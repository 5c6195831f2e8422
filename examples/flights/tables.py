"""What lies in the Delta tables, read with DuckDB."""

from __future__ import annotations

from typing import Final, NamedTuple

import duckdb
from deltalake import DeltaTable

ROW_ID: Final = "flight"
"""`input.id` of the loop: its column in the table of observations."""


class LabelCounts(NamedTuple):
    """Labels at rest, by the rows that they are about.

    Args:
        rows: Rows that have a label.
        joined: Answered rows that have one.
        never: Answered rows that have none.
        of_history: Rows that have one and were asked before traffic began.
    """

    rows: int
    joined: int
    never: int
    of_history: int


def open_tables(urls: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """Returns DuckDB with the Delta tables as views by name."""
    tables = duckdb.connect()
    for name in ("predictions", "labels", "observations"):
        if name in urls:
            tables.register(name, DeltaTable(urls[name]).to_pyarrow_dataset())
        else:  # nothing was ever stored
            tables.execute(f"create table {name} (row_key varchar, {ROW_ID} varchar)")
    return tables


def ids_at_rest(tables: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Returns prediction ids, and ids that callers gave, of answers that callers got."""
    query = """select prediction_id, client_id from predictions where purpose = 'served'"""
    return frozenset(name for row in tables.sql(query).fetchall() for name in row if name)


def label_counts(tables: duckdb.DuckDBPyConnection) -> LabelCounts:
    """Returns what became of the labels that are at rest."""
    query = f"""
        with labelled as (select distinct row_key from labels),
        answered as (
            select distinct row_key from predictions where purpose = 'served' and status_code = 0
        ), elsewhere as (select * from labelled anti join answered using (row_key))
        select (select count(*) from labelled),
            (select count(*) from answered semi join labelled using (row_key)),
            (select count(*) from answered anti join labelled using (row_key)),
            (select count(*) from elsewhere where row_key in (select {ROW_ID} from observations))"""
    return LabelCounts(*map(int, tables.sql(query).fetchall()[0]))
