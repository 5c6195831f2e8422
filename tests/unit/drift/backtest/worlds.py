"""Small tables with a drift that is known."""

from __future__ import annotations

import numpy as np

FUELS = np.array(["coal", "gas", "oil"])
START = np.datetime64("2026-01-05", "us")
REFERENCE_ROWS = 4_000


def table(rows: int, seed: int, shift_at: int | None = None, shift: float = 1.0) -> dict:
    """Three independent columns; `load` moves at `shift_at`."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=rows)
    if shift_at is not None:
        load[shift_at:] += shift
    return {"load": load, "speed": rng.normal(size=rows), "fuel": rng.choice(FUELS, rows)}


def reference(seed: int = 0) -> dict:
    return table(REFERENCE_ROWS, seed)


def timed(columns: dict, minutes: int = 15) -> dict:
    """The same with a row every so many minutes."""
    rows = len(columns["load"])
    return {**columns, "time": START + np.arange(rows) * np.timedelta64(minutes, "m")}


def labelled(rows: int, seed: int, concept_at: int | None = None) -> dict:
    """Calibrated scores, labels with them, and days of 100 rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    wrong = 1.5 * (np.arange(rows) >= (rows if concept_at is None else concept_at))
    labels = (rng.random(rows) < 1 / (1 + np.exp(-2 * x + wrong))).astype(float)
    x_seen = x + 0.6 * (wrong > 0)
    score = 1 / (1 + np.exp(-2 * x_seen))
    return {"x": x_seen, "score": score, "label": labels, "day": np.arange(rows) // 100}
