"""Point-in-time joins by DuckDB: each question meets the newest row that was true by then."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ciclo_feature_store.adapters.offline.tables import quoted

TIME_PREFIX = "_time_of_"
"""Of the columns that say when each row's values became true, in microseconds; null: never."""


@dataclass(frozen=True, slots=True)
class JoinedView:
    """A view that takes part in a join.

    Attributes:
        name: Of the view.
        keys: Join keys.
        features: Which of its columns are wanted.
        ttl_us: Greatest age, in microseconds; 0: any.
    """

    name: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    ttl_us: int


def point_in_time(asked: pa.Table, at_us: str, view: JoinedView, known: Any) -> dict[str, Any]:
    """Returns a view's features and `_time_of_<view>`, null where nothing was known.

    Args:
        asked: Has the view's join keys and the column `at_us`.
        at_us: Name of the column of times, int64 microseconds: only rows up to then count.
        view: What is wanted.
        known: The view's rows: an Arrow table or data set with `event_time`, `_offset`, `_index`.
            Of rows of an entity with one event time, the one with the greatest offset and index
            counts.

    Returns:
        Columns in the order of the rows asked.
    """
    connection = duckdb.connect()
    place = pa.array(range(asked.num_rows), pa.int64())
    connection.register("asked", asked.append_column("_place", place))
    connection.register("stored", known)
    joined = connection.sql(_join_sql(view, at_us, known.schema.names)).to_arrow_table()
    return {name: joined[name] for name in [*view.features, f"{TIME_PREFIX}{view.name}"]}


def nothing_known(rows: int, view: JoinedView) -> dict[str, Any]:
    """Returns what `point_in_time` returns for a view without rows."""
    empty = pa.chunked_array([pa.nulls(rows, pa.float32())])
    return dict.fromkeys([*view.features, f"{TIME_PREFIX}{view.name}"], empty)


def latest(times_us: Any) -> Any:
    """Returns the greatest of some times, as a column `event_time` is compared with."""
    return pc.scalar(pc.max(times_us).cast(pa.timestamp("us", "UTC")))


def _join_sql(view: JoinedView, at_us: str, present: Sequence[str]) -> str:
    keys = ", ".join(map(quoted, view.keys))
    on = " AND ".join(f"asked.{quoted(key)} = known.{quoted(key)}" for key in view.keys)
    is_fresh = f"asked.{quoted(at_us)} - known._time_us <= {view.ttl_us}" if view.ttl_us else "TRUE"
    features = ", ".join(
        f"CASE WHEN {is_fresh} THEN known.{quoted(name)} END AS {quoted(name)}"
        if name in present
        else f"NULL::FLOAT AS {quoted(name)}"
        for name in view.features
    )
    return f"""
        WITH known AS (
          SELECT *, epoch_us(event_time) AS _time_us FROM stored
          QUALIFY row_number() OVER (
            PARTITION BY {keys}, event_time ORDER BY _offset DESC, _index DESC) = 1)
        SELECT {features},
          CASE WHEN {is_fresh} THEN known._time_us END AS {quoted(TIME_PREFIX + view.name)}
        FROM asked ASOF LEFT JOIN known ON {on} AND asked.{quoted(at_us)} >= known._time_us
        ORDER BY asked._place
    """  # noqa: S608 -- names are quoted
