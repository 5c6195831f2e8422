"""Direct loss estimation: how large a loss is to be expected of these inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ciclo_drift.blocks import finite_vector, sum_by_block
from ciclo_drift.errors import DriftInputError
from ciclo_drift.quality.additive import Additive, fit_additive
from ciclo_drift.quality.coarse import CoarseCells
from ciclo_drift.quality.estimate import (
    DEFAULT_LIMITS,
    Estimate,
    Limits,
    bearing_rows,
    half_width,
    spread,
    stretches,
)
from ciclo_drift.quality.trust import Reconciled, Trust
from ciclo_drift.snapshots import Snapshot, require_kind, within, without

if TYPE_CHECKING:
    from collections.abc import Mapping

Parts = tuple[CoarseCells, Additive, Trust]
"""What is learnt of a reference."""

Rows = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
"""Reference rows: cells, shape (m, F); out-of-fold error and stretch of time, shape (m,)."""

LEAST_NOISE = 0.1
"""Noise of a row is at least this share of the reference's: its model is linear, and could fall
below 0 where it has seen nothing."""


class LossRegression:
    """Estimates the mean loss of rows from their inputs, without labels.

    A model of the loss, fitted to held-out reference rows, is averaged over live rows. Right as
    long as the loss to be expected given the inputs stays what it was and is a sum of effects of
    single inputs; give the prediction as one of them. The interval covers the noise of losses
    given the inputs (with the design effect of the reference's blocks) and the noise of the
    model, both from out-of-fold errors.

    An additive model on quantile cells, not a boosted ensemble: its mean over live rows needs
    only counts per cell, so that a window is a few hundred integers whatever the batching; it is
    kept as arrays, is fitted by one linear system, and states its own error.

    Made by `fit`. Time of an update: 0.1 us a row and input. No row is kept.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=4_000)
        >>> quality = LossRegression.fit({"x": x}, np.abs(x * rng.normal(size=4_000)))
        >>> quality.update({"x": rng.normal(0.0, 0.5, size=1_000)})
        >>> now = quality.estimate()
        >>> round(now.value, 2), round(now.lower, 2), round(now.upper, 2), now.valid
        (0.32, 0.3, 0.34, True)

    Reference:
        C. Stone, "Additive regression and other nonparametric models", Annals of Statistics 13
        (1985). K.-Y. Liang, S. Zeger, "Longitudinal data analysis using generalized linear
        models", Biometrika 73 (1986): errors by block.
        NannyML, documentation, "Direct loss estimation".
    """

    KIND = "ciclo_drift.LossRegression/1"

    def __init__(self, metric: str, cells: CoarseCells, model: Additive, trust: Trust) -> None:
        self.metric = metric
        self._cells, self._model, self._trust = cells, model, trust
        self.clear()

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, object],
        losses: NDArray[np.float64],
        *,
        blocks: NDArray[np.generic] | None = None,
        metric: str = "loss",
        limits: Limits = DEFAULT_LIMITS,
    ) -> Self:
        """Learns from held-out reference rows in time order.

        Args:
            columns: Inputs by name: numbers (NaN = missing) or categories. Shape (m,), m >= 200.
            losses: Loss of each row. Shape (m,), finite, not constant.
            blocks: Id of each row's time block, growing with time, where rows of a block are not
                independent; at least 5. Shape (m,).
            metric: Name of the loss, for reports.
            limits: When an estimate is valid.

        Raises:
            DriftInputError: Too few rows or blocks, shapes differ, or a value is not usable.
        """
        parts, _ = learn(columns, losses, blocks, limits)
        return cls(metric, *parts)

    def update(self, columns: Mapping[str, object]) -> None:
        """Adds rows to the window; any batching gives the same.

        Args:
            columns: As for `fit`; further columns are ignored. Shape (n,).

        Raises:
            DriftInputError: An input is absent, lengths differ, or values are of the wrong type;
                no row is counted.
        """
        places, outside = self._cells.place(columns)
        self._counts += np.bincount(places.ravel(), minlength=len(self._counts))
        self._rows += len(places)
        self._outside += int(outside.sum())

    def estimate(self) -> Estimate:
        """What the mean loss of the window is thought to be; changes nothing."""
        value, variance, effective = self._weigh() if self._rows else (math.nan, math.inf, 0.0)
        level, known = self._trust.limits.level, len(self._model.influence)
        half = half_width(variance, level, known)
        outside = self._outside / max(self._rows, 1)
        reason = self._trust.objection(self._rows, outside, effective)
        ends = (value - half, value + half) if self._rows else (-math.inf, math.inf)
        return Estimate(
            self.metric, value, *ends, self._rows, effective, outside, not reason, reason
        )

    def clear(self) -> None:
        """Starts the next window; what matured labels said stays."""
        self._counts = np.zeros(len(self._cells.counts), dtype=np.int64)
        self._rows = self._outside = 0

    def reset(self) -> None:
        """Starts anew: no rows, and nothing matured."""
        self.clear()
        self._trust.reset()

    def excess(self, columns: Mapping[str, object], losses: object) -> NDArray[np.float64]:
        """Loss of labelled rows less the loss that was to be expected of them. Shape (n,).

        Summed by time block (`LateLosses` does), this is what `mature` takes.

        Raises:
            DriftInputError: As for `update`, or a loss is not finite.
        """
        places, _ = self._cells.place(columns)
        realised = finite_vector("losses", losses, least=0)
        if len(realised) != len(places):
            raise DriftInputError("losses", f"{len(realised)} values", f"{len(places)}")
        return realised - self._expected(places)

    def mature(self, total: float, rows: int) -> None:
        """Takes the next matured block, in time order: the sum of its `excess` and its rows.

        Raises:
            DriftInputError: `total` is not finite or `rows` < 1; the block is not counted.
        """
        self._trust.mature(total, rows)

    def reconcile(self, estimate: Estimate, realised: float, rows: int | None = None) -> Reconciled:
        """Compares an earlier estimate with the mean loss of its rows, once labelled.

        Args:
            estimate: What `estimate` said.
            realised: Mean loss. Finite.
            rows: Rows that have a label. None: all.

        Raises:
            DriftInputError: `realised` is not finite, or `rows` is not in [1, estimate.rows].
        """
        return self._trust.reconcile(estimate, realised, rows)

    def snapshot(self) -> Snapshot:
        """Returns model, limits and state; `restore` continues from it exactly."""
        model = self._model
        state: Snapshot = {
            "kind": np.array(self.KIND),
            "metric": np.array(self.metric),
            "effects": np.stack([model.effects, model.noise]),
            "influence": model.influence,
            "design": np.array(model.design),
            "counts": self._counts.copy(),
            "rows": np.array([self._rows, self._outside], dtype=np.int64),
        }
        trust, cells = self._trust.snapshot(), self._cells.snapshot()
        return state | within("trust_", trust) | within("cells_", cells)

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Returns what `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        quality = cls(str(snapshot["metric"]), *parts_of(snapshot))
        quality._load(snapshot)
        return quality

    def _load(self, snapshot: Snapshot) -> None:
        """Takes the window from a snapshot."""
        self._counts = snapshot["counts"].astype(np.int64)
        self._rows, self._outside = (int(value) for value in snapshot["rows"])

    def _expected(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Loss to be expected of rows in these cells. Shape (n,)."""
        return self._model.expected(places)

    def _weigh(self) -> tuple[float, float, float]:
        """The estimate, its variance, and the reference rows that bear it."""
        model, cells = self._model, self._cells
        shares = np.append(self._counts / self._rows, 1.0)
        variance = self._noise() + spread(model.influence @ shares)
        live, known = self._counts.astype(np.float64), cells.counts.astype(np.float64)
        effective = min(bearing_rows(live[group], known[group]) for group in cells.groups)
        return float(shares @ model.effects), variance, effective

    def _noise(self) -> float:
        """Variance of the window's mean loss given its inputs."""
        noise, cells = self._model.noise, self._cells
        live = np.append(self._counts / self._rows, 1.0) @ noise
        inputs = len(cells.inputs)
        usual = np.append(cells.counts * inputs / cells.counts.sum(), 1.0) @ noise
        return float(self._model.design * max(live, LEAST_NOISE * usual) / self._rows)


def learn(
    columns: Mapping[str, object],
    losses: NDArray[np.float64],
    blocks: NDArray[np.generic] | None,
    limits: Limits,
) -> tuple[Parts, Rows]:
    """What is learnt of a reference, and its rows as they were learnt from.

    Raises:
        DriftInputError: As for `LossRegression.fit`.
    """
    realised = finite_vector("losses", losses, least=0)
    stretch = stretches(len(realised), blocks)
    if float(np.ptp(realised)) == 0.0:
        raise DriftInputError("losses", f"{realised[0]:g} in every row", "losses that vary")
    cells, places = CoarseCells.fit(columns)
    if len(places) != len(realised):
        raise DriftInputError("losses", f"{len(realised)} values", f"{len(places)}")
    model, errors = fit_additive(places, realised, stretch, len(cells.counts))
    sums = sum_by_block(stretch, errors)
    return (cells, model, Trust(limits, sums.totals, sums.rows)), (places, errors, stretch)


def parts_of(snapshot: Snapshot) -> Parts:
    """What `snapshot` says was learnt."""
    effects, noise = snapshot["effects"].astype(np.float64)
    model = Additive(
        effects, noise, snapshot["influence"].astype(np.float64), float(snapshot["design"])
    )
    cells = CoarseCells.restore(without("cells_", snapshot))
    return cells, model, Trust.restore(without("trust_", snapshot))
