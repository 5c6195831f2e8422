"""The reference of one stream: a sketch of counts, its serial dependence, what it can promise.

Over 300 lines: a value with two constructors, and what it says of itself; `sketching` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.bank import Bank
from ciclo_drift.calibration import Certificate, certify, independent_threshold, thresholds_for
from ciclo_drift.cells import (
    CATEGORY_CELLS,
    LABELS,
    as_column,
    as_numbers,
    as_texts,
    category_codes,
    left_out_codes,
    numeric_codes,
)
from ciclo_drift.dependence import Dependence, declared_starts
from ciclo_drift.errors import DriftInputError
from ciclo_drift.rows import Rows, phases_of_rows
from ciclo_drift.sketching import (
    NO_REALS,
    Sketch,
    mean_losses,
    sketch_categories,
    sketch_numbers,
)
from ciclo_drift.snapshots import Snapshot, pack, require_kind, unpack
from ciclo_drift.whitening import MEMORY_ROWS, Whitening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

KIND = "ciclo_drift.Reference/2"

NEAR = 2.0
"""Ratio of a budget to a calibrated one up to which the threshold may be taken in proportion: at
seventeen, dependent rows gave three times the budget."""

REALS = ("kappas", "lengths", "ratios", "edges", "budgets", "thresholds", "losses")
"""Arrays of float64 in a snapshot."""

WHITENING = ("edges", "scores", "weights")
"""Arrays of the whitening in a snapshot, beside its unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is kept of a stream's reference rows: counts per cell and no row.

    Made by `numeric` or `categorical`; 6 to 8 KB as bytes, 12 KB where it is
    whitened, and 2 KB for each further phase.

    Args:
        name: The stream's name; it also seeds the stream's tie-breaking draws.
        kind: `numeric` or `categorical`.
        counts: Rows per seasonal phase and cell. Shape (S, cells).
        serial: Dependence of its rows, measured in their time order, after whitening.
        blocks: Declared time blocks seen; 0 where none were declared.
        edges: Numeric: edges between cells. Shape (cells - 2,).
        labels: Categorical: categories with a cell of their own, most frequent first.
        seen: Categorical: which hashes of rarer values occurred. Shape (16384,).
        budgets: Budgets in rows for which thresholds were calibrated. Shape (B,).
        thresholds: Those thresholds. Shape (B,).
        whitening: What rows foretell of the next, where that takes dependence away; cells and
            counts are then those of the residuals. None: not needed, or of no use.
        losses: Mean loss of the model in each cell, shape (cells,); empty where none was given.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=5_000)
        >>> reference = Reference.numeric(rows, name="delay", budgets_rows=[10_000])
        >>> reference.rows, reference.kappa, reference.certificate(10_000).certified
        (5000, 1.0, True)

    Reference:
        V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world" (2005), ch. 7:
        ranks are uniform for a reference of any size.
    """

    name: str
    kind: str
    counts: NDArray[np.int64]
    serial: Dependence
    blocks: int = 0
    edges: NDArray[np.float64] = field(default_factory=lambda: NO_REALS)
    labels: tuple[str, ...] = ()
    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    budgets: NDArray[np.float64] = field(default_factory=lambda: NO_REALS)
    thresholds: NDArray[np.float64] = field(default_factory=lambda: NO_REALS)
    whitening: Whitening | None = None
    losses: NDArray[np.float64] = field(default_factory=lambda: NO_REALS)

    @classmethod
    def numeric(
        cls,
        values: object,
        *,
        name: str = "",
        cells: int = 253,
        blocks: NDArray[np.generic] | None = None,
        phases: object = None,
        losses: NDArray[np.float64] | None = None,
        budgets_rows: Sequence[float] = (),
        seed: int = 0,
    ) -> Reference:
        """Sketches numbers.

        Args:
            values: Reference rows in time order, NaN = missing. Shape (m,), m >= 100.
            name: Name of the stream.
            cells: Cells between the extremes. In [8, 253].
            blocks: Id of the time block of each row, for rows that depend on each other within
                a block, in whatever order. Shape (m,). None: none declared; what rows foretell
                of the next is then taken out, if that helps.
            phases: Seasonal phase of each row, from 0 (an hour of the day): rows are compared
                with those of their phase. Shape (m,). None: no season.
            losses: The model's loss on each row, NaN = unknown: what a change of this stream
                costs follows from it. Shape (m,).
            budgets_rows: Budgets to calibrate thresholds for, by resampling blocks.
            seed: Seed of that resampling and of ties.

        Raises:
            DriftInputError: Too few rows, all missing, all the same, or shapes differ.
        """
        if not 8 <= cells <= 253:
            raise DriftInputError("cells", f"{cells}", "between 8 and 253")
        numbers = as_numbers(as_column(np.asarray(values), name), name)
        season = phases_of_rows(phases, len(numbers))
        starts = declared_starts(blocks, len(numbers))
        sketch = sketch_numbers(numbers, season, starts, cells, name, seed)
        return cls._of(name, "numeric", sketch, season, starts, losses, budgets_rows, seed)

    @classmethod
    def categorical(
        cls,
        values: object,
        *,
        name: str = "",
        blocks: NDArray[np.generic] | None = None,
        phases: object = None,
        losses: NDArray[np.float64] | None = None,
        budgets_rows: Sequence[float] = (),
        seed: int = 0,
    ) -> Reference:
        """Sketches categories: the 48 most frequent, 12 buckets for the others, missing, unseen.

        Args:
            values: Reference rows in time order; None, NaN and "" = missing. Shape (m,), m >= 100.
            name: Name of the stream.
            blocks: As for `numeric`.
            phases: As for `numeric`.
            losses: As for `numeric`.
            budgets_rows: As for `numeric`.
            seed: As for `numeric`.

        Raises:
            DriftInputError: Too few rows, or shapes differ.
        """
        texts = as_texts(as_column(np.asarray(values), name), name)
        season = phases_of_rows(phases, len(texts))
        starts = declared_starts(blocks, len(texts))
        sketch = sketch_categories(texts, season, starts)
        return cls._of(name, "categorical", sketch, season, starts, losses, budgets_rows, seed)

    @classmethod
    def _of(
        cls,
        name: str,
        kind: str,
        sketch: Sketch,
        phases: NDArray[np.int16],
        starts: NDArray[np.int64] | None,
        losses: NDArray[np.float64] | None,
        budgets_rows: Sequence[float],
        seed: int,
    ) -> Reference:
        """Adds what the losses say and the thresholds for the given budgets."""
        made = cls(
            name=name,
            kind=kind,
            counts=sketch.counts,
            serial=sketch.serial,
            blocks=0 if starts is None else len(starts),
            edges=sketch.edges,
            labels=sketch.labels,
            seen=sketch.seen,
            whitening=sketch.whitening,
            losses=mean_losses(sketch.codes, losses, sketch.counts.shape[1]),
        )
        if not budgets_rows:
            return made
        rows = Rows(sketch.codes[None], phases)
        thresholds = thresholds_for(
            Bank([made], np.ones(1), seed), rows, starts, budgets_rows, seed
        )
        budgets = np.array(budgets_rows, dtype=np.float64)
        return replace(made, budgets=budgets, thresholds=np.array(thresholds))

    @property
    def rows(self) -> int:
        """Rows of the reference."""
        return int(self.counts.sum())

    @property
    def kappa(self) -> float:
        """Largest dependence ratio over families of bets; 1 = independent rows."""
        return float(self.serial.kappas.max())

    @property
    def dependence(self) -> dict[float, float]:
        """Dependence ratio at each block length in rows."""
        pairs = zip(self.serial.lengths, self.serial.ratios, strict=True)
        return {float(length): float(ratio) for length, ratio in pairs}

    @property
    def phases(self) -> int:
        """Seasonal phases; 1 = no season."""
        return len(self.counts)

    def codes(
        self, values: object, phases: NDArray[np.int16], before: NDArray[np.float64]
    ) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """Cells of new rows.

        Args:
            values: The rows. Shape (n,).
            phases: Their phases. Shape (n,).
            before: What whitening remembers of the rows before. Shape (MEMORY_ROWS,).

        Returns:
            Cells, shape (n,), and `before` of the next rows.

        Raises:
            DriftInputError: Values of the wrong type or shape.
        """
        if self.kind != "numeric":
            return category_codes(as_texts(values, self.name), self.labels, self.seen), before
        if self.whitening is None:
            return numeric_codes(values, self.edges, self.name), before
        raw = numeric_codes(values, self.whitening.edges, self.name)
        left, after = self.whitening.residuals(raw, phases, before)
        return numeric_codes(left, self.edges, self.name), after

    def own_codes(self, values: object, phases: NDArray[np.int16]) -> NDArray[np.int16]:
        """Cells of the very rows that this was made of, as they were counted. Shape (m,)."""
        if self.kind == "numeric":
            return self.codes(values, phases, np.zeros(MEMORY_ROWS))[0]
        return left_out_codes(as_texts(values, self.name), self.labels, self.seen)

    def cell_name(self, cell: int) -> str:
        """What a categorical cell holds, for a reader."""
        if 1 <= cell <= len(self.labels):
            return self.labels[cell - 1]
        if cell == 0:
            return "(missing)"
        return "(unseen)" if cell == CATEGORY_CELLS - 1 else f"(rare {cell - LABELS})"

    def certificate(self, budget_rows: float) -> Certificate:
        """Says whether this reference can promise `budget_rows` rows between false alarms."""
        dependent = self.kappa > 1.0 or self.blocks > 0 or self.whitening is not None
        found = certify(
            rows=self.rows,
            kappa=self.kappa,
            dependent=dependent,
            still_grows=self.serial.still_grows,
            blocks=self.blocks or None,
            budget_rows=budget_rows,
        )
        near = np.abs(np.log(self.budgets / budget_rows)) <= np.log(NEAR)
        if found.certified and dependent and not near.any():
            reason = "budget not certifiable: rows depend on each other, give it in `budgets_rows`"
            return replace(found, certified=False, reason=reason)
        return found

    def threshold(self, budget_rows: float) -> float:
        """Evidence at which to alarm for a budget, in rows.

        Taken in proportion from the calibrated budget nearest to it; without one, the
        threshold for independent rows.
        """
        if len(self.budgets) == 0:
            return independent_threshold([self.kind], budget_rows)
        nearest = int(np.argmin(np.abs(np.log(self.budgets / budget_rows))))
        return float(self.thresholds[nearest] * budget_rows / self.budgets[nearest])

    def merge(self, other: Reference) -> Reference:
        """Adds the counts of a sketch with the same cells; the more cautious promise stays.

        Raises:
            DriftInputError: The cells differ, a stream is whitened, or one has declared blocks.
        """
        if (self.blocks > 0) != (other.blocks > 0):
            raise DriftInputError(
                "other", "blocks declared for one only", "blocks for both, or none"
            )
        same = self.kind == other.kind and self.labels == other.labels
        same = same and self.counts.shape == other.counts.shape
        white = self.whitening is not None or other.whitening is not None
        if not same or white or not np.array_equal(self.edges, other.edges):
            raise DriftInputError("other", "a sketch with other cells", "the cells of this one")
        mine, theirs = self.counts.sum(axis=0), other.counts.sum(axis=0)
        known = len(self.losses) > 0 and len(other.losses) > 0
        costs = mine * self.losses + theirs * other.losses if known else NO_REALS
        common = [b for b in self.budgets if b in other.budgets]
        return replace(
            self,
            counts=self.counts + other.counts,
            seen=self.seen | other.seen,
            serial=self.serial.or_worse(other.serial),
            blocks=self.blocks + other.blocks,
            budgets=np.array(common, dtype=np.float64),
            thresholds=np.array([max(self.threshold(b), other.threshold(b)) for b in common]),
            losses=costs / np.maximum(mine + theirs, 1) if known else NO_REALS,
        )

    def snapshot(self) -> Snapshot:
        """Returns the sketch as arrays."""
        white = self.whitening
        parts: Snapshot = {}
        if white is not None:
            parts = {f"white_{name}": getattr(white, name) for name in WHITENING}
            parts["white_unit"] = np.array(white.unit)
        return parts | {
            "kind": np.array(KIND),
            "name": np.array(self.name),
            "stream": np.array(self.kind),
            "counts": self.counts,
            "kappas": self.serial.kappas,
            "lengths": self.serial.lengths,
            "ratios": self.serial.ratios,
            "flags": np.array([self.serial.still_grows, self.blocks]),
            "edges": self.edges,
            "labels": np.array(self.labels, dtype=np.str_),
            "seen": np.packbits(self.seen),
            "budgets": self.budgets,
            "thresholds": self.thresholds,
            "losses": self.losses,
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Reference:
        """Returns the sketch that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, KIND)
        reals = {part: snapshot[part].astype(np.float64) for part in REALS}
        white = None
        if "white_edges" in snapshot:
            edges, scores, weights = (snapshot[f"white_{n}"].astype(np.float64) for n in WHITENING)
            white = Whitening(edges, scores, weights, float(snapshot["white_unit"]))
        grows, blocks = (int(value) for value in snapshot["flags"])
        serial = Dependence(reals["lengths"], reals["ratios"], reals["kappas"], bool(grows))
        return cls(
            name=str(snapshot["name"]),
            kind=str(snapshot["stream"]),
            counts=snapshot["counts"].astype(np.int64),
            serial=serial,
            blocks=blocks,
            edges=reals["edges"],
            labels=tuple(str(label) for label in snapshot["labels"]),
            seen=np.unpackbits(snapshot["seen"].astype(np.uint8)).astype(np.bool_),
            budgets=reals["budgets"],
            thresholds=reals["thresholds"],
            whitening=white,
            losses=reals["losses"],
        )

    def to_bytes(self) -> bytes:
        """Writes the sketch; versioned, without pickle."""
        return pack(self.snapshot())

    @classmethod
    def from_bytes(cls, packed: bytes) -> Reference:
        """Reads what `to_bytes` wrote.

        Raises:
            DriftInputError: The bytes are something else, or of another version.
        """
        return cls.restore(unpack(packed))
