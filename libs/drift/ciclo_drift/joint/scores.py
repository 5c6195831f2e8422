"""From vectors to named scalar scores: the map, and what the witnesses have seen so far."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import numpy as np

from ciclo_drift.joint import rowwise
from ciclo_drift.joint.features import MANY_AXES, FeatureMap, fit_map
from ciclo_drift.joint.layout import PAIR_POWER, SHOWN, Witness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.snapshots import Snapshot

MEMORIES_ROWS = (50, 200)
"""Rows over which witnesses forget. Longer ones find nothing sooner."""

LEAST_MEMORY = 20
"""Rows over which a witness forgets, at least."""

ROWS_PER_MEMORY = 12
"""Rows of the map for each row of memory: what is wrong with the map moves scores together for as
long as witnesses remember."""

WITNESS_SHARES = {"means": 0.3, "spreads": 0.2, "pairs": 0.2, "shapes": 0.1, "all means": 0.3}
"""Relative weight of each kind of witness."""

DISTANCE_SHARE = 0.1
"""Relative weight of the Mahalanobis distance, and of what lies outside the axes."""

COMPONENT_SHARE = 0.1
"""Relative weight of the leading components together."""

MOVING = ("recent", "usual", "squares", "count")
"""State, in the order in which `kernels.run` takes it."""


class Engine(Protocol):
    """What `kernels` and `rowwise` both hold."""

    def mean_features(self, vectors: NDArray[Any], fitted: FeatureMap, /) -> NDArray[Any]:
        """Mean of the features over rows."""

    def run(self, *state: Any) -> None:
        """Scores rows in order."""


def best_engine() -> Engine:
    """Returns the fastest engine that can run here."""
    if find_spec("numba") is None:
        return cast("Engine", rowwise)
    from ciclo_drift.joint import kernels

    return cast("Engine", kernels)


ENGINE = best_engine()
"""The inner loops."""


class Scores:
    """Turns vectors into scalar scores, in order.

    A witness remembers in which direction the features of recent rows lie from their mean, and
    scores the next row along it. It is chosen before the row is seen: without drift its score has
    mean 0 and one scale whatever it remembers, so scores are nearly independent over rows.

    Args:
        fitted: The map.
        centre: Mean of its features over the rows that it was fitted on. Shape (L,).
        memories: Rows over which witnesses forget. Shape (H,).
        moving: Arrays named in `MOVING`; taken over, not copied.

    Reference:
        A. Podkopaev, A. Ramdas, "Sequential predictive two-sample and independence testing",
        NeurIPS 2023: bets on a witness learned from the past; A. Gretton et al., "A kernel
        two-sample test", JMLR 13 (2012): the witness function.
    """

    def __init__(
        self,
        fitted: FeatureMap,
        centre: NDArray[np.float64],
        memories: NDArray[np.float64],
        moving: Snapshot,
    ) -> None:
        self.fitted, self.centre, self.memories = fitted, centre, memories
        self.moving = moving
        kept, q, dimensions = len(fitted.axes), len(fitted.turn), len(fitted.centre)
        ends = np.cumsum([q, q * (q + 1) // 2, len(fitted.whiten), dimensions])
        kinds = {"means": (0, ends[0], 1), "shapes": (ends[1], ends[2], 1)}
        if kept >= MANY_AXES:
            kinds["spreads"] = (ends[0], ends[1], 1)
            kinds["pairs"] = (ends[0], ends[1], PAIR_POWER)
        outside = fitted.noise > 0.0
        if outside:
            kinds["all means"] = (ends[2], ends[3], 1)
        self._witnesses: dict[str, Witness] = {}
        weights = {"mahalanobis": DISTANCE_SHARE} | ({"outside": DISTANCE_SHARE} if outside else {})
        shown = min(SHOWN, kept)
        weights |= {f"component {i + 1}": COMPONENT_SHARE / shown for i in range(shown)}
        columns = {name: i + (not outside and i > 0) for i, name in enumerate(weights)}
        for kind, (start, end, power) in kinds.items():
            # What one pair has done shows soon or not at all.
            used = memories[:1] if kind == "pairs" else memories
            for h, rows in enumerate(used):
                name = f"witness of {kind}, {rows:.0f} rows"
                columns[name] = 2 + kept + len(self._witnesses)
                weights[name] = WITNESS_SHARES[kind] / len(used)
                self._witnesses[name] = Witness(int(start), int(end), h, power)
        self._columns = columns
        self.shares = np.array(list(weights.values())) / sum(weights.values())

    @classmethod
    def fit(cls, vectors: NDArray[np.float64], seed: int) -> Self:
        """Fits the map on rows and starts without a memory.

        Raises:
            DriftInputError: See `fit_map`.
        """
        fitted, measuring = fit_map(vectors, seed)
        centre = np.asarray(ENGINE.mean_features(measuring, fitted))
        longest = max(len(vectors) // ROWS_PER_MEMORY, LEAST_MEMORY)
        memories = np.unique(np.minimum(MEMORIES_ROWS, longest)).astype(np.float64)
        made = cls(fitted, centre, memories, {})
        made.moving = {
            "recent": np.zeros((len(memories), len(centre))),
            "usual": np.zeros(len(centre)),
            "squares": np.ones(len(made._witnesses)),
            "count": np.zeros(1, dtype=np.int64),
        }
        return made

    def run(self, vectors: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Scores rows in order; rows with NaN or infinity score NaN and are not remembered.

        Args:
            vectors: Shape (n, d), C order.
        """
        out = np.empty((len(vectors), 2 + len(self.fitted.axes) + len(self._witnesses)))
        ENGINE.run(
            vectors,
            self.fitted,
            np.array(list(self._witnesses.values()), dtype=np.int64),
            self.memories,
            self.centre,
            *(self.moving[part] for part in MOVING),
            out,
        )
        return {name: out[:, column] for name, column in self._columns.items()}

    def shifts(self) -> NDArray[np.float64]:
        """How far the mean of each dimension has moved lately, in its deviations. Shape (d,)."""
        fitted = self.fitted
        recent = np.asarray(self.moving["recent"][-1] - self.moving["usual"], dtype=np.float64)
        if fitted.noise > 0.0:
            whole = recent[-len(fitted.centre) :]
            stretch = fitted.deviations - fitted.noise
            moved = fitted.noise * whole + (stretch * (fitted.axes @ whole)) @ fitted.axes
        else:
            means = recent[: len(fitted.turn)] @ fitted.turn
            moved = (means * fitted.deviations) @ fitted.axes
        return np.asarray(moved)

    def snapshot(self) -> Snapshot:
        """Returns map and state."""
        state: Snapshot = {f"map_{k}": np.asarray(v) for k, v in self.fitted._asdict().items()}
        state |= {"centre": self.centre, "memories": self.memories}
        return state | {name: self.moving[name].copy() for name in MOVING}

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Returns the scores that `snapshot` was taken from."""
        parts = (snapshot[f"map_{part}"] for part in FeatureMap._fields)
        fitted = FeatureMap._make(part if part.ndim else float(part) for part in parts)
        centre = np.asarray(snapshot["centre"], dtype=np.float64)
        memories = np.asarray(snapshot["memories"], dtype=np.float64)
        moving = {name: snapshot[name].copy() for name in MOVING}
        return cls(fitted, centre, memories, moving)
