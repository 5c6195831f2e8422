"""Sketches what the model's inputs and scores looked like, for the monitor; no row is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ciclo_drift import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ciclo_bundle import Field
    from ciclo_trainer.training.snapshot import Rows


def sketch_inputs(rows: Rows, inputs: Iterable[Field], seed: int) -> dict[str, bytes]:
    """Return the reference of each input that can drift, by name.

    Business keys and timestamps are left out: they never repeat, so each day is news.

    Args:
        rows: What the model was trained on and judged on, in time order.
        inputs: What the model takes.
        seed: Of the sketches' calibration.
    """
    return {
        field.name: _sketch(field, rows.columns[field.name], rows.block, seed).to_bytes()
        for field in inputs
        if field.role != "id" and field.datatype != "timestamp"
    }


def sketch_score(name: str, score: NDArray[Any], block: NDArray[Any], seed: int) -> bytes:
    """Return the reference of an output.

    Args:
        name: Of the output.
        score: [n], of rows that were not trained on, in time order.
        block: [n], time block of each.
        seed: Of the sketch's calibration.
    """
    return Reference.numeric(score, name=name, blocks=block, seed=seed).to_bytes()


def _sketch(field: Field, column: NDArray[Any], block: NDArray[Any], seed: int) -> Reference:
    if field.datatype == "string":
        return Reference.categorical(column, name=field.name, blocks=block, seed=seed)
    return Reference.numeric(column, name=field.name, blocks=block, seed=seed)
