"""What is kept of answers, labels and observations: tables as named columns of known kind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ciclo.errors import Reject
from ciclo.loop import Loop

Kind = Literal["string", "int32", "int64", "float32", "float64", "timestamp"]
"""What a column holds. A timestamp is microseconds since the epoch, UTC."""

TABLES: Final = ("predictions", "labels", "observations")
"""The tables of a model."""

RESERVED: Final = frozenset(
    {
        "prediction_id",
        "row",
        "client_id",
        "model",
        "version",
        "variant",
        "purpose",
        "bundle_digest",
        "event_time",
        "receive_time",
        "duration_us",
        "status_code",
        "routing_key",
        "row_key",
        "omission",
        "batch_id",
        "chunk_id",
        "label",
        "label_time",
        "value",
    }
)
"""The tables' own columns; an input that is called like one gets an underscore at its end."""


class BadObservations(Reject):
    """A chunk of observations is not what the loop's inputs ask for."""

    reason = "BAD_OBSERVATIONS"


@dataclass(frozen=True, slots=True)
class HistoryColumn:
    """Values of one column.

    Attributes:
        kind: See `Kind`.
        values: [rows]; integers, floats or str objects.
        known: False where there is no value. bool [rows]; None: everywhere known.
    """

    kind: Kind
    values: NDArray[Any]
    known: NDArray[np.bool_] | None = None


Columns = Mapping[str, HistoryColumn]
"""A table, or a piece of one: columns of equal length by name."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows for one table of one model, all from one record.

    Attributes:
        model: The model.
        table: One of `TABLES`.
        columns: Of equal length.
        batch_id: Names the rows wherever they come from; the same id is not stored twice.
    """

    model: str
    table: str
    columns: Columns
    batch_id: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)


@dataclass(frozen=True, slots=True)
class Observations:
    """A chunk of labelled history from outside. All columns have the same length.

    Attributes:
        model: The model.
        chunk_id: Names the chunk.
        inputs: By name: int64, float64 or str objects.
        event_times_us: int64.
        labels: float64; NaN: never known.
        label_times_us: int64.
    """

    model: str
    chunk_id: str
    inputs: Mapping[str, NDArray[Any]]
    event_times_us: NDArray[np.int64]
    labels: NDArray[np.float64]
    label_times_us: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How far a model's history is stored.

    Attributes:
        rows: Rows stored, by table.
        next_offsets: Offset of the next record that will be read, by topic.
        table_urls: Address of each table that exists, for stock tools.
    """

    rows: Mapping[str, int]
    next_offsets: Mapping[str, int]
    table_urls: Mapping[str, str]


def history_column(name: str) -> str:
    """Returns the column that an input or output is kept in.

    Example:
        >>> history_column("origin"), history_column("model")
        ('origin', 'model_')
    """
    return f"{name}_" if name.lower() in RESERVED or name.startswith("_") else name


def constant(kind: Kind, value: object, rows: int) -> HistoryColumn:
    """Returns a column that says the same of every row."""
    return HistoryColumn(kind, np.full(rows, value, object if kind == "string" else np.int64))


def texts(values: Sequence[str]) -> HistoryColumn:
    """Returns a column of texts."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return HistoryColumn("string", array)


def caller_inputs(loop: Loop) -> dict[str, Kind]:
    """Returns what a caller sends for a row: entities, then request fields, in declared order."""
    return {**loop.entities, **loop.input.request}


def observation_columns(chunk: Observations, loop: Loop) -> Columns:
    """Returns a chunk as rows of the table `observations`.

    Raises:
        BadObservations: An input is missing, unknown, of another type or length; a label is
            infinite; the chunk has no id.
    """
    kinds = caller_inputs(loop)
    _require_names(kinds, chunk.inputs, chunk.model)
    rows = len(chunk.event_times_us)
    lengths = {name: len(values) for name, values in chunk.inputs.items()}
    lengths |= {"labels": len(chunk.labels), "label_time_us": len(chunk.label_times_us)}
    for name, length in lengths.items():
        if length != rows:
            raise BadObservations(
                f"{name} has {length} values, expected {rows}: one for each event time", field=name
            )
    if not chunk.chunk_id:
        raise BadObservations("chunk_id is empty: name the chunk, or it might be stored twice")
    if np.isinf(chunk.labels).any():
        raise BadObservations("a label is infinite; NaN says never known", field="labels")
    known = ~np.isnan(chunk.labels)
    columns = {
        "event_time": HistoryColumn("timestamp", chunk.event_times_us),
        "label": HistoryColumn("float64", chunk.labels, known),
        "label_time": HistoryColumn("timestamp", chunk.label_times_us, known),
        "chunk_id": constant("string", chunk.chunk_id, rows),
        "_index": HistoryColumn("int64", np.arange(rows, dtype=np.int64)),
    }
    for name, kind in kinds.items():
        columns[history_column(name)] = _typed(name, kind, chunk.inputs[name])
    return columns


def _require_names(expected: Iterable[str], given: Iterable[str], model: str) -> None:
    absent, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if absent or unknown:
        raise BadObservations(
            f"inputs of {model} are {', '.join(expected)}; missing: {', '.join(absent) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}",
            field=(absent + unknown)[0],
        )


def _typed(name: str, kind: Kind, values: NDArray[Any]) -> HistoryColumn:
    given = values.dtype.kind
    wanted: Mapping[str, Sequence[str]] = {"string": "O", "float32": "fi"}
    if given not in wanted.get(kind, "i"):
        words = {"O": "texts", "f": "numbers", "i": "whole numbers"}
        raise BadObservations(f"{name} is {kind}, the chunk has {words[given]}", field=name)
    return HistoryColumn(kind, values)
