"""The rows of a dataset: served answers and observations, with what was known of their labels."""

from typing import Final

import duckdb
import pyarrow as pa

from ciclo_feature_store.adapters.offline.tables import open_table, quoted, typed_column
from ciclo_feature_store.domain.history import history_column
from ciclo_feature_store.domain.tasks import Join, SnapshotTask


def dataset_rows(task: SnapshotTask) -> tuple[pa.Table, dict[str, int]]:
    """Returns the rows of a window in their final order, and the versions of the tables read.

    A label counts if it became known by the cut; of several, the one sent last. Of several rows
    with one business key, the one with the latest event time counts.

    Returns:
        The inputs by name, `event_time_us`, `_row_key`, `_prediction_id`, `_row`, `_source`, and
        `label`, which is null where it was not known.
    """
    versions = {}
    connection = duckdb.connect()
    for kind in ("predictions", "labels", "observations"):
        table = open_table(task.join, kind)
        if table:
            versions[f"{kind}/{task.join.model}"] = table.version()
            connection.register(kind, table.to_pyarrow_dataset())
        else:
            connection.register(kind, _EMPTY[kind])
    present = {
        kind: {column[0] for column in connection.sql(f"FROM {kind} LIMIT 0").description}
        for kind in ("predictions", "observations")
    }
    statement = _ROWS.format(
        as_of=task.as_of_us,
        start=task.start_us,
        served=_inputs(task.join, present["predictions"]),
        observed=_inputs(task.join, present["observations"]),
        observed_key=_key(task.join, present["observations"]),
        names=", ".join(quoted(name) for name in task.join.inputs),
        no_time=" OR ".join(
            [f"{quoted(n)} IS NULL" for n, kind in task.join.inputs.items() if kind == "timestamp"]
            or ["FALSE"]
        ),
    )
    return connection.sql(statement).to_arrow_table(), versions


def _inputs(join: Join, present: set[str]) -> str:
    return ", ".join(
        f"{typed_column(name, kind, present)} AS {quoted(name)}"
        for name, kind in join.inputs.items()
    )


def _key(join: Join, present: set[str]) -> str:
    column = history_column(join.id)
    return f"CAST({quoted(column)} AS VARCHAR)" if column in present else "''"


def _empty(**types: pa.DataType) -> pa.Table:
    return pa.schema(list(types.items())).empty_table()


_EMPTY: Final[dict[str, pa.Table]] = {
    "predictions": _empty(
        prediction_id=pa.string(),
        row=pa.int32(),
        row_key=pa.string(),
        purpose=pa.string(),
        status_code=pa.int32(),
        event_time=pa.timestamp("us", "UTC"),
        _offset=pa.int64(),
        _index=pa.int64(),
    ),
    "labels": _empty(
        row_key=pa.string(),
        prediction_id=pa.string(),
        row=pa.int32(),
        value=pa.float64(),
        event_time=pa.timestamp("us", "UTC"),
        _offset=pa.int64(),
        _index=pa.int64(),
    ),
    "observations": _empty(
        event_time=pa.timestamp("us", "UTC"),
        label=pa.float64(),
        label_time=pa.timestamp("us", "UTC"),
        chunk_id=pa.string(),
        _index=pa.int64(),
    ),
}

_ROWS: Final = """
WITH kn_own_labels AS (
  SELECT row_key, prediction_id, row, value, _offset, _index FROM labels
  WHERE epoch_us(event_time) <= {as_of}
),
by_key AS (
  SELECT row_key, value, _offset, _index FROM kn_own_labels WHERE row_key <> ''
  QUALIFY row_number() OVER (PARTITION BY row_key ORDER BY _offset DESC, _index DESC) = 1
),
by_id AS (
  SELECT prediction_id, row, value, _offset, _index FROM kn_own_labels WHERE prediction_id <> ''
  QUALIFY row_number() OVER (
    PARTITION BY prediction_id, row ORDER BY _offset DESC, _index DESC) = 1
),
served AS (
  SELECT {served}, epoch_us(event_time) AS event_time_us, coalesce(row_key, '') AS _row_key,
    prediction_id AS _prediction_id, row AS _row
  FROM predictions
  WHERE purpose = 'served' AND status_code = 0 AND row IS NOT NULL
    AND epoch_us(event_time) BETWEEN {start} AND {as_of}
  QUALIFY row_number() OVER (PARTITION BY prediction_id, row ORDER BY _offset, _index) = 1
),
labelled_served AS (
  SELECT served.*, 'served' AS _source,
    CASE
      WHEN by_id._offset IS NULL THEN by_key.value
      WHEN by_key._offset IS NULL THEN by_id.value
      WHEN (by_id._offset, by_id._index) > (by_key._offset, by_key._index) THEN by_id.value
      ELSE by_key.value
    END AS label
  FROM served
  LEFT JOIN by_key ON served._row_key <> '' AND by_key.row_key = served._row_key
  LEFT JOIN by_id
    ON by_id.prediction_id = served._prediction_id AND by_id.row = served._row
),
observed AS (
  SELECT {observed}, epoch_us(event_time) AS event_time_us, {observed_key} AS _row_key,
    chunk_id AS _prediction_id, CAST(_index AS INTEGER) AS _row,
    CASE WHEN epoch_us(label_time) <= {as_of} THEN label END AS _own_label
  FROM observations WHERE epoch_us(event_time) BETWEEN {start} AND {as_of}
),
labelled_observed AS (
  SELECT observed.* EXCLUDE (_own_label), 'observed' AS _source,
    coalesce(by_key.value, _own_label) AS label
  FROM observed
  LEFT JOIN by_key ON observed._row_key <> '' AND by_key.row_key = observed._row_key
)
SELECT {names}, event_time_us, _row_key, _prediction_id, _row, _source,
  CAST(label AS DOUBLE) AS label
FROM (FROM labelled_served UNION ALL BY NAME FROM labelled_observed)
WHERE NOT ({no_time})
QUALIFY _row_key = '' OR row_number() OVER (
  PARTITION BY _row_key
  ORDER BY event_time_us DESC, _source DESC, _prediction_id, _row) = 1
ORDER BY event_time_us, _row_key, _source, _prediction_id, _row
"""
