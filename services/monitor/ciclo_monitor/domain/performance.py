"""Has the champion become worse than its bundle promised? A sequential test of its daily loss."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from ciclo_drift import BlockMeanTest, Rise, expected_log_loss, log_loss
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.sums import counted

LEAST_SHARE = 0.05
"""A block with fewer labelled rows than this share of a usual one says too little about its day."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the bundle promises: sums over its held-out blocks, in time order.

    Args:
        losses: [k] sums of losses.
        expected: [k] sums of the losses that the model expected.
        rows: [k] labelled rows.
    """

    losses: NDArray[np.float64]
    expected: NDArray[np.float64]
    rows: NDArray[np.int64]

    @property
    def mean_loss(self) -> float:
        """Mean loss over the held-out rows."""
        return float(self.losses.sum() / self.rows.sum())


class PerformanceTest:
    """Feeds closed blocks to a sequential test of `loss - expected loss`.

    The loss that a model itself expects (its entropy) follows the difficulty of a day: what is left
    varies a third less from day to day than the loss, and rises as soon as the model is wrong about
    the world.

    Args:
        version: The champion.
        held_out: Its promise.
        calendar: Cuts event time into blocks.
        since_us: Blocks that begin before this time are not tested: another version answered then.
        tolerance: Rise that is not degraded. Unit of the loss.
        budget_blocks: Blocks between false alarms.
    """

    def __init__(
        self,
        version: int,
        held_out: HeldOut,
        calendar: Calendar,
        *,
        since_us: int,
        tolerance: float,
        budget_blocks: int,
    ) -> None:
        self.alarm: Rise | None = None
        """What the test said after the first block that alarmed; later blocks do not change it."""
        self.skipped = 0
        self.version = version
        self._held_out = held_out
        self._calendar = calendar
        self._next = calendar.first_whole(since_us)
        self._usual_rows = float(np.median(held_out.rows))
        self._fed: list[tuple[int, float, int]] = []
        self._test = BlockMeanTest(
            held_out.losses - held_out.expected,
            held_out.rows,
            tolerance=tolerance,
            budget_blocks=budget_blocks,
        )

    @property
    def promised(self) -> float:
        """Mean loss that the bundle promises."""
        return self._held_out.mean_loss

    @property
    def newest_loss(self) -> float | None:
        """Mean loss over the newest block that was tested; None before the first."""
        return self._fed[-1][1] / self._fed[-1][2] if self._fed else None

    @property
    def rise(self) -> Rise:
        """What the test says now."""
        return self._test.judge()

    def fold(self, rows: NDArray[np.void], watermark_us: int) -> None:
        """Tests the blocks that have closed; the first that alarms makes `alarm`.

        Args:
            rows: [n] of `rows.ROW`, all that are kept.
            watermark_us: Up to which predictions and labels are known.
        """
        last = self._calendar.last_closed(watermark_us)
        if last < self._next:
            return  # nearly always: the rows are many, and a block closes once
        mine = rows[(rows["version"] == self.version) & (rows["block"] >= self._next)]
        if not len(mine):
            self._next = last + 1  # what comes later does not count
            return
        self._next = max(self._next, int(mine["block"].min()))
        while self._next <= last:
            self._feed(self._next, counted(mine, self._calendar, self._next))
            self._next += 1

    def since_us(self, rise: Rise) -> int:
        """Returns the start of the first block that counts as degraded."""
        number = rise.since_block if rise.since_block is not None else len(self._fed) - 1
        return self._calendar.start_us(self._fed[number][0])

    def mean_loss_since(self, rise: Rise) -> float:
        """Returns the mean loss over the blocks that count as degraded, up to the alarm."""
        fed = self._fed[rise.since_block or 0 : rise.blocks]
        return sum(total for _, total, _ in fed) / max(1, sum(rows for _, _, rows in fed))

    def snapshot(self) -> dict[str, NDArray[np.generic]]:
        """Returns all that is needed to go on."""
        fed = np.array(self._fed, np.float64).reshape(-1, 3)
        test = {f"test/{name}": value for name, value in self._test.snapshot().items()}
        alarm = np.array(astuple(self.alarm) if self.alarm else (), np.float64)
        marks = np.array([self._next, self.skipped])
        return {"next": marks, "fed": fed, "alarm": alarm, **test}

    def restore(self, snapshot: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a snapshot."""
        self._next, self.skipped = snapshot["next"].tolist()
        self._fed = [(int(b), float(t), int(r)) for b, t, r in snapshot["fed"].tolist()]
        alarm = snapshot.get("alarm", np.empty(0))  # absent in states from before it was kept
        self.alarm = _rise(*alarm.tolist()) if len(alarm) else None
        inner = {n[5:]: value for n, value in snapshot.items() if n.startswith("test/")}
        self._test = BlockMeanTest.restore(inner)

    def _feed(self, block: int, rows: NDArray[np.void]) -> None:
        if len(rows) < max(1.0, LEAST_SHARE * self._usual_rows):
            self.skipped += 1
            return
        losses = float(log_loss(rows["score"], rows["label"]).sum())
        excess = losses - float(expected_log_loss(rows["score"]).sum())
        self._fed.append((block, losses, len(rows)))
        rise = self._test.update(excess, len(rows))
        if rise.alarm and self.alarm is None:
            self.alarm = rise


def _rise(
    alarm: float,
    evidence: float,
    threshold: float,
    blocks: float,
    rows: float,
    since: float,
    *gain: float,
) -> Rise:
    """Returns an alarm that was stored as numbers; an alarm always has a first block."""
    numbers = bool(alarm), evidence, threshold, int(blocks), int(rows), int(since)
    return Rise(*numbers, *gain)
