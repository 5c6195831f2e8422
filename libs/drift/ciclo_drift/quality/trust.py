"""Whether estimates may be believed: what matured labels said of earlier ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.block_mean import BlockMeanTest
from ciclo_drift.blocks import require_between
from ciclo_drift.quality.estimate import Estimate, Limits
from ciclo_drift.snapshots import within, without

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.snapshots import Snapshot

MISSED = np.array([0.3, 0.6, 0.9])
"""Shares of missed intervals that are looked for."""

GUARD = 2.0
"""Intervals are taken to miss this many times as often as stated: estimates of several windows
share the noise of one reference, so misses come together."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """An estimate beside what was realised, and how all of them fared so far.

    Args:
        inside: What was realised lies in the interval.
        miss: Realised less estimated. Unit of the metric.
        windows: Valid estimates reconciled so far, this one included.
        inside_share: Share of them that held; NaN before the first.
        trusted: Misses are no more frequent than the interval allows.
    """

    inside: bool
    miss: float
    windows: int
    inside_share: float
    trusted: bool


class Trust:
    """Objects to estimates that matured labels, or the rows themselves, speak against.

    Two tests run on what matured: `BlockMeanTest`, upwards and downwards, on losses less expected
    losses by block, against the reference's own; and a Shiryaev-Roberts test on the misses of
    reconciled intervals. An objection stays until `reset`.

    Args:
        limits: What is allowed.
        totals: Loss less expected loss, summed over stretches of the reference. Shape (B,).
        rows: Rows of each. Shape (B,).
    """

    def __init__(
        self, limits: Limits, totals: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> None:
        self.limits = limits
        self._tests = [
            BlockMeanTest(
                sign * totals,
                rows,
                tolerance=limits.tolerance,
                budget_blocks=2.0 * limits.budget_blocks,
            )
            for sign in (1.0, -1.0)
        ]
        self.reset()

    def reset(self) -> None:
        """Forgets all that matured."""
        for test in self._tests:
            test.reset()
        self._evidence = np.zeros(len(MISSED))
        self._windows = self._inside = 0
        self._trusted = True

    def mature(self, total: float, rows: int) -> None:
        """Takes the next matured block: its loss less its expected loss, summed, and its rows."""
        for sign, test in zip((1.0, -1.0), self._tests, strict=True):
            test.update(sign * total, rows)

    def reconcile(self, estimate: Estimate, realised: float, rows: int | None) -> Reconciled:
        """Compares an estimate with the metric of its rows, or of the labelled ones among them.

        Estimates that were not valid are compared and not counted: they had said so.

        Raises:
            DriftInputError: `realised` is not finite, or `rows` is not in [1, estimate.rows].
        """
        require_between("realised", realised, -1e300, 1e300)
        labelled = estimate.rows if rows is None else rows
        require_between("rows", labelled, 1, estimate.rows)
        # Fewer labels, more noise.
        wider = math.sqrt(estimate.rows / labelled)
        low, high = (
            estimate.value + wider * (end - estimate.value)
            for end in (estimate.lower, estimate.upper)
        )
        inside = low <= realised <= high
        if estimate.valid:
            self._count(inside)
        share = self._inside / self._windows if self._windows else math.nan
        miss = realised - estimate.value
        return Reconciled(inside, miss, self._windows, share, self._trusted)

    def objection(self, rows: int, outside: float, effective: float) -> str:
        """What speaks against an estimate; empty: nothing."""
        limits = self.limits
        if rows < limits.least_rows:
            return f"{rows} rows; needs {limits.least_rows}"
        if outside > limits.most_outside:
            return f"{outside:.1%} of rows outside the reference; at most {limits.most_outside:.1%}"
        if effective < limits.least_effective:
            return f"{effective:.0f} reference rows bear it; needs {limits.least_effective:.0f}"
        for word, test in zip(("above", "below"), self._tests, strict=True):
            now = test.judge()
            if now.alarm:
                return (
                    f"matured labels: {now.rise:.3g} {word} the estimate since block"
                    f" {now.since_block} of {now.blocks}"
                )
        if not self._trusted:
            missed = self._windows - self._inside
            return f"{missed} of {self._windows} reconciled intervals missed"
        return ""

    def snapshot(self) -> Snapshot:
        """Returns limits and state, without a kind: part of another snapshot."""
        counts = [self._windows, self._inside, self._trusted]
        tests = [within(f"{i}_", test.snapshot()) for i, test in enumerate(self._tests)]
        own: Snapshot = {
            "limits": self.limits.array(),
            "evidence": self._evidence.copy(),
            "counts": np.array(counts, dtype=np.int64),
        }
        return own | tests[0] | tests[1]

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Trust:
        """Returns what `snapshot` was taken from."""
        totals, rows = snapshot["0_reference"]
        trust = cls(Limits.of(snapshot["limits"]), totals, rows)
        trust._tests = [BlockMeanTest.restore(without(f"{i}_", snapshot)) for i in (0, 1)]
        trust._evidence = np.array(snapshot["evidence"], dtype=np.float64)
        windows, inside, trusted = (int(value) for value in snapshot["counts"])
        trust._windows, trust._inside, trust._trusted = windows, inside, bool(trusted)
        return trust

    def _count(self, inside: bool) -> None:
        self._windows += 1
        self._inside += inside
        allowed = min(GUARD * (1.0 - self.limits.level), 0.25)
        ratio = (1.0 - MISSED) / (1.0 - allowed) if inside else MISSED / allowed
        # Held below overflow: past any budget, and a matter of some hundred misses.
        self._evidence = np.minimum((1.0 + self._evidence) * ratio, 1e280)
        if float(self._evidence.mean()) >= self.limits.budget_blocks:
            self._trusted = False
