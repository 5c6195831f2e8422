"""What the trainer looks at in a dataset before a run: how often each input is missing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from ciclo_trainer.domain.triage import RECENT_SHARE, Missing


def missing_shares(dataset: Path) -> dict[str, Missing]:
    """Returns how often each input of a snapshot is missing, among the older and the newest rows.

    Args:
        dataset: Folder with rows.parquet, in time order, and schema.json.
    """
    inputs = [
        field["name"] for field in json.loads((dataset / "schema.json").read_text())["inputs"]
    ]
    table = pq.read_table(dataset / "rows.parquet", columns=inputs)
    older = round(table.num_rows * (1 - RECENT_SHARE))
    if not 0 < older < table.num_rows:
        return {}
    return {
        name: Missing(
            _missing(table.column(name).slice(0, older)), _missing(table.column(name).slice(older))
        )
        for name in inputs
    }


def _missing(column: Any) -> float:
    absent = pc.is_null(column, nan_is_null=True)
    if types.is_string(column.type) or types.is_large_string(column.type):
        absent = pc.or_(
            pc.fill_null(absent, True), pc.fill_null(pc.equal(column, pa.scalar("")), True)
        )
    return float(pc.mean(absent.cast("int8")).as_py())
