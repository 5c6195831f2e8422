"""Coarse cells of several inputs: the only form in which rows are kept or counted here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.cells import (
    BUCKETS,
    LABELS,
    as_column,
    as_numbers,
    as_texts,
    category_codes,
    frequent_labels,
    left_out_codes,
    numeric_codes,
    numeric_edges,
)
from ciclo_drift.errors import DriftInputError
from ciclo_drift.snapshots import within, without

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ciclo_drift.snapshots import Snapshot

CELLS = 32
"""Cells of a number between its extremes. With 16, a fifth of the change of a loss
was missed after a shift of 1.5 deviations; with 32 an eighth."""


FINE_CELLS = 256
"""Cells that these are merged from."""


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """How one input falls into cells.

    Args:
        name: Its name.
        edges: A number's edges between cells; empty: a category. Shape (E,).
        labels: A category's most frequent values.
        seen: Hashes of its other values. Shape (16384,).
    """

    name: str
    edges: NDArray[np.float64]
    labels: tuple[str, ...]
    seen: NDArray[np.bool_]

    @classmethod
    def fit(cls, name: str, values: NDArray[np.generic]) -> tuple[Input, NDArray[np.int16]]:
        """Chooses cells for reference values, and places them. Shape (m,)."""
        if as_column(values, name).dtype.kind in "OUSb":
            texts = as_texts(values, name)
            labels, seen = frequent_labels(texts)
            return cls(name, np.empty(0), labels, seen), left_out_codes(texts, labels, seen)
        edges = _coarse_edges(as_numbers(values, name), name)
        return cls(name, edges, (), np.zeros(0, np.bool_)), numeric_codes(values, edges, name)

    @property
    def cells(self) -> int:
        """Number of cells, the one of missing values first."""
        return len(self.edges) + 2 if len(self.edges) else LABELS + BUCKETS + 2

    def codes(self, values: object) -> NDArray[np.int16]:
        """Cells of new values. Shape (n,)."""
        if len(self.edges):
            return numeric_codes(values, self.edges, self.name)
        return category_codes(as_texts(values, self.name), self.labels, self.seen)

    def inner(self, codes: NDArray[np.int16]) -> NDArray[np.int16]:
        """Cells, those beyond a number's extremes replaced by the outermost. Shape (n,)."""
        last = len(self.edges)
        return np.where(codes > 0, np.clip(codes, 2, last), 0).astype(np.int16) if last else codes


@dataclass(frozen=True, slots=True, eq=False)
class CoarseCells:
    """Cells of named inputs, numbered through; made by `fit`.

    Args:
        inputs: How each input falls into cells.
        counts: Reference rows of each cell, those beyond extremes left out. Shape (P,).
        known: Cells in which the reference had rows. Shape (P,).
    """

    inputs: tuple[Input, ...]
    counts: NDArray[np.int64]
    known: NDArray[np.bool_]

    @classmethod
    def fit(cls, columns: Mapping[str, object]) -> tuple[CoarseCells, NDArray[np.int64]]:
        """Makes the cells of reference columns, and places their own rows. Shape (m, F).

        Raises:
            DriftInputError: No column, lengths differ, or a number is constant or missing.
        """
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        _require_one_length(arrays)
        fitted = [Input.fit(name, array) for name, array in arrays.items()]
        inputs = tuple(found for found, _ in fitted)
        raw, places = _numbered(inputs, [codes for _, codes in fitted])
        size = sum(found.cells for found in inputs)
        counts = np.bincount(places.ravel(), minlength=size).astype(np.int64)
        return cls(inputs, counts, np.bincount(raw.ravel(), minlength=size) > 0), places

    @property
    def groups(self) -> list[slice]:
        """The cells of each input."""
        return [slice(first, end) for first, end in pairwise(_offsets(self.inputs).tolist())]

    def place(self, columns: Mapping[str, object]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Cells of new rows, shape (n, F), and whether an input was never seen, shape (n,).

        Numbers beyond the reference's extremes count as never seen and lie in the outermost cell.

        Raises:
            DriftInputError: An input is absent, lengths differ, or a value is of the wrong type.
        """
        absent = [one.name for one in self.inputs if one.name not in columns]
        if absent:
            raise DriftInputError("columns", f"no {absent}", "every input of the reference")
        _require_one_length({one.name: np.asarray(columns[one.name]) for one in self.inputs})
        codes = [one.codes(columns[one.name]) for one in self.inputs]
        raw, places = _numbered(self.inputs, codes)
        return places, np.asarray((~self.known[raw]).any(axis=1))

    def snapshot(self) -> Snapshot:
        """Returns the cells as arrays, without a kind: part of another snapshot."""
        names = np.array([one.name for one in self.inputs])
        state: Snapshot = {"names": names, "counts": self.counts, "known": self.known}
        for i, one in enumerate(self.inputs):
            labels = np.array(one.labels, dtype=np.str_)
            parts = {"edges": one.edges, "labels": labels, "seen": np.packbits(one.seen)}
            state |= within(f"{i}_", parts)
        return state

    @classmethod
    def restore(cls, snapshot: Snapshot) -> CoarseCells:
        """Returns what `snapshot` was taken from."""
        parts = [without(f"{i}_", snapshot) for i in range(len(snapshot["names"]))]
        inputs = tuple(
            Input(
                str(name),
                part["edges"].astype(np.float64),
                tuple(str(label) for label in part["labels"]),
                np.unpackbits(part["seen"].astype(np.uint8)).astype(np.bool_),
            )
            for name, part in zip(snapshot["names"], parts, strict=True)
        )
        return cls(inputs, snapshot["counts"].astype(np.int64), snapshot["known"] != 0)


def _coarse_edges(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Edges between cells of about equally many rows; a few repeated values have one each.

    An outermost cell with few rows would be expected to lose what rows lose on average.
    """
    edges = numeric_edges(values, FINE_CELLS, name)
    if len(edges) <= CELLS + 1:
        return edges
    codes = numeric_codes(values, edges, name)
    below = np.cumsum(np.bincount(codes, minlength=len(edges) + 2)[2:-1])
    # The first edge at or past each share of the rows; the extremes stay.
    wanted = np.searchsorted(below, below[-1] * np.arange(1, CELLS) / CELLS) + 1
    kept: NDArray[np.float64] = edges[np.unique([0, *wanted, len(edges) - 1])]
    return kept


def _offsets(inputs: tuple[Input, ...]) -> NDArray[np.int64]:
    """First cell of each input, and the number of all. Shape (F + 1,)."""
    return np.cumsum([0, *(one.cells for one in inputs)])


def _numbered(
    inputs: tuple[Input, ...], codes: list[NDArray[np.int16]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells numbered through, as they are and without those beyond extremes. Shape (n, F)."""
    first = _offsets(inputs)[:-1]
    inner = [one.inner(code) for one, code in zip(inputs, codes, strict=True)]
    return np.stack(codes, axis=1) + first, np.stack(inner, axis=1) + first


def _require_one_length(arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuses columns that are not of one length."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if not shapes or len(set(shapes.values())) > 1:
        raise DriftInputError("columns", f"shapes {shapes}", "one or more, of equal length")
