"""Delta tables with one writer: rows and the offsets that they came from, in one commit.

Everything here blocks and belongs to the writer's thread, see `writer.Writer`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset
import structlog
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from ciclo.errors import Reject
from ciclo_feature_store.domain.history import Columns, Kind

ARROW: Final[Mapping[Kind, pa.DataType]] = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("us", "UTC"),
}
"""How a column lies in a table."""

REMEMBERED: Final = 10_000
"""Names of batches that a table remembers. A sender repeats a batch at once or never."""

_log = structlog.get_logger(__name__)


class SchemaConflict(Reject):
    """A column would change its type; old rows could not be read with new ones."""

    reason = "SCHEMA_CONFLICT"


def arrow_table(columns: Columns) -> pa.Table:
    """Returns columns as Arrow; where a value is not known it is null."""
    return pa.table(
        {
            name: pa.array(
                column.values,
                ARROW[column.kind],
                mask=None if column.known is None else ~column.known,
            )
            for name, column in columns.items()
        }
    )


class HistoryTable:
    """One Delta table.

    Args:
        folder: Where it lies, or will lie once something is appended.
        name_columns: Columns that together name a batch, for `knows`.
        compact_after: Commits after which small files are rewritten as one.
    """

    def __init__(
        self, folder: Path, *, name_columns: tuple[str, ...] = (), compact_after: int = 128
    ) -> None:
        self.folder = folder
        self.rows = 0
        self._name_columns = name_columns
        self._compact_after = compact_after
        self._table: DeltaTable | None = None
        self._types: dict[str, pa.DataType] = {}
        self._next_offsets: dict[str, int] = {}
        self._names: dict[str, None] = {}
        self._commits = 0
        if DeltaTable.is_deltatable(str(folder)):
            self._open(DeltaTable(str(folder)))

    @property
    def url(self) -> str:
        """Address for stock tools."""
        return self.folder.absolute().as_uri()

    def dataset(self) -> pa.dataset.Dataset:
        """Returns the rows as they are now; only of a table that has some."""
        assert self._table, f"{self.folder} was never written"
        return self._table.to_pyarrow_dataset()

    def next_offset(self, stream: str) -> int:
        """Returns the first offset of a stream whose rows are not in the table."""
        if stream not in self._next_offsets:
            found = self._table.transaction_version(stream) if self._table else None
            self._next_offsets[stream] = found or 0
        return self._next_offsets[stream]

    def knows(self, name: str) -> bool:
        """Tells whether the rows of a batch were appended, or are about to be."""
        return name in self._names

    def require_types(self, types: Mapping[str, pa.DataType]) -> None:
        """Checks columns, and takes new ones as declared.

        Raises:
            SchemaConflict: A column has another type than before, or differs from another only in
                case, which Delta does not tell apart; nothing is declared.
        """
        spelled = {name.lower(): name for name in self._types}
        for name, kind in types.items():
            before = spelled.setdefault(name.lower(), name)
            if before != name or self._types.get(name, kind) != kind:
                raise SchemaConflict(
                    f"{self.folder.name}.{before} is {self._types.get(before, kind)} in the table, "
                    f"the batch has {name} as {kind}: give the new column another name",
                    field=name,
                )
        self._types |= types

    def append(self, rows: pa.Table, next_offsets: Mapping[str, int], names: list[str]) -> None:
        """Commits rows with the offsets that follow them: all or nothing.

        Args:
            rows: Columns that `require_types` has let pass.
            next_offsets: By stream: where to go on reading.
            names: Of the batches in it.
        """
        transactions = [Transaction(stream, at) for stream, at in next_offsets.items()]
        write_deltalake(
            self._table or str(self.folder),
            rows,
            mode="append",
            schema_mode="merge",
            commit_properties=CommitProperties(app_transactions=transactions),
        )
        if self._table is None:
            self._table = DeltaTable(str(self.folder))
        self.rows += rows.num_rows
        self._next_offsets |= next_offsets
        self._remember(names)
        self._commits += 1
        if self._commits >= self._compact_after:
            self._compact(self._table)

    def _open(self, table: DeltaTable) -> None:
        dataset = table.to_pyarrow_dataset()
        self._table = table
        self._types = {field.name: field.type for field in dataset.schema}
        self.rows = dataset.count_rows()
        if self._name_columns:
            columns = [name for name in ("_offset",) if name in self._types]
            names = dataset.to_table(columns=[*self._name_columns, *columns])
            distinct = names.group_by(list(self._name_columns)).aggregate(
                [(column, "max") for column in columns]
            )
            if columns:
                distinct = distinct.sort_by("_offset_max").slice(
                    max(distinct.num_rows - REMEMBERED, 0)
                )
            parts = [distinct.column(name).to_pylist() for name in self._name_columns]
            self._names = {" ".join(map(str, key)): None for key in zip(*parts, strict=True)}

    def _remember(self, names: list[str]) -> None:
        self._names |= dict.fromkeys(name for name in names if name)
        # Chunks of observations are few and may be repeated after months: they are kept.
        surplus = len(self._names) - REMEMBERED if "_offset" in self._types else 0
        for name in list(self._names)[: max(surplus, 0)]:
            del self._names[name]

    def _compact(self, table: DeltaTable) -> None:
        """Rewrites small files; the old ones go when no reader can be using them any more."""
        done: dict[str, Any] = table.optimize.compact()
        removed = table.vacuum(dry_run=False)
        self._commits = 0
        _log.info(
            "table_compacted",
            table=self.folder.name,
            files_before=done["numFilesRemoved"],
            files_after=done["numFilesAdded"],
            files_deleted=len(removed),
        )


class Tables:
    """All tables of a folder, each opened when it is first needed.

    Args:
        folder: Holds `features/<view>`, `predictions/<model>`, `labels/<model>` and
            `observations/<model>`.
        compact_after: See `HistoryTable`.
    """

    def __init__(self, folder: Path, *, compact_after: int) -> None:
        self._folder = folder
        self._compact_after = compact_after
        self._open: dict[tuple[str, str], HistoryTable] = {}

    def table(self, kind: str, name: str) -> HistoryTable:
        """Returns the table of a view or model; one that was never written is empty."""
        found = self._open.get((kind, name))
        if found is None:
            found = self._open[kind, name] = HistoryTable(
                self._folder / kind / name,
                name_columns=NAME_COLUMNS.get(kind, ()),
                compact_after=self._compact_after,
            )
        return found

    def names(self, kind: str) -> list[str]:
        """Returns the names of the tables of a kind that exist."""
        folder = self._folder / kind
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


NAME_COLUMNS: Final = {
    "predictions": ("batch_id", "version", "purpose"),
    "observations": ("chunk_id",),
}
"""What names a batch, by kind of table."""
