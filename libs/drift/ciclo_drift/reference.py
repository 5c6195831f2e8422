"""The reference of one stream: a sketch of counts, its serial dependence, what it can promise.

A little over 300 lines: a value with two constructors, and what it says of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift import bets
from ciclo_drift.bank import CATEGORY_CELLS, Bank
from ciclo_drift.calibration import Certificate, certify, independent_threshold, thresholds_for
from ciclo_drift.cells import (
    LABELS,
    as_column,
    as_texts,
    category_codes,
    frequent_labels,
    left_out_codes,
    numeric_codes,
    numeric_edges,
)
from ciclo_drift.dependence import (
    Dependence,
    declared_starts,
    largest_ratio,
    mean_ratio,
    measure_dependence,
)
from ciclo_drift.errors import DriftInputError
from ciclo_drift.snapshots import Snapshot, pack, require_kind, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

KIND = "ciclo_drift.Reference/1"

REALS = ("kappas", "lengths", "ratios", "edges", "budgets", "thresholds")
"""Arrays of float64 in a snapshot."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is kept of a stream's reference rows: counts per cell and no row.

    Made by `numeric` or `categorical`; 6 to 8 KB as bytes.

    Args:
        name: The stream's name; it also seeds the stream's tie-breaking draws.
        kind: `numeric` or `categorical`.
        counts: Rows per cell. Shape (cells,).
        serial: Dependence of its rows, measured in their time order.
        blocks: Declared time blocks seen; 0 where none were declared.
        edges: Numeric: edges between cells. Shape (cells - 2,).
        labels: Categorical: categories with a cell of their own, most frequent first.
        seen: Categorical: hashes of the others that occurred. Shape (16384,).
        budgets: Budgets with a calibrated threshold, in rows. Shape (B,).
        thresholds: Those thresholds. Shape (B,).

    Example:
        >>> values = np.random.default_rng(0).normal(size=5_000)
        >>> reference = Reference.numeric(values, name="delay")
        >>> reference.rows, len(reference.counts), round(reference.kappa, 1)
        (5000, 259, 1.0)
        >>> reference.certificate(10_000).certified
        True
    """

    name: str
    kind: str
    counts: NDArray[np.int64]
    serial: Dependence
    blocks: int = 0
    edges: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    labels: tuple[str, ...] = ()
    seen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    budgets: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    thresholds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @classmethod
    def numeric(
        cls,
        values: object,
        *,
        name: str = "",
        cells: int = 256,
        blocks: NDArray[np.generic] | None = None,
        budgets_rows: Sequence[float] = (),
        seed: int = 0,
    ) -> Reference:
        """Sketches numbers.

        Args:
            values: Reference rows in time order, NaN = missing. Shape (m,), m >= 100.
            name: Name of the stream.
            cells: Cells between the extremes. In [8, 256].
            blocks: Id of the time block of each row, for rows that depend on each other within
                a block. Shape (m,). None: none declared.
            budgets_rows: Budgets to calibrate thresholds for, by resampling blocks.
            seed: Seed of that resampling and of ties.

        Raises:
            DriftInputError: Too few rows, all missing, all the same, or shapes differ.
        """
        if not 8 <= cells <= 256:
            raise DriftInputError("cells", f"{cells}", "between 8 and 256")
        numbers = as_column(np.asarray(values), name)
        codes = numeric_codes(numbers, np.empty(0), name)
        edges = numeric_edges(numbers.astype(np.float64), cells, name)
        codes = numeric_codes(numbers, edges, name)
        counts = np.bincount(codes, minlength=len(edges) + 2).astype(np.int64)
        scores = bets.scores_of(codes, counts, seed)
        families = np.repeat(np.arange(4), np.diff((0, *bets.FAMILY_ENDS)))
        starts = declared_starts(blocks, len(codes))
        shape = measure_dependence(scores, families, starts, largest_ratio)
        made = cls(name, "numeric", counts, shape, 0 if starts is None else len(starts), edges)
        return made._calibrated(codes, starts, budgets_rows, seed)

    @classmethod
    def categorical(
        cls,
        values: object,
        *,
        name: str = "",
        blocks: NDArray[np.generic] | None = None,
        budgets_rows: Sequence[float] = (),
        seed: int = 0,
    ) -> Reference:
        """Sketches categories: the 48 most frequent, 12 buckets for the others, missing, unseen.

        Args:
            values: Reference rows in time order; None, NaN and "" = missing. Shape (m,), m >= 100.
            name: Name of the stream.
            blocks: As for `numeric`.
            budgets_rows: As for `numeric`.
            seed: As for `numeric`.

        Raises:
            DriftInputError: Too few rows, or shapes differ.
        """
        texts = as_texts(as_column(np.asarray(values), name), name)
        labels, seen = frequent_labels(texts)
        codes = left_out_codes(texts, labels, seen)
        counts = np.bincount(codes, minlength=CATEGORY_CELLS).astype(np.int64)
        used = np.flatnonzero(counts)
        scores = (codes[:, None] == used[None, :]).astype(np.float64)
        starts = declared_starts(blocks, len(codes))
        shape = measure_dependence(scores, np.zeros(len(used), dtype=np.int64), starts, mean_ratio)
        declared = 0 if starts is None else len(starts)
        made = cls(name, "categorical", counts, shape, declared, labels=labels, seen=seen)
        return made._calibrated(codes, starts, budgets_rows, seed)

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

    def codes(self, values: object) -> NDArray[np.int16]:
        """Cells of new rows. Shape (n,).

        Raises:
            DriftInputError: Values of the wrong type or shape.
        """
        if self.kind == "numeric":
            return numeric_codes(values, self.edges, self.name)
        return category_codes(as_texts(values, self.name), self.labels, self.seen)

    def own_codes(self, values: object) -> NDArray[np.int16]:
        """Cells of the very rows that this was made of, as they were counted. Shape (m,)."""
        if self.kind == "numeric":
            return numeric_codes(values, self.edges, self.name)
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
        found = certify(
            rows=self.rows,
            kappa=self.kappa,
            still_grows=self.serial.still_grows,
            blocks=self.blocks or None,
            budget_rows=budget_rows,
        )
        dependent = self.kappa > 1.0 or self.blocks > 0
        if found.certified and dependent and len(self.budgets) == 0:
            reason = "budget not certifiable: rows depend on each other, give `budgets_rows`"
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
            DriftInputError: The cells differ.
        """
        same = self.kind == other.kind and self.labels == other.labels
        if not same or not np.array_equal(self.edges, other.edges):
            raise DriftInputError("other", "a sketch with other cells", "the cells of this one")
        common = [b for b in self.budgets if b in other.budgets]
        return replace(
            self,
            counts=self.counts + other.counts,
            seen=self.seen | other.seen,
            serial=max(self.serial, other.serial, key=lambda serial: float(serial.kappas.max())),
            blocks=self.blocks + other.blocks,
            budgets=np.array(common, dtype=np.float64),
            thresholds=np.array([max(self.threshold(b), other.threshold(b)) for b in common]),
        )

    def snapshot(self) -> Snapshot:
        """Returns the sketch as arrays."""
        return {
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
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Reference:
        """Returns the sketch that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, KIND)
        reals = {part: snapshot[part].astype(np.float64) for part in REALS}
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

    def _calibrated(
        self,
        codes: NDArray[np.int16],
        starts: NDArray[np.int64] | None,
        budgets_rows: Sequence[float],
        seed: int,
    ) -> Reference:
        """Adds thresholds for the given budgets."""
        if not budgets_rows:
            return self
        bank = Bank([self], np.ones(1), seed)
        thresholds = thresholds_for(bank, codes[:, None], starts, budgets_rows, seed)
        budgets = np.array(budgets_rows, dtype=np.float64)
        return replace(self, budgets=budgets, thresholds=np.array(thresholds))
