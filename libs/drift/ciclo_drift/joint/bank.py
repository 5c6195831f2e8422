"""Many dimensions at once: vectors become scores, scores become evidence under one budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

import numpy as np

from ciclo_drift import bets
from ciclo_drift.blocks import require_between
from ciclo_drift.calibration import certify, independent_threshold
from ciclo_drift.dependence import declared_starts, every_other, mean_ratio, measure_dependence
from ciclo_drift.errors import DriftInputError
from ciclo_drift.joint.features import LEAST_FIT_ROWS
from ciclo_drift.joint.scores import LEAST_MEMORY, MOVING, Scores
from ciclo_drift.reference import Reference
from ciclo_drift.snapshots import Snapshot, require_kind, within, without
from ciclo_drift.stream_set import StreamSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.alarms import Alarm
    from ciclo_drift.calibration import Certificate

LEAST_ROWS = 2 * LEAST_FIT_ROWS + 2 * LEAST_MEMORY
"""Rows of a reference: half for the map; of the others some fill witnesses, the rest is ranked."""

CAUTION = 15.0
"""The threshold is raised by this over the root of the rows that are ranked. The map is fitted on
as many, and its errors move scores together: with heavy tails and the threshold for independent
rows, up to 1.5 times a budget of 10,000. Costs a row or two of delay."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A dimension and how far its mean has moved.

    Args:
        dimension: Index of the dimension.
        shift: Recent shift of its mean in standard deviations of the reference; understated
            where it is large.
    """

    dimension: int
    shift: float


class JointBank:
    """Watches vectors for changes that no single dimension need show.

    A vector becomes some twenty scalar scores: its Mahalanobis distance, what lies outside the
    32 main axes, eight leading components, and witnesses of means, spreads, pairs of dimensions
    and of shapes (random Fourier features), which look where recent rows have moved. Scores are
    ranked and bet on like the streams of a `StreamSet`. The map to scores is fitted on every
    other piece of the reference, the ranks on the rest, lest reference rows look more usual than
    those to come. No rows are kept. Memory: 0.3 MB at 32 dimensions, 0.7 MB at 1,024; time a
    row: 12 and 31 us.

    Constant dimensions are left out; with fewer than eight axes there are no witnesses of spreads
    and pairs. A row with NaN or infinity counts as missing on all scores, so more of them than in
    the reference are a change; witnesses do not remember it.

    Made by `fit`. Check `certificate` before acting on an alarm.

    Args:
        scores: What turns vectors into scores, as it stands after the reference.
        streams: The ranks of the scores and the bets on them.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> bank = JointBank.fit(rng.normal(size=(2_000, 8)), budget_rows=10_000)
        >>> live = rng.normal(size=(300, 8))
        >>> live[:, 5] = 0.8 * live[:, 2] + 0.6 * live[:, 5]
        >>> alarm = bank.update(live)
        >>> alarm.row, alarm.culprits[0].stream
        (43, 'witness of pairs, 50 rows')

    Reference:
        As for `RankBank`; for the scores see `Scores` and `FeatureMap`.
    """

    KIND = "ciclo_drift.JointBank/1"

    def __init__(self, scores: Scores, streams: StreamSet) -> None:
        self._scores = scores
        self._streams = streams
        self._start = {name: scores.moving[name].copy() for name in MOVING}

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.float64],
        *,
        budget_rows: float,
        blocks: NDArray[np.generic] | None = None,
        seed: int = 0,
    ) -> JointBank:
        """Fits map, ranks and threshold.

        Args:
            vectors: Reference rows in time order, NaN = missing. Shape (m, d), m >= 240; with
                fewer than 960 there are fewer axes.
            budget_rows: Mean number of rows between false alarms. >= 10.
            blocks: Id of the time block of each row, for rows that depend on each other within
                a block. Shape (m,). None: none declared.
            seed: Seed of Fourier features, resampling and ties.

        Raises:
            DriftInputError: Too few rows, rows that do not vary, or shapes differ.
        """
        require_between("budget_rows", budget_rows, 10.0, 1e15)
        rows = _as_rows(vectors, None)
        if len(rows) < LEAST_ROWS:
            raise DriftInputError("vectors", f"{len(rows)} rows", f"at least {LEAST_ROWS}")
        fitting = every_other(len(rows), declared_starts(blocks, len(rows)))
        scores = Scores.fit(rows[fitting], seed)
        # Until witnesses are filled their scores are of another kind: those are not ranked.
        ranking = np.flatnonzero(~fitting)
        warm_up, ranking = np.split(ranking, [int(scores.memories[-1])])
        scores.run(rows[warm_up])
        columns = scores.run(rows[ranking])
        own = None if blocks is None else np.asarray(blocks)[ranking]
        streams = _ranked(columns, scores.shares, own, budget_rows, seed)
        streams.threshold *= 1.0 + CAUTION / math.sqrt(len(ranking))
        return cls(scores, streams)

    @property
    def certificate(self) -> Certificate:
        """Whether the reference can promise the budget."""
        return self._streams.certificate

    @property
    def evidence(self) -> float:
        """Weighted mean of the scores' Shiryaev-Roberts sums, now."""
        return self._streams.evidence

    @property
    def threshold(self) -> float:
        """Where it alarms."""
        return self._streams.threshold

    @property
    def rows(self) -> int:
        """Live rows seen."""
        return self._streams.rows

    @property
    def alarm(self) -> Alarm | None:
        """The alarm since the last reset, if any; its culprits are scores."""
        return _of_scores(self._streams.alarm)

    def update(self, vectors: object) -> Alarm | None:
        """Takes rows in order; returns the alarm if one of them raised it.

        The same rows in batches of any lengths give the same results.

        Args:
            vectors: A batch of any length. Shape (n, d).

        Raises:
            DriftInputError: Not numbers, or of another shape; no row is counted.
        """
        rows = _as_rows(vectors, len(self._scores.fitted.centre))
        return _of_scores(self._streams.update(self._scores.run(rows)))

    def report(self) -> Alarm:
        """What the scores say now; changes nothing."""
        return _of_scores(self._streams.report())

    def moved(self, limit: int = 5) -> tuple[Moved, ...]:
        """The dimensions whose means have moved most over the last 200 rows or so.

        Args:
            limit: Dimensions to name, at most.
        """
        shifts = self._scores.shifts()
        order = np.argsort(-np.abs(shifts), kind="stable")[:limit]
        return tuple(Moved(int(i), float(shifts[i])) for i in order)

    def reset(self) -> None:
        """Starts anew, from the reference."""
        self._streams.reset()
        self._scores.moving = {name: array.copy() for name, array in self._start.items()}

    def snapshot(self) -> Snapshot:
        """Returns map, references, settings and state; `restore` continues from it exactly."""
        state = within("scores_", self._scores.snapshot()) | within("start_", self._start)
        state |= within("streams_", self._streams.snapshot())
        return state | {"kind": np.array(self.KIND)}

    @classmethod
    def restore(cls, snapshot: Snapshot) -> JointBank:
        """Returns the bank that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        scores = Scores.restore(without("scores_", snapshot))
        bank = cls(scores, StreamSet.restore(without("streams_", snapshot)))
        bank._start = without("start_", snapshot)
        return bank


@overload
def _of_scores(alarm: Alarm) -> Alarm: ...
@overload
def _of_scores(alarm: Alarm | None) -> Alarm | None: ...
def _of_scores(alarm: Alarm | None) -> Alarm | None:
    """An alarm in which no score looks broken: one out of range is what it was made for."""
    if alarm is None:
        return None
    missing = {None, "missing"}
    return replace(
        alarm,
        culprits=tuple(c if c.fault in missing else replace(c, fault=None) for c in alarm.culprits),
    )


def _as_rows(vectors: object, dimensions: int | None) -> NDArray[np.float64]:
    """Vectors as numbers. Shape (n, d), C order.

    Raises:
        DriftInputError: Not numbers, not two-dimensional, or not of `dimensions` columns.
    """
    try:
        rows = np.array(vectors, dtype=np.float64, order="C", ndmin=1)
    except (TypeError, ValueError) as error:
        raise DriftInputError(
            "vectors", f"no numbers ({error})", "numbers, shape (n, d)"
        ) from error
    wanted = "d" if dimensions is None else f"{dimensions}"
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.shape[1] != (dimensions or rows.shape[1]):
        raise DriftInputError("vectors", f"shape {rows.shape}", f"shape (n, {wanted})")
    return rows


def _ranked(
    columns: dict[str, NDArray[np.float64]],
    shares: NDArray[np.float64],
    blocks: NDArray[np.generic] | None,
    budget_rows: float,
    seed: int,
) -> StreamSet:
    """Ranks and bets for scores, as `StreamSet.fit` makes them but for one thing.

    Where no blocks were declared, rows count as independent unless all bets on a score, taken
    together, vary too much between blocks: of twenty scores with 36 bets each, some single bet on
    the tails does in every other reference.
    """
    if blocks is None:
        count = len(next(iter(columns.values())))
        # Blocks of one row: sketched as it is, in whatever order.
        references = [
            Reference.numeric(column, name=name, blocks=np.arange(count), seed=seed)
            for name, column in columns.items()
        ]
        if not any(_depends(reference, columns[reference.name], seed) for reference in references):
            references = [_taken_as_independent(reference) for reference in references]
            certificate = certify(
                rows=count,
                kappa=1.0,
                dependent=False,
                still_grows=False,
                blocks=None,
                budget_rows=budget_rows,
            )
            threshold = independent_threshold(["numeric"], budget_rows)
            return StreamSet(references, shares, threshold, certificate, seed)
    weights = dict(zip(columns, shares.tolist(), strict=True))
    return StreamSet.fit(
        columns, blocks=blocks, budget_rows=budget_rows, weights=weights, sums=False, seed=seed
    )


def _depends(reference: Reference, values: NDArray[np.float64], seed: int) -> bool:
    """Whether all bets on a score, taken together, say that its rows depend on each other."""
    phases = np.zeros(len(values), dtype=np.int16)
    codes = reference.own_codes(values, phases)
    scores = bets.log_ratios()[bets.own_bins(codes, phases, reference.counts, seed)]
    together = np.zeros(scores.shape[1], dtype=np.int64)
    return bool(measure_dependence(scores, together, None, mean_ratio).kappas[0] > 1.0)


def _taken_as_independent(reference: Reference) -> Reference:
    """The same reference, its rows independent."""
    kappas = np.ones_like(reference.serial.kappas)
    serial = replace(reference.serial, kappas=kappas, still_grows=False)
    return replace(reference, serial=serial, blocks=0)
