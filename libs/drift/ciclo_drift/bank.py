"""The state of many streams side by side, and what it says when asked for culprits."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift import bets, kernels
from ciclo_drift.alarms import Culprit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ciclo_drift.reference import Reference
    from ciclo_drift.snapshots import Snapshot

CELLS = 272
"""Room for the cells of a numeric sketch: a multiple of `kernels.COARSE`, above 256 + 3."""

CATEGORY_CELLS = 62
"""Cells of a categorical sketch: missing, 48 frequent values, 12 buckets, unseen."""

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
        self._levels = np.array(
            [[bets.tempering_level(float(k)) for k in row] for row in kappas], dtype=np.int64
        ).reshape(-1, len(bets.FAMILIES))
        self._powers = np.array([1.0 / self.references[i].kappa for i in self.categorical])
        self.reset([r.counts for r in self.references])

    def reset(self, counts: Sequence[NDArray[np.int64]]) -> None:
        """Starts anew with the given pools, one a stream."""
        self.row = 0
        self._state: Snapshot = {}
        for prefix, streams, cells in (
            ("n", self.numeric, CELLS),
            ("c", self.categorical, -(-CATEGORY_CELLS // kernels.COARSE) * kernels.COARSE),
        ):
            pools = np.zeros((len(streams), cells), dtype=np.int64)
            for place, i in enumerate(streams):
                pools[place, : len(counts[i])] = counts[i]
            width = bets.BETS if prefix == "n" else len(MEMORIES_ROWS)
            grouped = pools.reshape(len(streams), cells // kernels.COARSE, kernels.COARSE).sum(
                axis=2
            )
            if prefix == "c":
                pools = np.ascontiguousarray(pools[:, :CATEGORY_CELLS])
            self._state |= {
                f"{prefix}_counts": pools,
                f"{prefix}_coarse": grouped,
                f"{prefix}_sizes": pools.sum(axis=1, keepdims=True),
                f"{prefix}_evidence": np.zeros((len(streams), width)),
                f"{prefix}_peak": np.zeros((len(streams), width)),
                f"{prefix}_start": np.zeros((len(streams), width)),
            }
        self._state["n_sums"] = np.zeros((len(self.numeric), 2))
        self._state["n_start_sums"] = np.zeros((2, len(self.numeric), bets.BETS))
        recent = (len(self.categorical), len(MEMORIES_ROWS), CATEGORY_CELLS)
        self._state["c_recent"] = np.zeros(recent)

    def run(self, codes: NDArray[np.int16], grow: bool) -> NDArray[np.float64]:
        """Feeds rows and returns the evidence after each.

        Args:
            codes: Cells of the rows, streams in order of `references`. Shape (n, F).
            grow: Whether the rows join the pools.

        Returns:
            Weighted mean of the streams' Shiryaev-Roberts sums. Shape (n,).
        """
        out = np.zeros(len(codes))
        if self.numeric:
            run_numeric: Callable[..., None] = kernels.run_numeric
            run_numeric(
                np.ascontiguousarray(codes[:, self.numeric]),
                self.row,
                self.seed,
                self._keys[self.numeric],
                bets.rank_edges(),
                bets.bin_scores(),
                bets.tempered_ratios(),
                np.array(bets.FAMILY_ENDS),
                bets.bet_weights(),
                self._levels,
                self.shares[self.numeric],
                *(self._state[f"n_{part}"] for part in NUMERIC_STATE),
                grow,
                out,
            )
        if self.categorical:
            run_categorical: Callable[..., None] = kernels.run_categorical
            run_categorical(
                np.ascontiguousarray(codes[:, self.categorical]),
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
        self.row += len(codes)
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
        held[self.numeric] = numeric @ bets.bet_weights()
        held[self.categorical] = categorical.mean(axis=1)
        return held

    def culprits(self) -> tuple[Culprit, ...]:
        """Every stream's part in the evidence, the largest first."""
        held = self.evidence() * self.shares
        shares = held / max(float(held.sum()), 1e-300)
        found = [self._numeric_culprit(p, i, shares[i]) for p, i in enumerate(self.numeric)]
        found += [self._category_culprit(p, i, shares[i]) for p, i in enumerate(self.categorical)]
        return tuple(sorted(found, key=lambda culprit: (-culprit.share, culprit.stream)))

    def _numeric_culprit(self, place: int, stream: int, share: float) -> Culprit:
        best = int(np.argmax(self._state["n_peak"][place] * bets.bet_weights()))
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


NUMERIC_STATE = ("counts", "coarse", "sizes", "sums", "evidence", "peak", "start", "start_sums")
"""Order in which `kernels.run_numeric` takes the state."""

CATEGORICAL_STATE = ("counts", "coarse", "sizes", "recent", "evidence", "peak", "start")
"""Order in which `kernels.run_categorical` takes the state."""
