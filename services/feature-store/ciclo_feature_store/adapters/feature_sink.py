"""Feature rows: readable online as soon as they are taken, in their view's table a flush later."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ciclo.errors import Reject
from ciclo_feature_store import wire
from ciclo_feature_store.adapters.delta import ARROW, HistoryTable, Tables
from ciclo_feature_store.adapters.events import Event
from ciclo_feature_store.adapters.recording import Refused
from ciclo_feature_store.domain.definitions import View
from ciclo_feature_store.domain.feature_rows import FeatureRows, require_fit
from ciclo_feature_store.domain.online import OnlineStore
from ciclo_feature_store.metrics import FeatureStoreMetrics

OWN_COLUMNS = ("event_time", "_offset", "_index")
"""What a view's table has beside join keys and fields."""

KINDS = {pa.string(): str, pa.int64(): int, pa.float32(): float}
"""What the values of a column are online, by their type in a table."""

ENTITY = {b"ciclo.role": b"entity"}
"""Metadata of the columns that are join keys, so that a restart knows them without definitions."""

ViewRules = Callable[[str], tuple[View, Collection[str]] | None]
"""Definition of a view and fields that must not be stored; None while nobody has defined it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch and the event that brought it."""

    rows: FeatureRows
    event: Event


class FeatureSink:
    """Takes `FeatureRowsObserved`.

    A view needs no definition to be stored: its columns come with its rows.

    Args:
        online: Gets the rows at once.
        tables: Get them when flushed.
        rules: Definitions in force.
        metrics: Count rows.
    """

    def __init__(
        self, online: OnlineStore, tables: Tables, rules: ViewRules, metrics: FeatureStoreMetrics
    ) -> None:
        self._online = online
        self._tables = tables
        self._rules = rules
        self._metrics = metrics
        self._taken: dict[str, list[Taken]] = {}

    def take(self, event: Event) -> int:
        """See `Sink.take`."""
        rows = wire.observed_rows(event.message)
        rules = self._rules(rows.view)
        if rules:
            require_fit(rows, *rules)
        view = self._online.view(rows.view)
        new = view.apply(rows, event.offset)
        self._taken.setdefault(rows.view, []).append(Taken(rows, event))
        counter = self._metrics.feature_rows
        counter.labels(rows.view, "new").inc(new)
        counter.labels(rows.view, "superseded").inc(len(rows) - new)
        if view.watermark_us is not None:
            self._metrics.watermark.labels(rows.view).set(view.watermark_us / 1_000_000)
        return len(rows)

    def drain(self) -> "FeatureFlush":
        """See `Sink.drain`."""
        taken, self._taken = self._taken, {}
        return FeatureFlush(taken, self._online.watermarks(), self._tables, self._metrics)


class FeatureFlush:
    """Batches by view, ready to be committed.

    Attributes:
        watermarks_us: How far views are known with them.
    """

    def __init__(
        self,
        taken: Mapping[str, list[Taken]],
        watermarks_us: Mapping[str, int],
        tables: Tables,
        metrics: FeatureStoreMetrics,
    ) -> None:
        self.watermarks_us = watermarks_us
        self._taken = taken
        self._tables = tables
        self._metrics = metrics

    def write(self) -> Sequence[Refused]:
        """See `Flush.write`. One commit a view."""
        refused = []
        for view, batches in self._taken.items():
            table = self._tables.table("features", view)
            next_offsets: dict[str, int] = {}
            alike: dict[tuple[tuple[str, pa.DataType], ...], list[Taken]] = {}
            for taken in batches:
                event = taken.event
                if not len(taken.rows) or event.offset < table.next_offset(event.stream):
                    continue  # only a watermark, or read again after a crash
                types = _types(taken.rows)
                try:
                    table.require_types(types)
                except Reject as error:
                    refused.append(Refused(event, error))
                else:
                    alike.setdefault(tuple(types.items()), []).append(taken)
                    next_offsets[event.stream] = event.offset + 1
            if alike:
                pieces = [_piece(some) for some in alike.values()]
                rows = pa.concat_tables(pieces, promote_options="default")
                table.append(rows, next_offsets, [])
                self._metrics.history_rows.labels("features").inc(rows.num_rows)
        return refused


def restore(online: OnlineStore, tables: Tables, rows_per_entity: int) -> None:
    """Reads the newest rows of every view's table into the online store. Blocks."""
    for view in tables.names("features"):
        table = tables.table("features", view)
        if table.rows:
            _restore_view(online, view, table, rows_per_entity)


def _restore_view(
    online: OnlineStore, view: str, table: HistoryTable, rows_per_entity: int
) -> None:
    source = table.dataset()
    kinds = {
        field.name: KINDS[field.type] for field in source.schema if field.name not in OWN_COLUMNS
    }
    entities = sorted(field.name for field in source.schema if field.metadata == ENTITY)
    fields = [name for name in kinds if name not in entities]
    keys = ", ".join(f'"{name}"' for name in entities)
    # One row more than is kept shows the online store that there are more. Rows with one event
    # time count once.
    connection = duckdb.connect()
    connection.register("stored", source)
    newest = connection.sql(
        f"""
        FROM (
          FROM stored
          QUALIFY row_number() OVER (
            PARTITION BY {keys}, event_time ORDER BY _offset DESC, _index DESC) = 1)
        SELECT *, epoch_us(event_time) AS _event_time_us
        QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY event_time DESC)
          <= {rows_per_entity + 1}
        """
    )
    columns = newest.to_arrow_table().drop(["event_time"]).to_pydict()
    rows = zip(
        _together(columns, entities),
        columns["_event_time_us"],
        _together(columns, ["_offset", "_index"]),
        _together(columns, fields),
        strict=True,
    )
    online.view(view).restore(
        {name: kinds[name] for name in entities}, {name: kinds[name] for name in fields}, rows
    )


def _together(columns: Mapping[str, list[Any]], names: Sequence[str]) -> list[Any]:
    """Some columns as rows."""
    if not names:
        return [()] * len(columns["_offset"])
    return list(zip(*(columns[name] for name in names), strict=True))


def _types(rows: FeatureRows) -> dict[str, pa.DataType]:
    columns = {**rows.entities, **rows.fields}
    return {
        name: pa.string() if values.dtype == object else pa.from_numpy_dtype(values.dtype)
        for name, values in columns.items()
    }


def _piece(batches: Sequence[Taken]) -> pa.Table:
    """Batches with the same columns as one table: few large arrays instead of many small ones."""
    first = batches[0].rows
    times = np.concatenate([taken.rows.event_times_us for taken in batches])
    offsets = [np.full(len(taken.rows), taken.event.offset) for taken in batches]
    indices = [np.arange(len(taken.rows)) for taken in batches]
    columns = {
        "event_time": pa.array(times, ARROW["timestamp"]),
        "_offset": pa.array(np.concatenate(offsets), pa.int64()),
        "_index": pa.array(np.concatenate(indices), pa.int64()),
    }
    for name, kind in _types(first).items():
        source = "entities" if name in first.entities else "fields"
        values = np.concatenate([getattr(taken.rows, source)[name] for taken in batches])
        columns[name] = pa.array(values, kind)
    fields = [
        pa.field(name, column.type, metadata=ENTITY if name in first.entities else None)
        for name, column in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields))
