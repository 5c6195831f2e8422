"""Blocks of event time within which rows are not independent, and when a block is closed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Calendar:
    """Cuts event time into blocks, aligned to 1970-01-01T00:00:00Z.

    A block is closed once the labels that are expected have had their time. Only what was known by
    then enters a test, whatever order it arrived in: early labels are a biased sample, and a
    decision that depends on arrival cannot be repeated.

    Args:
        block_us: Length of a block; `quality.correlated_within`.
        matures_us: Time from a block's end to its close; `label.expected_within`.
        never_us: Time after which a label is not waited for; `label.never_after`.

    Example:
        >>> day = Calendar(86_400_000_000, 43_200_000_000, 259_200_000_000)
        >>> day.close_us(0) / 3_600e6
        36.0
        >>> day.last_closed(int(36 * 3_600e6)), day.last_closed(int(36 * 3_600e6) - 1)
        (0, -1)
    """

    block_us: int
    matures_us: int
    never_us: int

    def block_of(self, event_time_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the block of each time."""
        return np.floor_divide(event_time_us, self.block_us)

    def start_us(self, block: int) -> int:
        """Returns the first time of a block."""
        return block * self.block_us

    def end_us(self, block: int) -> int:
        """Returns the first time after a block."""
        return (block + 1) * self.block_us

    def close_us(self, block: int) -> int:
        """Returns the time at which a block is closed."""
        return self.end_us(block) + self.matures_us

    def last_closed(self, watermark_us: int) -> int:
        """Returns the newest block that is closed at a time."""
        return (watermark_us - self.matures_us) // self.block_us - 1

    def last_closed_each(self, watermark_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the newest block that is closed at each of some times."""
        return np.floor_divide(watermark_us - self.matures_us, self.block_us) - 1

    def first_whole(self, since_us: int) -> int:
        """Returns the first block that begins at or after a time."""
        return -(-since_us // self.block_us)
