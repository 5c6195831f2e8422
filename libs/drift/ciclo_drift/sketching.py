"""Makes a sketch of reference rows: cells, counts, dependence, and whether whitening helps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift import bets
from ciclo_drift.cells import (
    CATEGORY_CELLS,
    LABELS,
    frequent_labels,
    left_out_codes,
    numeric_codes,
    numeric_edges,
)
from ciclo_drift.dependence import (
    Dependence,
    every_other,
    largest_ratio,
    mean_ratio,
    measure_dependence,
)
from ciclo_drift.errors import DriftInputError
from ciclo_drift.rows import count_cells
from ciclo_drift.whitening import LEAST_GAIN, MEMORY_ROWS, Whitening

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOSS_ROWS = 10.0
"""Rows of the overall mean that a cell's mean loss is mixed with: a cell of three rows says little
about what it costs."""

NO_REALS = np.empty(0)
"""No numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """What `Reference` is made of; its fields are described there.

    Args:
        codes: Cells of the reference rows, which the reference forgets. Shape (m,).
    """

    codes: NDArray[np.int16]
    counts: NDArray[np.int64]
    serial: Dependence
    edges: NDArray[np.float64] = field(default_factory=lambda: NO_REALS)
    labels: tuple[str, ...] = ()
    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    whitening: Whitening | None = None


def sketch_numbers(
    numbers: NDArray[np.float64],
    phases: NDArray[np.int16],
    starts: NDArray[np.int64] | None,
    cells: int,
    name: str,
    seed: int,
) -> Sketch:
    """Sketches numbers, whitened where no blocks are declared and it takes dependence away.

    Args:
        numbers: Rows in time order, NaN = missing. Shape (m,).
        phases: Their phases. Shape (m,).
        starts: Starts of declared blocks, shape (B,), whose rows may be in any order; or None.
        cells: Cells between the extremes.
        name: The column, for errors.
        seed: Seed of ties.
    """
    plain = _plain(numbers, phases, starts, cells, name, seed)
    if starts is not None:
        return plain
    whitening = Whitening.fit(plain.codes, phases, plain.edges, plain.counts)
    if whitening is None:
        return plain
    left, _ = whitening.residuals(plain.codes, phases, np.zeros(MEMORY_ROWS))
    white = _plain(left, phases, starts, cells, name, seed)
    before, after = (float(sketch.serial.kappas.max()) - 1.0 for sketch in (plain, white))
    helps = after <= (1.0 - LEAST_GAIN) * before
    return replace(white, whitening=whitening) if helps else plain


def sketch_categories(
    texts: NDArray[np.str_], phases: NDArray[np.int16], starts: NDArray[np.int64] | None
) -> Sketch:
    """Sketches categories; arguments as for `sketch_numbers`.

    Where there are more than have a cell each, those are chosen on one half of the rows, and the
    other half is counted: the most frequent ones of the same rows are so by chance too, and gave
    up to five times the budget.
    """
    counted = np.ones(len(texts), dtype=np.bool_)
    if len(np.unique(texts)) > LABELS:
        counted = ~every_other(len(texts), starts)
    labels, seen = frequent_labels(texts if counted.all() else texts[~counted])
    codes = left_out_codes(texts, labels, seen)
    counts = count_cells(codes[counted], phases[counted], CATEGORY_CELLS, int(phases.max()) + 1)
    used = np.flatnonzero(counts.sum(axis=0))
    usual = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    scores = (codes[:, None] == used[None, :]) - usual[phases][:, used]
    serial = measure_dependence(scores, np.zeros(len(used), dtype=np.int64), starts, mean_ratio)
    return Sketch(codes, counts, serial, labels=labels, seen=seen)


def mean_losses(
    codes: NDArray[np.int16], losses: NDArray[np.float64] | None, cells: int
) -> NDArray[np.float64]:
    """Mean loss in each cell, drawn towards the overall mean. Shape (cells,), or (0,).

    Raises:
        DriftInputError: Not one loss a row, or none is known.
    """
    if losses is None:
        return NO_REALS
    given = np.asarray(losses, dtype=np.float64)
    if given.shape != codes.shape:
        raise DriftInputError("losses", f"shape {given.shape}", f"shape {codes.shape}")
    known = np.isfinite(given)
    if not known.any():
        raise DriftInputError("losses", "none is known", "numbers; leave the losses out")
    rows = np.bincount(codes[known], minlength=cells)
    totals = np.bincount(codes[known], weights=given[known], minlength=cells)
    return np.asarray((totals + LOSS_ROWS * given[known].mean()) / (rows + LOSS_ROWS))


def _plain(
    numbers: NDArray[np.float64],
    phases: NDArray[np.int16],
    starts: NDArray[np.int64] | None,
    cells: int,
    name: str,
    seed: int,
) -> Sketch:
    """A sketch of numbers as they are."""
    edges = numeric_edges(numbers, cells, name)
    codes = numeric_codes(numbers, edges, name)
    counts = count_cells(codes, phases, len(edges) + 2, int(phases.max()) + 1)
    families = np.repeat(np.arange(4), np.diff((0, *bets.FAMILY_ENDS)))
    scores = bets.log_ratios()[bets.own_bins(codes, phases, counts, seed)]
    return Sketch(codes, counts, measure_dependence(scores, families, starts, largest_ratio), edges)
