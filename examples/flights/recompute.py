"""Recomputes a demo's figures from outside: DuckDB on Delta tables, ONNX Runtime on bundles.

    python recompute.py --state build/demo --json build/demo.json

Nothing of Ciclo is imported. Compares daily loss, one answer in a hundred, and the shares of the
versions.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import onnxruntime
from deltalake import DeltaTable

MODEL: Final = "flight-delay"
LARGEST_LOSS_DIFFERENCE: Final = 1e-6
LARGEST_ANSWER_DIFFERENCE: Final = 1e-5
ONE_IN: Final = 100

LOSS_BY_DAY: Final = """
    with newest as (
        select row_key, arg_max(value, (_offset, _index)) as label,
            arg_max(event_time, (_offset, _index)) as known
        from labels group by row_key
    ), answered as (
        select row_key, version, event_time, greatest(least(late::double, 1 - 1e-7), 1e-7) as p
        from predictions where purpose = 'served' and status_code = 0
    )
    select strftime(event_time at time zone 'UTC', '%Y-%m-%d') as day, version,
        avg(-(label * ln(p) + (1 - label) * ln(1 - p))) as loss, count(*) as rows
    from answered join newest using (row_key)
    where known <= event_time + interval 3 day
    group by all order by all"""

SAMPLE: Final = f"""
    select * from predictions
    where purpose = 'served' and status_code = 0 and hash(row_key) % {ONE_IN} = 0"""

SHARES: Final = """
    select version, count(*) from predictions
    where purpose = 'served' and status_code = 0 group by version order by version"""


def main() -> None:
    """Reads the command line; exits 0 only if all agrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("build/demo"), help="state folder")
    parser.add_argument("--json", type=Path, default=Path("build/demo.json"), help="figures")
    given = parser.parse_args()
    figures = json.loads(given.json.read_text())
    with closing(duckdb.connect()) as tables:
        for name in ("predictions", "labels"):
            folder = given.state / "feature-store" / "delta" / name / MODEL
            tables.register(name, DeltaTable(str(folder)).to_pyarrow_table())
        agree = [
            _losses_agree(figures, tables),
            _answers_agree(tables, _graphs(given.state)),
            _shares_agree(figures, tables),
        ]
    sys.exit(0 if all(agree) else 1)


def _losses_agree(figures: dict[str, Any], tables: duckdb.DuckDBPyConnection) -> bool:
    found = {(day, v): (loss, rows) for day, v, loss, rows in tables.sql(LOSS_BY_DAY).fetchall()}
    said = {(x["day"], x["version"]): x for x in figures["loss_by_day"] if x["served"]}
    worst = max(abs(found[key][0] - x["loss"]) for key, x in said.items() if key in found)
    rows = all(found.get(key, (0, 0))[1] == x["rows"] for key, x in said.items())
    agree = found.keys() == said.keys() and rows and worst <= LARGEST_LOSS_DIFFERENCE
    print(f"daily loss: {len(said)} days and versions, largest difference {worst:.1e}: {agree}")
    return agree


def _answers_agree(tables: duckdb.DuckDBPyConnection, graphs: dict[str, Path]) -> bool:
    sample = tables.sql(SAMPLE).to_arrow_table()
    worst, rows = 0.0, 0
    for model, graph in graphs.items():
        chosen = sample.filter([digest == model for digest in sample["bundle_digest"].to_pylist()])
        if not chosen.num_rows:
            continue
        session = onnxruntime.InferenceSession(str(graph))
        asked = {i.name: _tensor(chosen[i.name], i.type) for i in session.get_inputs()}
        answers = session.run(["late"], asked)[0].ravel()
        worst = max(worst, float(np.abs(answers - chosen["late"].to_numpy()).max()))
        rows += chosen.num_rows
    agree = rows == sample.num_rows > 0 and worst <= LARGEST_ANSWER_DIFFERENCE
    print(f"answers: {rows} of {sample.num_rows} asked again, largest {worst:.1e}: {agree}")
    return agree


def _shares_agree(figures: dict[str, Any], tables: duckdb.DuckDBPyConnection) -> bool:
    found = {str(version): rows for version, rows in tables.sql(SHARES).fetchall()}
    agree = bool(found == figures["rows_by_version"])
    print(f"rows by version: {found}, said {figures['rows_by_version']}: {agree}")
    return agree


def _graphs(state: Path) -> dict[str, Path]:
    """Returns each bundle's graph by its digest, from where the gateway keeps them."""
    folders = (state / "gateway" / "bundles").iterdir()
    return {f"sha256:{f.name.removeprefix('sha256-')}": f / "model.onnx" for f in folders}


def _tensor(column: Any, kind: str) -> Any:
    if kind == "tensor(string)":
        return np.array(column.to_pylist(), object).reshape(-1, 1)
    if kind == "tensor(int64)":
        return column.cast("int64").to_numpy().reshape(-1, 1)
    return column.to_numpy().astype(np.float32).reshape(-1, 1)


if __name__ == "__main__":
    main()
