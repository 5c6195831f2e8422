"""Sketches what the model is asked and answers, for the monitor; no row is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ciclo_drift import StreamSet, pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ciclo_bundle import Field
    from ciclo_trainer.training.snapshot import Rows

SCORE: Final = "score"
"""Name of the stream of the model's own answers."""


def sketch_streams(
    rows: Rows,
    inputs: Iterable[Field],
    score: NDArray[np.float32],
    *,
    budget_blocks: float,
    seed: int,
) -> bytes:
    """Return the detectors of all that can drift, under one budget, as `StreamSet` packs them.

    Business keys and timestamps are left out: they never repeat, so each day is news. So are
    entities, whose order within a block is that of the callers, and columns that never varied.

    Args:
        rows: What the model was trained on and judged on, in time order.
        inputs: What the model takes.
        score: [n], what it answers to these rows.
        budget_blocks: Time blocks between false alarms.
        seed: Of the calibration.
    """
    columns: dict[str, NDArray[Any]] = {
        field.name: rows.columns[field.name]
        for field in inputs
        if field.role not in ("id", "entity") and field.datatype != "timestamp"
    }
    columns[SCORE] = score.astype(np.float64)
    varying = {name: column for name, column in columns.items() if _varies(column)}
    return pack(
        StreamSet.fit(varying, blocks=rows.block, budget_blocks=budget_blocks, seed=seed).snapshot()
    )


def _varies(column: NDArray[Any]) -> bool:
    if column.dtype.kind == "f":
        known = column[~np.isnan(column)]
        return len(known) > 0 and bool(known.min() < known.max())
    return bool((column != column[0]).any())
