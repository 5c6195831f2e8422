"""Whether the mean loss of blocks of rows, or of days, has risen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.backtest.result import LossRise
from ciclo_drift.block_mean import BlockMeanTest
from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.backtest.outcome import Outcome
    from ciclo_drift.backtest.roles import Side, Tables
    from ciclo_drift.block_mean import Rise

LEAST_BUDGET = 10.0
"""Blocks between false alarms, at least: less `BlockMeanTest` does not take."""


@dataclass(frozen=True, slots=True)
class LossScan:
    """What the test of the mean loss said.

    Args:
        rises: Each rise once, in order.
        watched: Rows with a known loss, without those in which a rise merely went on.
    """

    rises: tuple[LossRise, ...]
    watched: int


@dataclass(frozen=True, slots=True, eq=False)
class LossTest:
    """The test of the mean loss of blocks, set on the reference and ready for the stream.

    Args:
        test: The test.
        usual: Mean loss of the reference.
        now: Blocks of the stream.
    """

    test: BlockMeanTest
    usual: float
    now: Blocks

    def scan(self, stream: Side, outcome: Outcome) -> LossScan:
        """Watches the stream.

        Blocks come in the order of their first row: a clock that jumps back does no harm. After an
        alarm the test starts anew from the reference; a rise that had begun before most of the
        blocks since goes on with the last one.
        """
        now, rises = self.now, list[LossRise]()
        watched, start = int(now.rows.sum()), 0
        for block, (total, rows) in enumerate(zip(now.totals, now.rows, strict=True)):
            rise = self.test.update(float(total), int(rows))
            if not rise.alarm or rise.since_block is None:
                continue
            if not rises or rise.since_block > rise.blocks - 1 - rise.since_block:
                ends = int(now.firsts[start + rise.since_block]), int(now.lasts[block])
                rises.append(_rise(stream, outcome, ends, self.usual, rise))
            else:
                watched -= int(now.rows[start : block + 1].sum())
            self.test.reset()
            start = block + 1
        return LossScan(tuple(rises), watched)


def loss_test(
    tables: Tables, outcome: Outcome | None, budget_rows: float, notes: list[str]
) -> LossTest | None:
    """The test of the mean loss of blocks; of days, where only times are known.

    Args:
        tables: Both tables.
        outcome: Their losses, if there are any.
        budget_rows: Mean number of rows between false alarms of this test alone; taken in blocks
            of average size.
        notes: Takes why nothing can be tested.
    """
    if outcome is None:
        return None
    known = (_blocks(tables.reference), _blocks(tables.stream))
    if known[0] is None or known[1] is None:
        notes.append("the mean loss is not tested: it needs blocks of rows, or times")
        return None
    for what, losses in (("reference", outcome.before), ("stream", outcome.now)):
        if np.isnan(losses).all():
            notes.append(f"the mean loss is not tested: no row of the {what} has a known one")
            return None
    before, now = _sums(known[0], outcome.before), _sums(known[1], outcome.now)
    try:
        budget = max(budget_rows / float(before.rows.mean()), LEAST_BUDGET)
        test = BlockMeanTest(before.totals, before.rows, budget_blocks=budget)
    except DriftInputError as error:
        notes.append(f"the mean loss is not tested ({error})")
        return None
    return LossTest(test, float(before.totals.sum() / before.rows.sum()), now)


def _rise(
    stream: Side, outcome: Outcome, ends: tuple[int, int], usual: float, rise: Rise
) -> LossRise:
    since, row = ends
    return LossRise(
        row=row,
        time=stream.time_of(row),
        since_row=since,
        since_time=stream.time_of(since),
        before=usual,
        rise=rise.rise,
        lower=rise.lower,
        upper=rise.upper,
        kind=outcome.kind_since(since, row + 1 - since),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Blocks with a known loss, in the order of their first such row. Shape (B,) each.

    Args:
        totals: Sum of the losses.
        rows: Rows with a known loss, >= 1.
        firsts: First of these rows.
        lasts: Last of them.
    """

    totals: NDArray[np.float64]
    rows: NDArray[np.int64]
    firsts: NDArray[np.int64]
    lasts: NDArray[np.int64]


def _sums(ids: NDArray[np.generic], losses: NDArray[np.float64]) -> Blocks:
    labelled = np.flatnonzero(~np.isnan(losses))
    _, first, inverse = np.unique(ids[labelled], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.argsort(order)[inverse]
    lasts = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(lasts, place, labelled)
    totals = np.zeros(len(first))
    np.add.at(totals, place, losses[labelled])
    rows = np.bincount(place, minlength=len(first)).astype(np.int64)
    return Blocks(totals, rows, labelled[first[order]], lasts)


def _blocks(side: Side) -> NDArray[np.generic] | None:
    """Declared blocks, or days."""
    if side.blocks is not None:
        return side.blocks
    return None if side.times is None else side.times.astype("datetime64[D]")
