"""Cuts datasets: labelled rows as they were known at a time, with their features."""

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ciclo.errors import Conflict
from ciclo_bundle.digest import canonical_json
from ciclo_feature_store.adapters.offline.dataset_rows import dataset_rows
from ciclo_feature_store.adapters.offline.joined import join_features
from ciclo_feature_store.adapters.offline.point_in_time import TIME_PREFIX
from ciclo_feature_store.domain.event_time import as_text
from ciclo_feature_store.domain.tasks import Join, SnapshotCut, SnapshotTask

SCHEMA: Final = "ciclo.dataset/v1"
"""Written into schema.json."""

ROW_GROUP: Final = 65_536
"""Rows of a row group; part of what makes equal datasets equal files."""


class NoLabelledRow(Conflict):
    """There is nothing to learn from in the window."""

    reason = "NO_LABELLED_ROW"


def cut(task: SnapshotTask) -> SnapshotCut:
    """Writes `rows.parquet` and `schema.json` into a new folder.

    Rows are served answers and observations of the window, one for each business key (where a key
    was asked about more than once, the last time counts), whose label was known at the cut. Equal
    requests over equal tables write equal bytes.

    Raises:
        NoLabelledRow: The window holds none.
    """
    join = task.join
    rows, versions = dataset_rows(task)
    labelled = rows.filter(pc.is_valid(rows["label"]))
    unlabelled = rows.num_rows - labelled.num_rows
    if not labelled.num_rows:
        raise NoLabelledRow(
            f"{join.model} has {unlabelled} rows between {as_text(task.start_us)} and "
            f"{as_text(task.as_of_us)}, none with a label known by then: import observations, "
            "report labels, or cut later",
            metadata={"model": join.model},
        )
    features, feature_versions = join_features(labelled, join)
    own = ["label", "event_time_us", "_row_key", "_prediction_id", "_row", "_source"]
    columns: dict[str, Any] = {
        **{name: labelled[name] for name in join.inputs},
        **{name: features[name] for view in join.features.values() for name in view},
        **{name: labelled[name] for name in own},
        **{f"{TIME_PREFIX}{view}": features[f"{TIME_PREFIX}{view}"] for view in join.features},
    }
    _write(task, pa.table(columns))
    return SnapshotCut(
        labelled.num_rows,
        unlabelled,
        pc.max(labelled["event_time_us"]).as_py(),
        versions | feature_versions,
    )


def _write(task: SnapshotTask, rows: pa.Table) -> None:
    folder = Path(task.out)
    folder.mkdir(parents=True)
    pq.write_table(
        rows.combine_chunks(),
        folder / "rows.parquet",
        row_group_size=ROW_GROUP,
        compression="zstd",
    )
    (folder / "schema.json").write_bytes(canonical_json(_schema(task)))


def _schema(task: SnapshotTask) -> dict[str, Any]:
    join = task.join
    callers = [_entry(name, kind, _role(name, join)) for name, kind in join.inputs.items()]
    features = [
        _entry(name, kind, "feature", view, join.view_digests[view], join.meanings.get(name, ""))
        for view, kinds in join.features.items()
        for name, kind in kinds.items()
    ]
    return {
        "schema": SCHEMA,
        "model": join.model,
        "loop_digest": join.loop_digest,
        "feature_service": join.service,
        "knowledge_lag_us": join.lag_us,
        "older_than_us": dict(join.older_than_us),
        "start_us": task.start_us,
        "as_of_us": task.as_of_us,
        "inputs": callers + features,
    }


def _role(name: str, join: Join) -> str:
    if name == join.id:
        return "id"
    return "entity" if name in join.entities else "request"


def _entry(
    name: str, datatype: str, role: str, view: str = "", view_digest: str = "", meaning: str = ""
) -> dict[str, str]:
    return {
        "name": name,
        "datatype": datatype,
        "role": role,
        "view": view,
        "view_digest": view_digest,
        "meaning": meaning,
    }
