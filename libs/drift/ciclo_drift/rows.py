"""Rows as the streams take them: cells, phases, and what whitening remembers of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PHASES = 1_024
"""Phases of a season: each has a pool of its own, 1 KB a stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A batch of rows, encoded.

    Args:
        codes: Cells, streams in their order. Shape (F, n).
        phases: Seasonal phase of each row. Shape (n,).
        memory: Scores of the last rows of each stream, for whitening. Shape (F, MEMORY_ROWS);
            None: not known, what is remembered stays.
        sums: Cells of the sums over all streams; reference rows only. Shape (2, n).
    """

    codes: NDArray[np.int16]
    phases: NDArray[np.int16]
    memory: NDArray[np.float64] | None = None
    sums: NDArray[np.int16] | None = None

    def __len__(self) -> int:
        return len(self.phases)

    def take(self, rows: slice | NDArray[np.int64]) -> Rows:
        """Some of the rows; `memory` stays that of the whole batch."""
        sums = None if self.sums is None else self.sums[:, rows]
        return Rows(self.codes[:, rows], self.phases[rows], self.memory, sums)


def count_cells(
    codes: NDArray[np.int16], phases: NDArray[np.int16], cells: int, season: int
) -> NDArray[np.int64]:
    """Rows of a stream per phase and cell. Shape (season, cells)."""
    places = phases.astype(np.int64) * cells + codes
    return np.bincount(places, minlength=season * cells).reshape(season, cells)


def phases_of_rows(phases: object, rows: int, season: int | None = None) -> NDArray[np.int16]:
    """Phases as given, or one phase for all. Shape (rows,).

    Args:
        phases: Whole numbers from 0, or None.
        rows: Rows that they belong to.
        season: Phases that the reference has; None: this is the reference.

    Raises:
        DriftInputError: Not one whole number a row, below 0, or beyond the season.
    """
    if phases is None and (season or 1) > 1:
        raise DriftInputError("phases", "None", f"the phase of each row, 0 to {(season or 1) - 1}")
    given = np.zeros(rows, dtype=np.int16) if phases is None else np.asarray(phases)
    if given.shape != (rows,):
        raise DriftInputError("phases", f"shape {given.shape}", f"shape ({rows},)")
    if given.dtype.kind not in "iu":
        raise DriftInputError("phases", f"values of type {given.dtype}", "whole numbers from 0")
    most = MOST_PHASES if season is None else season
    if rows and (given.min() < 0 or given.max() >= most):
        bad = int(np.flatnonzero((given < 0) | (given >= most))[0])
        raise DriftInputError(
            "phases", f"{given[bad]} at row {bad}", f"whole numbers from 0 to {most - 1}"
        )
    return given.astype(np.int16)
