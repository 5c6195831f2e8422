"""The tables as the offline process reads them, and how SQL speaks of them."""

from pathlib import Path

from deltalake import DeltaTable

from ciclo_feature_store.domain.history import history_column
from ciclo_feature_store.domain.tasks import Join


def open_table(join: Join, kind: str) -> DeltaTable | None:
    """Returns a table of the model, None if it was never written."""
    folder = Path(join.tables) / kind / join.model
    return DeltaTable(str(folder)) if DeltaTable.is_deltatable(str(folder)) else None


def sql_type(kind: str) -> str:
    """Returns DuckDB's name of what a column holds; times are microseconds there."""
    types = {"string": "VARCHAR", "float32": "FLOAT"}
    return types.get(kind, "BIGINT")


def quoted(name: str) -> str:
    """Returns a name as SQL takes it.

    Example:
        >>> quoted('a"b')
        '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def typed_column(name: str, kind: str, present: set[str]) -> str:
    """Returns SQL for an input or feature as a dataset has it, under its own name.

    Times are in microseconds; what is missing is NaN, the empty text, or null.

    Args:
        name: Of the input.
        kind: See `Kind`.
        present: Columns of the table; where it lacks this one, everything is missing.
    """
    column = history_column(name)
    value = quoted(column) if column in present else "NULL"
    if kind == "timestamp" and column in present:
        value = f"epoch_us({value})"
    value = f"CAST({value} AS {sql_type(kind)})"
    missing = {"string": "''", "float32": "'NaN'::FLOAT"}.get(kind)
    return f"coalesce({value}, {missing})" if missing else value
