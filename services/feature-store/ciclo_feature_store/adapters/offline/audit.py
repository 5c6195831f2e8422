"""Compares the features that answers were made of with what the history says, bit by bit."""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ciclo_feature_store.adapters.offline.joined import join_features
from ciclo_feature_store.adapters.offline.point_in_time import TIME_PREFIX
from ciclo_feature_store.adapters.offline.tables import open_table, quoted, typed_column
from ciclo_feature_store.domain.tasks import AuditTask, Join, SkewAudit

MOST_EXAMPLES = 10
"""Enough for a person to see a pattern."""


def audit(task: AuditTask) -> SkewAudit:
    """Compares every row that a caller got an answer for.

    Numbers are compared as float32, NaN being equal to NaN.
    """
    rows = _captured(task)
    if rows is None or not rows.num_rows:
        return SkewAudit()
    expected, _ = join_features(rows, task.join)
    different: dict[str, NDArray[np.bool_]] = {}
    for features in task.join.features.values():
        for name in features:
            differs = ~_equal(_values(rows[f"captured:{name}"]), _values(expected[name]))
            if differs.any():
                different[name] = differs
    if not different:
        return SkewAudit(rows.num_rows)
    any_differs = np.logical_or.reduce(list(different.values()))
    return SkewAudit(
        rows.num_rows,
        int(any_differs.sum()),
        {name: int(differs.sum()) for name, differs in different.items()},
        tuple(
            _example(int(place), rows, expected, different, task.join)
            for place in np.flatnonzero(any_differs)[:MOST_EXAMPLES]
        ),
    )


def _captured(task: AuditTask) -> pa.Table | None:
    table = open_table(task.join, "predictions")
    if table is None:
        return None
    connection = duckdb.connect()
    source = table.to_pyarrow_dataset()
    connection.register("predictions", source)
    present = set(source.schema.names)
    entities = [
        f"{typed_column(name, task.join.inputs[name], present)} AS {quoted(name)}"
        for name in task.join.entities
    ]
    features = [
        f"{typed_column(name, kind, present)} AS {quoted(f'captured:{name}')}"
        for kinds in task.join.features.values()
        for name, kind in kinds.items()
    ]
    found: pa.Table = connection.sql(
        f"""
        SELECT {", ".join([*entities, *features])}, epoch_us(event_time) AS event_time_us,
          coalesce(nullif(row_key, ''), prediction_id || '/' || row) AS _name
        FROM predictions
        WHERE purpose = 'served' AND status_code = 0 AND row IS NOT NULL
          AND epoch_us(event_time) >= {task.start_us} AND epoch_us(event_time) < {task.end_us}
        QUALIFY row_number() OVER (PARTITION BY prediction_id, row ORDER BY _offset, _index) = 1
        ORDER BY event_time_us, _name
        """  # noqa: S608 -- names are quoted
    ).to_arrow_table()
    return found


def _values(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def _equal(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    if one.dtype.kind == "f":
        return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))
    return np.asarray(one == other)


def _example(
    place: int, rows: pa.Table, expected: pa.Table, different: dict[str, Any], join: Join
) -> str:
    view_of = {name: view for view, names in join.features.items() for name in names}
    parts = []
    for name, differs in different.items():
        if differs[place]:
            time_us = expected[f"{TIME_PREFIX}{view_of[name]}"][place].as_py()
            parts.append(
                f"{name} was {rows[f'captured:{name}'][place].as_py()!r}, the history says "
                f"{expected[name][place].as_py()!r} ({view_of[name]} at {time_us} µs)"
            )
    at = rows["event_time_us"][place].as_py()
    return f"{rows['_name'][place].as_py()} at {at} µs: " + "; ".join(parts)
