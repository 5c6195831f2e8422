"""Rows of a model joined with their features, as training, audit and serving must all see them."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ciclo_feature_store.adapters.offline.definitions import feast_store
from ciclo_feature_store.adapters.offline.point_in_time import TIME_PREFIX
from ciclo_feature_store.adapters.offline.store import EVENT_TIMESTAMP, DeltaJoin
from ciclo_feature_store.domain.tasks import Join

TIMESTAMP = pa.timestamp("us", "UTC")
"""Type of times in tables."""


def join_features(rows: pa.Table, join: Join) -> tuple[pa.Table, dict[str, int]]:
    """Returns the features of rows, in the rows' order, and the versions of the tables read.

    Args:
        rows: Has the loop's entities, and `event_time_us` (int64).
        join: How rows meet features.

    Returns:
        One column a feature in the order of the service, float32 (missing: NaN) or string
        (missing: ""), then one column `_time_of_<view>` a view, int64 (0: nothing was known).
    """
    asked = rows.select(list(join.entities))
    event_times: Any = rows["event_time_us"]
    at: Any = pc.subtract(event_times, pa.scalar(join.lag_us))
    asked = asked.append_column(EVENT_TIMESTAMP, pc.cast(at, TIMESTAMP))
    store = feast_store(join.loop_folder, join.tables)
    job = store.get_historical_features(
        entity_df=asked.to_pandas(), features=store.get_feature_service(join.service)
    )
    assert isinstance(job, DeltaJoin)
    found = job.to_arrow()
    columns: dict[str, Any] = {}
    for view, features in join.features.items():
        times: Any = pc.cast(found[f"{TIME_PREFIX}{view}"], pa.int64())
        times = pc.fill_null(times, pa.scalar(0))
        for name, datatype in features.items():
            columns[name] = _feature(found[name], datatype)
            if view in join.older_than_us:
                age: Any = pc.subtract(event_times, times)
                is_old = pc.greater(age, pa.scalar(join.older_than_us[view]))
                columns[name] = pc.if_else(is_old, _missing(datatype), columns[name])
        columns[f"{TIME_PREFIX}{view}"] = times
    return pa.table(columns), job.table_versions


def _feature(values: Any, datatype: str) -> Any:
    wanted = pa.string() if datatype == "string" else pa.float32()
    return pc.fill_null(pc.cast(values, wanted), _missing(datatype))


def _missing(datatype: str) -> Any:
    return pa.scalar("") if datatype == "string" else pa.scalar(float("nan"), pa.float32())
