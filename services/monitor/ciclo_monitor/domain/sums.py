"""Sums of losses by block: what enters a test, and what is reported."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ciclo_drift import expected_log_loss, log_loss
from ciclo_monitor.domain.calendar import Calendar


def counted(
    rows: NDArray[np.void], calendar: Calendar, block: int, version: int | None = None
) -> NDArray[np.void]:
    """Returns the rows of a closed block that enter a test: labelled by its close, in time.

    Args:
        rows: [n] of `rows.ROW`.
        calendar: Says when the block is closed.
        block: The block.
        version: Only rows that this version answered; None: all.
    """
    close = calendar.close_us(block)
    chosen = (rows["block"] == block) & ~rows["is_late"] & ~np.isnan(rows["label"])
    chosen &= (rows["label_time_us"] <= close) & (rows["label_before_us"] < close)
    if version is not None:
        chosen &= rows["version"] == version
    found: NDArray[np.void] = rows[chosen]
    return found


@dataclass(frozen=True, slots=True)
class BlockLoss:
    """Losses of one version in one block, all labels that are known.

    Args:
        block: The block.
        version: Who answered.
        is_served: Callers got the answers.
        loss_sum: Sum of losses.
        expected_sum: Sum of the losses that the version expected.
        rows: Labelled rows. >= 1.
    """

    block: int
    version: int
    is_served: bool
    loss_sum: float
    expected_sum: float
    rows: int


class LossHistory:
    """Sums of losses of rows that were let go of. Memory: three numbers a block and version."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int, int], NDArray[np.float64]] = defaultdict(
            lambda: np.zeros(3)
        )

    def add(self, rows: NDArray[np.void]) -> None:
        """Adds rows before they go."""
        for found in losses_of(rows):
            sums = (found.loss_sum, found.expected_sum, found.rows)
            self._sums[found.block, found.version, int(found.is_served)] += sums

    def with_kept(self, rows: NDArray[np.void]) -> list[BlockLoss]:
        """Returns all sums, those of kept rows added, by block."""
        total = LossHistory()
        for key, sums in self._sums.items():
            total._sums[key] += sums
        total.add(rows)
        return [
            BlockLoss(block, version, bool(is_served), float(s[0]), float(s[1]), int(s[2]))
            for (block, version, is_served), s in sorted(total._sums.items())
        ]

    def snapshot(self) -> dict[str, NDArray[np.generic]]:
        """Returns all that is needed to go on."""
        return {
            "keys": np.array(list(self._sums), np.int64).reshape(-1, 3),
            "sums": np.array(list(self._sums.values()), np.float64).reshape(-1, 3),
        }

    def restore(self, snapshot: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a snapshot."""
        self._sums.clear()
        for key, sums in zip(snapshot["keys"].tolist(), snapshot["sums"], strict=True):
            self._sums[tuple(key)] += sums


def losses_of(rows: NDArray[np.void]) -> Iterator[BlockLoss]:
    """Yields the losses of labelled rows by block and version, of served answers and others."""
    labelled = rows[~np.isnan(rows["label"])]
    yield from _grouped(labelled, labelled["score"], labelled["version"], is_served=True)
    again = labelled[~np.isnan(labelled["other_score"])]
    yield from _grouped(again, again["other_score"], again["other_version"], is_served=False)


def _grouped(
    rows: NDArray[np.void],
    scores: NDArray[np.float64],
    versions: NDArray[np.int32],
    *,
    is_served: bool,
) -> Iterator[BlockLoss]:
    if not len(rows):
        return
    groups, index = np.unique(
        np.stack([rows["block"], versions.astype(np.int64)]), axis=1, return_inverse=True
    )
    losses = np.bincount(index, log_loss(scores, rows["label"]))
    expected = np.bincount(index, expected_log_loss(scores))
    counts = np.bincount(index)
    for n, (block, version) in enumerate(groups.T.tolist()):
        yield BlockLoss(
            block, version, is_served, float(losses[n]), float(expected[n]), int(counts[n])
        )
