"""Counts of one thing within cells of another, then and now, and whether they differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtrc

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.snapshots import Snapshot

LEAST_GIVEN = 20
"""Rows, then and now, of a given cell for it to be compared."""

PARTS = ("given", "response", "before", "now", "effect")
"""Parts of a table in a snapshot."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Counts of a response within cells of something given, then and now.

    Args:
        given: Inner edges of what is given. Shape (G - 1,).
        response: Inner edges of the response. Shape (R - 1,).
        before: Reference rows. Shape (G, R).
        now: Live rows. Shape (G, R).
        effect: Design effect: rows that carry the information of one independent row. >= 1.
    """

    given: NDArray[np.float64]
    response: NDArray[np.float64]
    before: NDArray[np.int64]
    now: NDArray[np.int64]
    effect: float

    @classmethod
    def of(
        cls,
        given: NDArray[np.float64],
        response: NDArray[np.float64],
        edges: tuple[NDArray[np.float64], NDArray[np.float64]],
        blocks: NDArray[np.int64] | None,
    ) -> Table:
        """Counts reference rows; `blocks` (n,) are numbers from 0, or None."""
        shape = (len(edges[0]) + 1, len(edges[1]) + 1)
        table = cls(*edges, np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64), 1.0)
        before = table.count(given, response)
        if blocks is None:
            return replace(table, before=before)
        effect = _design_effect(table.places(given, response), blocks, before)
        return replace(table, before=before, effect=effect)

    def places(
        self, given: NDArray[np.float64], response: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Cell of each row, given first. Shape (n,)."""
        outer = np.searchsorted(self.given, given, side="right")
        inner = np.searchsorted(self.response, response, side="right")
        return np.asarray(outer * self.before.shape[1] + inner)

    def count(self, given: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows per cell. Shape (G, R)."""
        counts = np.bincount(self.places(given, response), minlength=self.before.size)
        return counts.reshape(self.before.shape)

    @property
    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Reference and live rows."""
        return self.before, self.now

    def plus(self, given: NDArray[np.float64], response: NDArray[np.float64]) -> Table:
        """The same with further live rows."""
        return replace(self, now=self.now + self.count(given, response))

    def emptied(self) -> Table:
        """The same without live rows."""
        return replace(self, now=np.zeros_like(self.now))

    def merge(self, other: Table) -> Table:
        """Adds rows of the same cells; the larger design effect stays.

        Raises:
            DriftInputError: The cells differ.
        """
        same = np.array_equal(self.given, other.given)
        if not same or not np.array_equal(self.response, other.response):
            raise DriftInputError("other", "a table with other cells", "the cells of this one")
        return replace(
            self,
            before=self.before + other.before,
            now=self.now + other.now,
            effect=max(self.effect, other.effect),
        )

    def snapshot(self) -> Snapshot:
        """Returns all of it as arrays."""
        return {part: np.array(getattr(self, part)) for part in PARTS}

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Table:
        """Returns the table that `snapshot` was taken from."""
        given, response = (snapshot[part].astype(np.float64) for part in PARTS[:2])
        before, now = (snapshot[part].astype(np.int64) for part in PARTS[2:4])
        return cls(given, response, before, now, float(snapshot["effect"]))

    def chance(self) -> float:
        """Chance of such a difference if the response, given the other, is as it was."""
        return chance_of(self.before, self.now, self.effect)


def chance_of(before: NDArray[np.int64], now: NDArray[np.int64], effect: float) -> float:
    """P-value of the G-test that each row of two tables (G, R) is of one distribution."""
    both = np.stack([before, now]).astype(np.float64)
    held = (both.sum(axis=2) >= LEAST_GIVEN).all(axis=0)
    both = both[:, held]
    expected = both.sum(axis=0) * both.sum(axis=2, keepdims=True) / both.sum(axis=(0, 2))[:, None]
    full = both > 0.0
    gained = 2.0 * float((both[full] * np.log(both[full] / expected[full])).sum())
    freedom = int(np.maximum((both.sum(axis=0) > 0.0).sum(axis=1) - 1, 0).sum())
    return float(chdtrc(freedom, gained / effect)) if freedom else 1.0


def _design_effect(
    places: NDArray[np.int64], blocks: NDArray[np.int64], counts: NDArray[np.int64]
) -> float:
    """How much more block sums vary, given the cell, than sums of independent rows; >= 1."""
    responses = counts.shape[1]
    by_block = np.zeros((int(blocks.max()) + 1, counts.size))
    np.add.at(by_block, (blocks, places), 1.0)
    by_block = by_block.reshape(-1, *counts.shape)
    rows = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(rows, 1)
    strayed = by_block - by_block.sum(axis=2, keepdims=True) * shares
    usual = rows * shares
    cells = float(((strayed**2).sum(axis=0) / np.maximum(usual, 1e-300)).sum())
    # What all cells of a block have in common, such as more of one label, adds up over them.
    common = float(
        ((strayed.sum(axis=1) ** 2).sum(axis=0) / np.maximum(usual.sum(axis=0), 1e-300)).sum()
    )
    freedom = responses - 1
    given = int((rows > 0).sum())
    largest = max(cells / (given * freedom), common / freedom)
    return float(max(largest * len(by_block) / max(len(by_block) - 1, 1), 1.0))
