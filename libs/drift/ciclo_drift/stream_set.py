"""Many named streams under one false-alarm budget.

A little over 300 lines: what a user calls, with its contract.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift import bets
from ciclo_drift.alarms import Alarm, alarm_arrays, alarm_from
from ciclo_drift.bank import Bank
from ciclo_drift.blocks import require_between
from ciclo_drift.calibration import FEW_SEGMENTS, SEGMENTS, Certificate, certify, thresholds_for
from ciclo_drift.dependence import block_starts
from ciclo_drift.errors import DriftInputError
from ciclo_drift.explanation import culprits_of, distances_of
from ciclo_drift.reference import Reference
from ciclo_drift.rows import Rows, phases_of_rows
from ciclo_drift.snapshots import Snapshot, require_kind, within, without

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SUMS = ("(sum)", "(squares)")
"""Names of the sums over all numeric streams of a row's normal scores and of their squares."""

SUMS_SHARE = 0.25
"""Weight of each of them."""

SUMS_FROM = 16
"""Numeric streams from which on the sums are watched too, unless told otherwise."""


class StreamSet:
    """Watches many named streams under one false-alarm budget.

    Alarms when the weighted mean of the streams' Shiryaev-Roberts sums reaches the threshold,
    which keeps the budget under any dependence between streams. Made by `fit`. Where rows of a
    time block depend on each other (the flights of a day), give `fit` the blocks: thresholds for
    independent rows alarm a hundred times too often. Check `certificate` before acting on it.
    Where the hour or the weekday matters, give phases: rows are compared with those of their own.

    Args:
        references: Sketches, one a stream, with distinct names.
        shares: Weights of the streams and the sums, summing to 1. Shape (F,) or (F + 2,).
        threshold: Evidence at which to alarm.
        certificate: Whether the references can promise the budget.
        seed: Seed of the draws that break ties.
        sums: Sketches of the sums over all numeric streams, for changes that are small in each
            of many; two, or none.

    Raises:
        DriftInputError: No stream, or two of one name.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> reference = {"speed": rng.normal(size=4_000), "fuel": rng.choice(["a", "b"], 4_000)}
        >>> streams = StreamSet.fit(reference, budget_rows=10_000)
        >>> fuel = rng.choice(["a", "b"], 400, p=[0.8, 0.2])
        >>> alarm = streams.update({"speed": rng.normal(size=400), "fuel": fuel})
        >>> top = alarm.culprits[0]
        >>> top.stream, top.category, alarm.kind.value
        ('fuel', 'b', 'covariate')

    Reference:
        As for `RankBank`; sums over streams: A. G. Tartakovsky, I. Nikiforov, M. Basseville,
        "Sequential analysis" (2014), ch. 9.
    """

    KIND = "ciclo_drift.StreamSet/3"

    def __init__(
        self,
        references: list[Reference],
        shares: NDArray[np.float64],
        threshold: float,
        certificate: Certificate,
        seed: int,
        sums: list[Reference] | None = None,
    ) -> None:
        self.names = tuple(reference.name for reference in references)
        if not references or len(set(self.names)) < len(references):
            raise DriftInputError("references", f"names {self.names}", "one or more, distinct")
        self.references = tuple(references)
        self.threshold = float(threshold)
        self.certificate = certificate
        self._shares = np.asarray(shares, dtype=np.float64)
        self._bank = Bank(references, shares, seed, sums or ())
        self._alarm: Alarm | None = None

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, NDArray[np.generic]],
        *,
        blocks: NDArray[np.generic] | None = None,
        phases: object = None,
        losses: NDArray[np.float64] | None = None,
        budget_rows: float | None = None,
        budget_blocks: float | None = None,
        weights: Mapping[str, float] | None = None,
        sums: bool | None = None,
        seed: int = 0,
    ) -> StreamSet:
        """Sketches reference columns and calibrates their common threshold.

        Args:
            columns: Reference rows in time order, one array a stream, equal lengths: numbers
                (NaN = missing) or text and objects (categories). Shape (m,), m >= 100.
            blocks: Id of the time block of each row. Shape (m,).
            phases: Seasonal phase of each row, from 0. Shape (m,). None: no season.
            losses: The model's loss on each row, NaN = unknown, for what a change costs.
                Shape (m,).
            budget_rows: Mean number of rows between false alarms.
            budget_blocks: The same in blocks of average size; needs `blocks`. Give one of them.
            weights: Relative weights of the streams; equal if None.
            sums: Whether to watch the sums over numeric streams too; from 16 streams on if None.
            seed: Seed of resampling and of ties.

        Raises:
            DriftInputError: Unequal lengths, a column that is no reference, no or two budgets.
        """
        count = _common_length(columns)
        starts = None if blocks is None else block_starts(np.asarray(blocks))
        budget = _budget_rows(budget_rows, budget_blocks, count, starts)
        season = phases_of_rows(phases, count)
        references = [
            (Reference.categorical if np.asarray(c).dtype.kind in "OUSb" else Reference.numeric)(
                c, name=name, blocks=blocks, phases=season, losses=losses, seed=seed
            )
            for name, c in columns.items()
        ]
        codes = np.stack([r.own_codes(columns[r.name], season) for r in references])
        rows = Rows(codes, season)
        numbers = sum(reference.kind == "numeric" for reference in references)
        totals: list[Reference] = []
        if sums or (sums is None and numbers >= SUMS_FROM):
            totals, rows = _sums_over(references, rows, blocks, seed)
        shares = _shares(columns, weights, len(totals))
        bank = Bank(references, shares, seed, totals)
        certificate = certify(
            rows=count,
            kappa=bank.kappa,
            dependent=bank.depends or starts is not None,
            still_grows=any(r.serial.still_grows for r in (*references, *totals)),
            blocks=None if starts is None else len(starts),
            budget_rows=budget,
        )
        worst = max(bank.all_references, key=lambda reference: reference.kappa)
        if not certificate.certified and worst.kappa > 1.0:
            reason = f"{certificate.reason}; most in {worst.name!r}"
            certificate = replace(certificate, reason=reason)
        segments = SEGMENTS if certificate.certified else FEW_SEGMENTS
        threshold = thresholds_for(bank, rows, starts, [budget], seed, segments)[0]
        return cls(references, shares, threshold, certificate, seed, totals)

    @property
    def evidence(self) -> float:
        """Weighted mean of the streams' Shiryaev-Roberts sums, now."""
        return self._bank.weighted()

    @property
    def rows(self) -> int:
        """Live rows seen."""
        return self._bank.row

    @property
    def alarm(self) -> Alarm | None:
        """The alarm since the last reset, if any, as it was when raised."""
        return self._alarm

    def update(self, columns: Mapping[str, object], phases: object = None) -> Alarm | None:
        """Takes rows in order; returns the alarm if one of them raised it.

        The same rows in batches of any lengths give the same results.

        Args:
            columns: One array for each stream of the reference, equal lengths. Shape (n,).
                Further columns are ignored.
            phases: Their seasonal phases, where the reference has some. Shape (n,).

        Raises:
            DriftInputError: A stream is absent, lengths differ, values are of the wrong type, or
                a phase is none of the reference's; no row is counted.
        """
        rows = self._bank.encode(columns, phases)
        if self._alarm is not None:
            self._bank.run(rows, grow=False)
            return None
        before = self._bank.snapshot()
        crossed = np.flatnonzero(self._bank.run(rows, grow=True) >= self.threshold)
        if len(crossed) == 0:
            return None
        # Alarms are rare: go back, stop at the very row, report, then take the rest.
        self._bank.load(before)
        end = int(crossed[0]) + 1
        self._bank.run(rows.take(slice(end)), grow=True)
        self._alarm = self.report()
        self._bank.run(rows.take(slice(end, None)), grow=False)
        return self._alarm

    def report(self) -> Alarm:
        """What the streams say now; changes nothing."""
        culprits = culprits_of(self._bank)
        return Alarm(self.rows - 1, culprits[0].since_row, self.evidence, self.threshold, culprits)

    def distances(self) -> dict[str, float]:
        """How far each stream's last rows, at most 512, lie from the reference as it was.

        A slow ramp is partly absorbed by pools that grow; here nothing grows, and nothing alarms:
        no budget could be stated. Of independent rows, 512 lie about .04 away.

        Returns:
            Largest difference of the cumulative shares of cells (Kolmogorov-Smirnov), in [0, 1];
            for categories half the sum of the differences of their shares.
        """
        return distances_of(self._bank)

    def reset(self) -> None:
        """Starts anew, from the references."""
        self._bank.reset()
        self._alarm = None

    def snapshot(self) -> Snapshot:
        """Returns references, settings and state; `restore` continues from it exactly."""
        sketches = self._bank.all_references
        packed = [np.frombuffer(r.to_bytes(), dtype=np.uint8) for r in sketches]
        certificate = self.certificate
        state: Snapshot = {f"reference_{i}": array for i, array in enumerate(packed)}
        state |= within("bank_", self._bank.snapshot())
        state |= alarm_arrays(self._alarm)
        return state | {
            "kind": np.array(self.KIND),
            "shares": self._shares.copy(),
            "streams": np.array(len(self.references)),
            "threshold": np.array(self.threshold),
            "seed": np.array(self._bank.seed),
            "certificate": np.array([certificate.certified, certificate.rows_needed]),
            "longest_rows": np.array(certificate.longest_rows),
            "reason": np.array(certificate.reason),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> StreamSet:
        """Returns the set that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        shares = np.array(snapshot["shares"], dtype=np.float64)
        packed = [snapshot[f"reference_{i}"] for i in range(len(shares))]
        references = [Reference.from_bytes(array.tobytes()) for array in packed]
        certified, needed = (int(value) for value in snapshot["certificate"])
        longest = float(snapshot["longest_rows"])
        certificate = Certificate(bool(certified), needed, str(snapshot["reason"]), longest)
        threshold, seed = float(snapshot["threshold"]), int(snapshot["seed"])
        count = int(snapshot["streams"])
        streams = cls(references[:count], shares, threshold, certificate, seed, references[count:])
        streams._bank.load(without("bank_", snapshot))
        streams._alarm = alarm_from(snapshot)
        return streams


def _common_length(columns: Mapping[str, NDArray[np.generic]]) -> int:
    """Rows of all columns."""
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths or len(set(lengths.values())) > 1:
        raise DriftInputError("columns", f"lengths {lengths}", "one or more, of equal length")
    return next(iter(lengths.values()))


def _shares(
    columns: Mapping[str, object], weights: Mapping[str, float] | None, sums: int
) -> NDArray[np.float64]:
    """Weights of the streams, then of the sums over them. Shape (F + sums,)."""
    wanted = np.array([1.0 if weights is None else weights[name] for name in columns])
    if not bool((wanted >= 0.0).all()) or wanted.sum() <= 0.0:
        raise DriftInputError("weights", f"{wanted}", "numbers >= 0, one of them > 0")
    left = 1.0 - sums * SUMS_SHARE
    return np.concatenate([left * wanted / wanted.sum(), np.full(sums, SUMS_SHARE)])


def _sums_over(
    references: list[Reference], rows: Rows, blocks: NDArray[np.generic] | None, seed: int
) -> tuple[list[Reference], Rows]:
    """Sketches the sums over numeric streams of the reference rows; those rows with their cells."""
    totals = np.zeros((2, len(rows)))
    for reference, codes in zip(references, rows.codes, strict=True):
        if reference.kind == "numeric":
            bins = bets.own_bins(codes, rows.phases, reference.counts, seed)
            scores = bets.bin_scores()[bins]
            totals += np.stack([scores, scores**2])
    found = [
        Reference.numeric(total, name=name, blocks=blocks, seed=seed)
        for name, total in zip(SUMS, totals, strict=True)
    ]
    plain = np.zeros(len(rows), dtype=np.int16)
    cells = np.stack([r.own_codes(t, plain) for r, t in zip(found, totals, strict=True)])
    return found, Rows(rows.codes, rows.phases, None, cells)


def _budget_rows(
    budget_rows: float | None,
    budget_blocks: float | None,
    rows: int,
    starts: NDArray[np.int64] | None,
) -> float:
    """The budget in rows, from whichever was given."""
    if (budget_rows is None) == (budget_blocks is None):
        raise DriftInputError("budget", "none or two", "one of budget_rows, budget_blocks")
    if budget_rows is None and starts is None:
        raise DriftInputError("blocks", "None", "block ids, for a budget in blocks")
    budget = budget_rows
    if budget is None and budget_blocks is not None and starts is not None:
        budget = budget_blocks * rows / len(starts)
    require_between("budget", budget or 0.0, 10.0, 1e15)
    return float(budget or 0.0)
