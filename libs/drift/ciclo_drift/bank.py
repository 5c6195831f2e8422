"""The state of many streams side by side, and what it says when asked for culprits."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift import bets, layout
from ciclo_drift.alarms import Culprit
from ciclo_drift.cells import as_numbers
from ciclo_drift.engine import best_engine
from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ciclo_drift.reference import Reference
    from ciclo_drift.snapshots import Snapshot

ENGINE = best_engine()
"""The inner loops."""

CELLS = layout.GROUPS * layout.COARSE
"""Room for the cells of a numeric sketch: above 256 + 3."""

CATEGORY_CELLS = 62
"""Cells of a categorical sketch: missing, 48 frequent values, 12 buckets, unseen."""

CATEGORY_ROOM = -(-CATEGORY_CELLS // layout.COARSE) * layout.COARSE
"""The same, as a multiple of `layout.COARSE`."""

MEMORIES_ROWS = (50.0, 200.0, 800.0)
"""Rows over which the predictions of categories fade, times kappa: a prediction that learns within
a day what is peculiar to that day alarms every week."""

TAIL_NAMES = ("tail_low", "tail_high")


class Bank:
    """Pools, bets and evidence of many streams; rows go in, evidence per row comes out.

    Args:
        references: Sketches, one a stream.
        shares: Weights of the streams, summing to 1. Shape (F,).
        seed: Seed of the draws that break ties; equal seeds give equal results.
    """

    def __init__(
        self, references: Sequence[Reference], shares: NDArray[np.float64], seed: int
    ) -> None:
        self.references = tuple(references)
        self.shares = shares
        self.seed = seed
        self.numeric = [i for i, r in enumerate(self.references) if r.kind == "numeric"]
        self.categorical = [i for i, r in enumerate(self.references) if r.kind == "categorical"]
        keys = np.array([zlib.crc32(r.name.encode()) for r in self.references], dtype=np.uint64)
        self._keys = keys * np.uint64(0x9E3779B97F4A7C15)
        kappas = [self.references[i].serial.kappas for i in self.numeric]
        edges = [self.references[i].edges for i in self.numeric]
        self._edges = np.full((len(edges), layout.EDGES), np.inf)
        for place, found in enumerate(edges):
            self._edges[place, : len(found)] = found
        self._tables, self._table_of = bets.tables_of(kappas)
        self._powers = np.array([1.0 / self.references[i].kappa for i in self.categorical])
        self.reset([r.counts for r in self.references])

    def reset(self, counts: Sequence[NDArray[np.int64]]) -> None:
        """Starts anew with the given pools, one a stream."""
        self.row = 0
        pools = self._pools(counts, self.numeric, CELLS)
        bets_of = (len(self.numeric), bets.BETS)
        self._state: Snapshot = {
            "n_counts": pools.astype(np.uint32),
            "n_coarse": _coarse(pools).astype(np.uint32),
            "n_sizes": pools.sum(axis=1),
            "n_sums": np.zeros((len(self.numeric), 2)),
            "n_evidence": np.zeros(bets_of),
            "n_product": np.ones(bets_of),
            "n_peak": np.ones(bets_of),
            "n_start": np.zeros(bets_of),
            "n_start_sums": np.zeros((2, *bets_of)),
        }
        pools = self._pools(counts, self.categorical, CATEGORY_ROOM)
        memories = (len(self.categorical), len(MEMORIES_ROWS))
        self._state |= {
            "c_counts": np.ascontiguousarray(pools[:, :CATEGORY_CELLS]),
            "c_coarse": _coarse(pools),
            "c_sizes": pools.sum(axis=1, keepdims=True),
            "c_recent": np.zeros((*memories, CATEGORY_CELLS)),
            "c_evidence": np.zeros(memories),
            "c_peak": np.zeros(memories),
            "c_start": np.zeros(memories),
        }

    def encode(self, columns: Mapping[str, object]) -> NDArray[np.int16]:
        """Cells of rows, as `run` takes them. Shape (F, n).

        Raises:
            DriftInputError: A column is absent, lengths differ, or values are of the wrong type.
        """
        absent = [r.name for r in self.references if r.name not in columns]
        if absent:
            names = tuple(r.name for r in self.references)
            raise DriftInputError("columns", f"no {absent[0]!r}", f"all of {names}")
        numbers = [as_numbers(columns[r.name], r.name) for r in self._of(self.numeric)]
        texts = [r.codes(columns[r.name]) for r in self._of(self.categorical)]
        lengths = {len(column) for column in numbers} | {len(column) for column in texts}
        if len(lengths) > 1:
            raise DriftInputError("columns", f"lengths {sorted(lengths)}", "equal lengths")
        codes = np.empty((len(self.references), lengths.pop()), dtype=np.int16)
        if numbers:
            codes[self.numeric] = ENGINE.cells_of(np.stack(numbers), self._edges)
        if texts:
            codes[self.categorical] = np.stack(texts)
        return codes

    def run(self, codes: NDArray[np.int16], grow: bool) -> NDArray[np.float64]:
        """Feeds rows and returns the evidence after each.

        Args:
            codes: Cells of the rows, streams in order of `references`. Shape (F, n).
            grow: Whether the rows join the pools.

        Returns:
            Weighted mean of the streams' Shiryaev-Roberts sums. Shape (n,).
        """
        out = np.zeros(codes.shape[1])
        if self.numeric:
            ENGINE.run_numeric(
                np.ascontiguousarray(codes[self.numeric]),
                self.row,
                self.seed,
                self._keys[self.numeric],
                *bets.rank_bins(),
                bets.bin_scores(),
                self._tables,
                self._table_of,
                bets.bet_weights(),
                self.shares[self.numeric],
                *(self._state[f"n_{part}"] for part in NUMERIC_STATE),
                grow,
                out,
            )
        if self.categorical:
            ENGINE.run_categorical(
                np.ascontiguousarray(codes[self.categorical].T),
                self.row,
                self.seed,
                self._keys[self.categorical],
                self._powers,
                1.0 - self._powers[:, None] / np.array(MEMORIES_ROWS),
                self.shares[self.categorical],
                *(self._state[f"c_{part}"] for part in CATEGORICAL_STATE),
                grow,
                out,
            )
        self.row += codes.shape[1]
        return out

    def snapshot(self) -> Snapshot:
        """Returns the moving state; the references are not part of it."""
        copied = {name: array.copy() for name, array in self._state.items()}
        return copied | {"row": np.array(self.row)}

    def load(self, snapshot: Snapshot) -> None:
        """Takes the state of `snapshot`, of a bank with the same references."""
        self.row = int(snapshot["row"])
        self._state = {name: snapshot[name].copy() for name in self._state}

    def evidence(self) -> NDArray[np.float64]:
        """Shiryaev-Roberts sum of each stream, unweighted. Shape (F,)."""
        held = np.zeros(len(self.references))
        numeric = np.asarray(self._state["n_evidence"], dtype=np.float64)
        categorical = np.asarray(self._state["c_evidence"], dtype=np.float64)
        held[self.numeric] = numeric.sum(axis=1)
        held[self.categorical] = categorical.mean(axis=1)
        return held

    def _of(self, streams: Sequence[int]) -> list[Reference]:
        return [self.references[i] for i in streams]

    def _pools(
        self, counts: Sequence[NDArray[np.int64]], streams: Sequence[int], cells: int
    ) -> NDArray[np.int64]:
        """The counts of some streams side by side, at most `layout.POOL_ROWS` each."""
        pools = np.zeros((len(streams), cells), dtype=np.int64)
        for place, i in enumerate(streams):
            scale = -(-int(counts[i].sum()) // layout.POOL_ROWS)
            pools[place, : len(counts[i])] = counts[i] // max(scale, 1)
        return pools

    def culprits(self) -> tuple[Culprit, ...]:
        """Every stream's part in the evidence, the largest first."""
        held = self.evidence() * self.shares
        shares = held / max(float(held.sum()), 1e-300)
        found = [self._numeric_culprit(p, i, shares[i]) for p, i in enumerate(self.numeric)]
        found += [self._category_culprit(p, i, shares[i]) for p, i in enumerate(self.categorical)]
        return tuple(sorted(found, key=lambda culprit: (-culprit.share, culprit.stream)))

    def _numeric_culprit(self, place: int, stream: int, share: float) -> Culprit:
        ratios = self._state["n_peak"][place] * self._state["n_product"][place]
        best = int(np.argmax(ratios * bets.bet_weights()))
        since = int(self._state["n_start"][place, best])
        rows = max(self.row - since, 1)
        sums = self._state["n_sums"][place] - self._state["n_start_sums"][:, place, best]
        mean, square = (float(value) / rows for value in sums)
        family = bets.FAMILIES[int(np.searchsorted(bets.FAMILY_ENDS, best, side="right"))]
        change, size = "shape", mean
        if family == "mean":
            change = "up" if mean > 0.0 else "down"
        elif family == "spread":
            size = math.sqrt(max(square - mean**2, 0.0))
            change = "wider" if size > 1.0 else "narrower"
        elif family == "tail":
            change = TAIL_NAMES[(best - bets.FAMILY_ENDS[1]) // len(bets.TAILS)]
        return Culprit(self.references[stream].name, since, float(share), change, size, None)

    def _category_culprit(self, place: int, stream: int, share: float) -> Culprit:
        best = int(np.argmax(self._state["c_peak"][place]))
        since = int(self._state["c_start"][place, best])
        reference = self.references[stream]
        recent = self._state["c_recent"][place, best]
        now = recent / max(float(recent.sum()), 1e-300)
        before = reference.counts / reference.counts.sum()
        half = float(np.abs(now - before).sum()) / 2.0
        # The cell that parts the two distributions most; half a row each, lest one of them be 0.
        floor = 0.5 / reference.counts.sum()
        parted = (now - before) * np.log((now + floor) / (before + floor))
        name = reference.cell_name(int(np.argmax(parted)))
        return Culprit(reference.name, since, float(share), "categories", half, name)


NUMERIC_STATE = (
    "counts",
    "coarse",
    "sizes",
    "sums",
    "evidence",
    "product",
    "peak",
    "start",
    "start_sums",
)
"""Order in which `kernels.run_numeric` takes the state."""

CATEGORICAL_STATE = ("counts", "coarse", "sizes", "recent", "evidence", "peak", "start")
"""Order in which `kernels.run_categorical` takes the state."""


def _coarse(pools: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of every sixteen cells. Shape (F, cells / 16)."""
    starts = np.arange(0, pools.shape[1], layout.COARSE)
    return np.asarray(np.add.reduceat(pools, starts, axis=1))
