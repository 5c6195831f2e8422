"""The state of many streams side by side: pools, bets and evidence.

A little over 300 lines: one state, and all that reads it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift import bets
from ciclo_drift.cells import CATEGORY_CELLS, as_numbers
from ciclo_drift.engine import best_engine, layout
from ciclo_drift.errors import DriftInputError
from ciclo_drift.rows import Rows, count_cells, phases_of_rows
from ciclo_drift.snapshots import within, without
from ciclo_drift.whitening import MEMORY_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ciclo_drift.reference import Reference
    from ciclo_drift.snapshots import Snapshot

ENGINE = best_engine()
"""The inner loops."""

CELLS = layout.GROUPS * layout.COARSE
"""Room for the cells of a numeric sketch: 253 between the extremes, beyond them, missing."""

MEMORIES_ROWS = (50.0, 200.0, 800.0)
"""Rows over which the predictions of categories fade, times kappa: a prediction that learns within
a day what is peculiar to that day alarms every week."""


class Bank:
    """Pools, bets and evidence of many streams; rows go in, evidence per row comes out.

    Args:
        references: Sketches, one a stream, of one season.
        shares: Weights of the streams and, behind them, of the sums. Shape (F,) or (F + 2,).
        seed: Seed of the draws that break ties; equal seeds give equal results.
        sums: Sketches of the sums over all numeric streams of a row's normal scores and of
            their squares: changes too small to see in any one stream. Two, or none.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        shares: NDArray[np.float64],
        seed: int,
        sums: Sequence[Reference] = (),
    ) -> None:
        self.references = tuple(references)
        self.shares = shares[: len(self.references)]
        self.seed = seed
        self.sums = Bank(sums, shares[len(self.references) :], seed) if sums else None
        self.season = self.references[0].phases
        self.numeric = [i for i, r in enumerate(self.references) if r.kind == "numeric"]
        self.categorical = [i for i, r in enumerate(self.references) if r.kind == "categorical"]
        self._plain = [i for i in self.numeric if self.references[i].whitening is None]
        names = np.array([zlib.crc32(r.name.encode()) for r in self.references], dtype=np.uint64)
        self.keys = names * np.uint64(0x9E3779B97F4A7C15)
        self._edges = np.full((len(self._plain), layout.EDGES), np.inf)
        for place, i in enumerate(self._plain):
            self._edges[place, : len(self.references[i].edges)] = self.references[i].edges
        kappas = [self.references[i].serial.kappas for i in self.numeric]
        self.tables, self.table_of = bets.tables_of(kappas)
        self._state: Snapshot = {}
        self._powers = np.array([1.0 / self.references[i].kappa for i in self.categorical])
        self.reset()

    @property
    def kappa(self) -> float:
        """Largest dependence ratio of all streams, sums included."""
        return max(reference.kappa for reference in self.all_references)

    @property
    def depends(self) -> bool:
        """Whether rows of a stream depend on each other, or did so before whitening."""
        return any(r.kappa > 1.0 or r.whitening is not None for r in self.all_references)

    @property
    def all_references(self) -> tuple[Reference, ...]:
        """The sketches of the streams and of the sums."""
        return self.references + (() if self.sums is None else self.sums.references)

    def reset(self) -> None:
        """Starts anew, from the references."""
        if self.sums is not None:
            self.sums.reset()
        self._fill([reference.counts for reference in self.references])

    def refill(self, rows: Rows, seed: int) -> None:
        """Starts anew with other reference rows in the pools and other draws."""
        self.seed = seed
        if self.sums is not None and rows.sums is not None:
            self.sums.refill(Rows(rows.sums, np.zeros(len(rows), dtype=np.int16)), seed)
        self._fill(
            [
                count_cells(codes, rows.phases, reference.counts.shape[1], self.season)
                for codes, reference in zip(rows.codes, self.references, strict=True)
            ]
        )

    def encode(self, columns: Mapping[str, object], phases: object = None) -> Rows:
        """Encodes rows, as `run` takes them; changes nothing.

        Args:
            columns: One array a stream. Shape (n,).
            phases: Their seasonal phases, where the references have some. Shape (n,).

        Raises:
            DriftInputError: A column is absent, lengths differ, or values are of the wrong type.
        """
        absent = [r.name for r in self.references if r.name not in columns]
        if absent:
            names = tuple(r.name for r in self.references)
            raise DriftInputError("columns", f"no {absent[0]!r}", f"all of {names}")
        numbers = {r.name: as_numbers(columns[r.name], r.name) for r in self._of(self.numeric)}
        given = [numbers.get(r.name, columns[r.name]) for r in self.references]
        lengths = {len(np.asarray(column)) for column in given}
        if len(lengths) > 1:
            raise DriftInputError("columns", f"lengths {sorted(lengths)}", "equal lengths")
        season = phases_of_rows(phases, lengths.pop(), self.season)
        codes = np.empty((len(self.references), len(season)), dtype=np.int16)
        memory = self._state["memory"].copy()
        if self._plain:
            plain = np.stack([numbers[r.name] for r in self._of(self._plain)])
            codes[self._plain] = ENGINE.cells_of(plain, self._edges)
        for i in sorted(set(range(len(given))) - set(self._plain)):
            codes[i], memory[i] = self.references[i].codes(given[i], season, memory[i])
        return Rows(codes, season, memory.astype(np.float64))

    def run(self, rows: Rows, grow: bool) -> NDArray[np.float64]:
        """Feeds rows and returns the evidence after each.

        Args:
            rows: What `encode` made.
            grow: Whether the rows join the pools.

        Returns:
            Weighted mean of the streams' Shiryaev-Roberts sums. Shape (n,).
        """
        out, dense = np.zeros(len(rows)), np.zeros((2, len(rows)))
        if self.numeric:
            ENGINE.run_numeric(
                np.ascontiguousarray(rows.codes[self.numeric]),
                rows.phases,
                self.row,
                self.seed,
                self.keys[self.numeric],
                *bets.rank_bins(),
                bets.bin_scores(),
                self.tables,
                self.table_of,
                bets.bet_weights(),
                self.shares[self.numeric],
                *(self._state[f"n_{part}"] for part in NUMERIC_STATE),
                grow,
                dense,
                out,
            )
        if self.categorical:
            ENGINE.run_categorical(
                np.ascontiguousarray(rows.codes[self.categorical]),
                rows.phases,
                self.row,
                self.seed,
                self.keys[self.categorical],
                self._powers,
                1.0 - self._powers[:, None] / np.array(MEMORIES_ROWS),
                self.shares[self.categorical],
                *(self._state[f"c_{part}"] for part in CATEGORICAL_STATE),
                grow,
                out,
            )
        if self.sums is not None:
            named = {r.name: sums for r, sums in zip(self.sums.references, dense, strict=True)}
            out += self.sums.run(self.sums.encode(named), grow)
        self._state["phases"][np.arange(self.row, self.row + len(rows)) % layout.RECENT] = (
            rows.phases
        )
        if rows.memory is not None:
            self._state["memory"] = rows.memory
        self.row += len(rows)
        return out

    def snapshot(self) -> Snapshot:
        """Returns the moving state; the references are not part of it."""
        copied = {name: array.copy() for name, array in self._state.items()}
        if self.sums is not None:
            copied |= within("sums_", self.sums.snapshot())
        return copied | {"row": np.array(self.row)}

    def load(self, snapshot: Snapshot) -> None:
        """Takes the state of `snapshot`, of a bank with the same references."""
        self.row = int(snapshot["row"])
        self._state = {name: snapshot[name].copy() for name in self._state}
        if self.sums is not None:
            self.sums.load(without("sums_", snapshot))

    def evidence(self) -> NDArray[np.float64]:
        """Shiryaev-Roberts sum of each stream, unweighted. Shape (F,)."""
        held = np.zeros(len(self.references))
        held[self.numeric] = self._state["n_evidence"].sum(axis=1)
        held[self.categorical] = self._state["c_evidence"].mean(axis=1)
        return held

    def weighted(self) -> float:
        """Weighted mean of the sums of all streams: what `run` returned last."""
        own = float(self.evidence() @ self.shares)
        return own if self.sums is None else own + self.sums.weighted()

    def of_stream(self, stream: int, part: str) -> NDArray[np.generic]:
        """A part of the state of one stream, as `kernels` names it."""
        if stream in self.numeric:
            return np.asarray(self._state[f"n_{part}"][self.numeric.index(stream)])
        return np.asarray(self._state[f"c_{part}"][self.categorical.index(stream)])

    def start_sums(self, stream: int) -> NDArray[np.float64]:
        """Sums of scores and squares since each bet's start. Shape (2, BETS)."""
        place = self.numeric.index(stream)
        return np.asarray(
            self._state["n_sums"][place][:, None] - self._state["n_start_sums"][:, place]
        )

    def recent(self, stream: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Cells and phases of a stream's kept rows, the latest last. Shapes (k,), k <= RECENT."""
        kept = np.arange(max(self.row - layout.RECENT, 0), self.row) % layout.RECENT
        cells = self.of_stream(stream, "recent").astype(np.int16)[kept]
        return cells, self._state["phases"].astype(np.int16)[kept]

    def _fill(self, counts: Sequence[NDArray[np.int64]]) -> None:
        """Starts anew with the given pools, shape (S, cells) each, one a stream."""
        self.row = 0
        pools = self._pools(counts, self.numeric, CELLS)
        bets_of = (len(self.numeric), bets.BETS)
        self._state = {
            "phases": np.zeros(layout.RECENT, dtype=np.int16),
            "memory": np.zeros((len(self.references), MEMORY_ROWS)),
            "n_counts": pools.astype(np.uint32),
            "n_coarse": _coarse(pools).astype(np.uint32),
            "n_sizes": pools.sum(axis=2),
            "n_sums": np.zeros((len(self.numeric), 2)),
            "n_evidence": np.zeros(bets_of),
            "n_product": np.ones(bets_of),
            "n_peak": np.ones(bets_of),
            "n_start": np.zeros(bets_of),
            "n_start_sums": np.zeros((2, *bets_of)),
            "n_recent": np.zeros((len(self.numeric), layout.RECENT), dtype=np.int16),
        }
        pools = self._pools(counts, self.categorical, CATEGORY_CELLS)
        memories = (len(self.categorical), len(MEMORIES_ROWS))
        self._state |= {
            "c_counts": pools,
            "c_sizes": pools.sum(axis=2),
            "c_fading": np.zeros((*memories, CATEGORY_CELLS)),
            "c_awaited": np.zeros((*memories, CATEGORY_CELLS)),
            "c_evidence": np.zeros(memories),
            "c_peak": np.zeros(memories),
            "c_start": np.zeros(memories),
            "c_recent": np.zeros((len(self.categorical), layout.RECENT), dtype=np.int16),
        }

    def _of(self, streams: Sequence[int]) -> list[Reference]:
        return [self.references[i] for i in streams]

    def _pools(
        self, counts: Sequence[NDArray[np.int64]], streams: Sequence[int], cells: int
    ) -> NDArray[np.int64]:
        """The counts of some streams side by side, at most `layout.POOL_ROWS` each."""
        pools = np.zeros((len(streams), self.season, cells), dtype=np.int64)
        for place, i in enumerate(streams):
            scale = -(-int(counts[i].sum()) // layout.POOL_ROWS)
            pools[place, :, : counts[i].shape[1]] = counts[i] // max(scale, 1)
        return pools


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
    "recent",
)
"""Order in which `kernels.run_numeric` takes the state."""

CATEGORICAL_STATE = (
    "counts",
    "sizes",
    "fading",
    "awaited",
    "evidence",
    "peak",
    "start",
    "recent",
)
"""Order in which `kernels.run_categorical` takes the state."""


def _coarse(pools: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of every sixteen cells. Shape (F, S, GROUPS)."""
    groups = pools.reshape(*pools.shape[:2], layout.GROUPS, layout.COARSE)
    return np.asarray(groups.sum(axis=3))
