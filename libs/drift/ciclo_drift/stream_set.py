"""Many named streams under one false-alarm budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.alarms import Alarm, alarm_arrays, alarm_from
from ciclo_drift.bank import Bank
from ciclo_drift.blocks import require_between
from ciclo_drift.calibration import FEW_SEGMENTS, SEGMENTS, Certificate, certify, thresholds_for
from ciclo_drift.dependence import block_starts
from ciclo_drift.errors import DriftInputError
from ciclo_drift.reference import Reference
from ciclo_drift.snapshots import Snapshot, require_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class StreamSet:
    """Watches many named streams under one false-alarm budget.

    Alarms when the weighted mean of the streams' Shiryaev-Roberts sums reaches the threshold,
    which keeps the budget under any dependence between streams. Made by `fit`. Where rows of a
    time block depend on each other (the flights of a day), give `fit` the blocks: thresholds for
    independent rows alarm a hundred times too often. Check `certificate` before acting on it.

    Args:
        references: Sketches, one a stream, with distinct names.
        shares: Weights of the streams, summing to 1. Shape (F,).
        threshold: Evidence at which to alarm.
        certificate: Whether the references can promise the budget.
        seed: Seed of the draws that break ties.

    Raises:
        DriftInputError: No stream, or two of one name.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> reference = {"speed": rng.normal(size=4_000), "fuel": rng.choice(["a", "b"], 4_000)}
        >>> streams = StreamSet.fit(reference, budget_rows=10_000)
        >>> fuel = rng.choice(["a", "b"], 400, p=[0.8, 0.2])
        >>> alarm = streams.update({"speed": rng.normal(size=400), "fuel": fuel})
        >>> top = alarm.culprits[0]
        >>> top.stream, top.category, round(top.size, 1)
        ('fuel', 'b', 0.3)

    Reference:
        As for `RankBank`; sums over streams: A. G. Tartakovsky, I. Nikiforov, M. Basseville,
        "Sequential analysis" (2014), ch. 9.
    """

    KIND = "ciclo_drift.StreamSet/2"

    def __init__(
        self,
        references: list[Reference],
        shares: NDArray[np.float64],
        threshold: float,
        certificate: Certificate,
        seed: int,
    ) -> None:
        self.names = tuple(reference.name for reference in references)
        if not references or len(set(self.names)) < len(references):
            raise DriftInputError("references", f"names {self.names}", "one or more, distinct")
        self.references = tuple(references)
        self.threshold = float(threshold)
        self.certificate = certificate
        self._bank = Bank(references, shares, seed)
        self._alarm: Alarm | None = None

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, NDArray[np.generic]],
        *,
        blocks: NDArray[np.generic] | None = None,
        budget_rows: float | None = None,
        budget_blocks: float | None = None,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> StreamSet:
        """Sketches reference columns and calibrates their common threshold.

        Args:
            columns: Reference rows in time order, one array a stream, equal lengths: numbers
                (NaN = missing) or text and objects (categories). Shape (m,), m >= 100.
            blocks: Id of the time block of each row. Shape (m,).
            budget_rows: Mean number of rows between false alarms.
            budget_blocks: The same in blocks of average size; needs `blocks`. Give one of them.
            weights: Relative weights of the streams; equal if None.
            seed: Seed of resampling and of ties.

        Raises:
            DriftInputError: Unequal lengths, a column that is no reference, no or two budgets.
        """
        rows = _common_length(columns)
        starts = None if blocks is None else block_starts(np.asarray(blocks))
        budget = _budget_rows(budget_rows, budget_blocks, rows, starts)
        references = [
            (Reference.categorical if np.asarray(c).dtype.kind in "OUSb" else Reference.numeric)(
                c, name=name, blocks=blocks, seed=seed
            )
            for name, c in columns.items()
        ]
        wanted = np.array([1.0 if weights is None else weights[name] for name in columns])
        if not bool((wanted >= 0.0).all()) or wanted.sum() <= 0.0:
            raise DriftInputError("weights", f"{wanted}", "numbers >= 0, one of them > 0")
        kappa = max(reference.kappa for reference in references)
        shares = wanted / wanted.sum()
        certificate = certify(
            rows=rows,
            kappa=kappa,
            still_grows=any(reference.serial.still_grows for reference in references),
            blocks=None if starts is None else len(starts),
            budget_rows=budget,
        )
        codes = np.stack([r.own_codes(columns[r.name]) for r in references], axis=1)
        bank = Bank(references, shares, seed)
        segments = SEGMENTS if certificate.certified else FEW_SEGMENTS
        threshold = thresholds_for(bank, codes, starts, [budget], seed, segments)[0]
        return cls(references, shares, threshold, certificate, seed)

    @property
    def evidence(self) -> float:
        """Weighted mean of the streams' Shiryaev-Roberts sums, now."""
        return float(self._bank.evidence() @ self._bank.shares)

    @property
    def rows(self) -> int:
        """Live rows seen."""
        return self._bank.row

    @property
    def alarm(self) -> Alarm | None:
        """The alarm since the last reset, if any, as it was when raised."""
        return self._alarm

    def update(self, columns: Mapping[str, object]) -> Alarm | None:
        """Takes rows in order; returns the alarm if one of them raised it.

        The same rows in batches of any lengths give the same results.

        Args:
            columns: One array for each stream of the reference, equal lengths. Shape (n,).
                Further columns are ignored.

        Raises:
            DriftInputError: A stream is absent, lengths differ, or values are of the wrong
                type; no row is counted.
        """
        codes = self._bank.encode(columns)
        if self._alarm is not None:
            self._bank.run(codes, grow=False)
            return None
        before = self._bank.snapshot()
        crossed = np.flatnonzero(self._bank.run(codes, grow=True) >= self.threshold)
        if len(crossed) == 0:
            return None
        # Alarms are rare: go back, stop at the very row, report, then take the rest.
        self._bank.load(before)
        end = int(crossed[0]) + 1
        self._bank.run(codes[:, :end], grow=True)
        self._alarm = self.report()
        self._bank.run(codes[:, end:], grow=False)
        return self._alarm

    def report(self) -> Alarm:
        """What the streams say now; changes nothing."""
        culprits = self._bank.culprits()
        return Alarm(self.rows - 1, culprits[0].since_row, self.evidence, self.threshold, culprits)

    def reset(self) -> None:
        """Starts anew, from the references."""
        self._bank.reset([reference.counts for reference in self.references])
        self._alarm = None

    def snapshot(self) -> Snapshot:
        """Returns references, settings and state; `restore` continues from it exactly."""
        packed = [np.frombuffer(r.to_bytes(), dtype=np.uint8) for r in self.references]
        certificate = self.certificate
        state: Snapshot = {f"reference_{i}": array for i, array in enumerate(packed)}
        state |= {f"bank_{name}": array for name, array in self._bank.snapshot().items()}
        state |= alarm_arrays(self._alarm)
        return state | {
            "kind": np.array(self.KIND),
            "shares": self._bank.shares.copy(),
            "threshold": np.array(self.threshold),
            "seed": np.array(self._bank.seed),
            "certificate": np.array([certificate.certified, certificate.rows_needed]),
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
        certificate = Certificate(bool(certified), needed, str(snapshot["reason"]))
        threshold, seed = float(snapshot["threshold"]), int(snapshot["seed"])
        streams = cls(references, shares, threshold, certificate, seed)
        moving = {k.removeprefix("bank_"): v for k, v in snapshot.items() if k.startswith("bank_")}
        streams._bank.load(moving)
        streams._alarm = alarm_from(snapshot)
        return streams


def _common_length(columns: Mapping[str, NDArray[np.generic]]) -> int:
    """Rows of all columns."""
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths or len(set(lengths.values())) > 1:
        raise DriftInputError("columns", f"lengths {lengths}", "one or more, of equal length")
    return next(iter(lengths.values()))


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
