"""Losses whose labels come late and in any order, handed out as whole blocks in time order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.blocks import finite_vector, require_between
from ciclo_drift.errors import DriftInputError
from ciclo_drift.snapshots import Snapshot, require_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNIT_BITS = 1074
"""Sums are whole numbers of 2^-1074, the smallest float: every loss is one, so no sum rounds."""

SUM_BYTES = 280
"""Room for such a sum in a snapshot: 2,098 bits of the largest float, a sign, 2^127 rows."""

LOW_BITS = 27
"""Mantissas (53 bits) are summed in two halves, which stay exact in a float64 for 2^26 rows."""

MAX_BATCH = 2**26
"""Rows of one call."""

NO_WATERMARK = int(np.iinfo(np.int64).min)
"""The watermark before the first: every block is open."""


@dataclass(frozen=True, slots=True)
class MatureBlock:
    """A block whose labels are all in, as far as the watermark promises.

    Args:
        block: Its id.
        total: Sum of the losses of its labelled rows, rounded once. Unit of the loss.
        rows: Number of those rows, >= 1.
    """

    block: int
    total: float
    rows: int


class LateLosses:
    """Collects losses by time block until a watermark says that a block is complete.

    Rows come in any order; `mature` hands blocks out in time order, each once, ready for
    `BlockMeanTest.update` and `PairedComparison.update`. Sums are exact: whatever the order of
    arrival before the watermark, totals are the same bit for bit. What comes for a block before
    the watermark is counted in `late_rows` and `late_total`, and enters no block. A row given
    twice counts twice: whoever feeds this knows what it fed. Some 300 bytes an open block;
    0.3 us a row in batches, and 2 us a block and batch.

    Args:
        max_open_blocks: Blocks that may wait at a time. In [1, 1,000,000].

    Raises:
        DriftInputError: The setting is out of range.

    Example:
        >>> late = LateLosses()
        >>> late.add(np.array([3, 1, 3, 2]), np.array([0.5, 0.1, 0.25, 1.0]))
        >>> [(done.block, done.total, done.rows) for done in late.mature(before=3)]
        [(1, 0.1, 1), (2, 1.0, 1)]
        >>> late.add(np.array([2, 3]), np.array([0.125, 0.125]))
        >>> late.late_rows, late.mature(before=4)
        (1, [MatureBlock(block=3, total=0.875, rows=3)])

    Reference:
        T. Akidau et al., "The dataflow model", VLDB 8 (2015): watermarks.
        U. Kulisch, "Very fast and exact accumulation of products", Computing 91 (2011): sums in
        one long fixed-point number.
    """

    KIND = "ciclo_drift.LateLosses/1"

    def __init__(self, *, max_open_blocks: int = 4_096) -> None:
        require_between("max_open_blocks", max_open_blocks, 1, 1_000_000)
        self.max_open_blocks = int(max_open_blocks)
        self.reset()

    def reset(self) -> None:
        """Forgets all rows and the watermark; the setting stays."""
        self._open: dict[int, tuple[int, int]] = {}
        self._late = (0, 0)
        self._watermark = NO_WATERMARK

    @property
    def watermark(self) -> int | None:
        """Blocks before this one are handed out; None before the first call of `mature`."""
        return None if self._watermark == NO_WATERMARK else self._watermark

    @property
    def open_blocks(self) -> int:
        """Blocks that wait for the watermark."""
        return len(self._open)

    @property
    def late_rows(self) -> int:
        """Rows that came for a block before the watermark."""
        return self._late[1]

    @property
    def late_total(self) -> float:
        """Sum of their losses. Unit of the loss."""
        return _rounded(self._late[0])

    def add(self, blocks: NDArray[np.integer], losses: NDArray[np.float64]) -> None:
        """Takes labelled rows, in any order.

        Args:
            blocks: The block of each row, a whole number that grows with time. Shape (n,).
            losses: The loss of each row, or a difference of losses. Shape (n,), finite.

        Raises:
            DriftInputError: Shapes differ, a loss is not finite, an id is not a whole number, or
                more than `max_open_blocks` would wait; no row is counted.
        """
        ids, values = np.asarray(blocks), finite_vector("losses", losses, least=0)
        if ids.shape != values.shape or len(ids) > MAX_BATCH:
            expected = f"the shape of losses, {values.shape}, at most {MAX_BATCH} rows"
            raise DriftInputError("blocks", f"shape {ids.shape}", expected)
        if ids.dtype.kind not in "iu" or not np.can_cast(ids.dtype, np.int64):
            raise DriftInputError("blocks", f"ids of type {ids.dtype}", "whole numbers of 64 bits")
        sums = _exact_sums(ids.astype(np.int64), values)
        wait = [block for block in sums if block >= self._watermark]
        waiting = len(self._open.keys() | wait)
        if waiting > self.max_open_blocks:
            expected = f"at most {self.max_open_blocks}: move the watermark, or allow more"
            raise DriftInputError("blocks", f"{waiting} blocks open", expected)
        for block, found in sums.items():
            if block < self._watermark:
                self._late = _plus(self._late, found)
            else:
                self._open[block] = _plus(self._open.get(block, (0, 0)), found)

    def mature(self, before: int) -> list[MatureBlock]:
        """Moves the watermark and hands out the blocks that it passed, in time order.

        Blocks without a row are left out. A watermark at or before the present one hands out
        nothing and changes nothing.

        Args:
            before: Blocks before this one get no more labels.
        """
        if before <= self._watermark:
            return []
        self._watermark = int(before)
        done = sorted(block for block in self._open if block < before)
        found = [(block, *self._open.pop(block)) for block in done]
        return [MatureBlock(block, _rounded(units), rows) for block, units, rows in found]

    def snapshot(self) -> Snapshot:
        """Returns setting and state; `restore` continues from it exactly."""
        ids = sorted(self._open)
        sums = [self._open[block] for block in ids] + [self._late]
        packed = b"".join(units.to_bytes(SUM_BYTES, "little", signed=True) for units, _ in sums)
        return {
            "kind": np.array(self.KIND),
            "settings": np.array([self.max_open_blocks, self._watermark], dtype=np.int64),
            "ids": np.array(ids, dtype=np.int64),
            "units": np.frombuffer(packed, dtype=np.uint8).reshape(-1, SUM_BYTES),
            "rows": np.array([rows for _, rows in sums], dtype=np.int64),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> LateLosses:
        """Returns the collection that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        most, watermark = (int(value) for value in snapshot["settings"])
        late = cls(max_open_blocks=most)
        late._watermark = watermark
        units = [int.from_bytes(u.tobytes(), "little", signed=True) for u in snapshot["units"]]
        sums = list(zip(units, snapshot["rows"].tolist(), strict=True))
        late._late = sums.pop()
        late._open = dict(zip(snapshot["ids"].tolist(), sums, strict=True))
        return late


def _plus(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return first[0] + second[0], first[1] + second[1]


def _rounded(units: int) -> float:
    """The nearest float: division of whole numbers rounds once. Infinite past the largest."""
    try:
        return units / (1 << UNIT_BITS)
    except OverflowError:
        return math.copysign(math.inf, units)


def _exact_sums(
    blocks: NDArray[np.int64], values: NDArray[np.float64]
) -> dict[int, tuple[int, int]]:
    """Sum in units and rows of each block.

    Mantissas with the same exponent add as whole numbers; the few sums are then shifted into
    place.
    """
    mantissas, exponents = np.frexp(values)
    wholes = np.ldexp(mantissas, 53).astype(np.int64)
    ids, place = np.unique(blocks, return_inverse=True)
    scales, scale = np.unique(exponents, return_inverse=True)
    keys, group = np.unique(place * len(scales) + scale, return_inverse=True)
    high = np.bincount(group, wholes >> LOW_BITS)
    low = np.bincount(group, wholes & ((1 << LOW_BITS) - 1))
    rows = np.bincount(place)
    sums = dict.fromkeys(range(len(ids)), 0)
    for key, upper, lower in zip(keys.tolist(), high.tolist(), low.tolist(), strict=True):
        block, exponent = divmod(key, len(scales))
        shift = int(scales[exponent]) - 53 + UNIT_BITS
        whole = (int(upper) << LOW_BITS) + int(lower)
        # Below the normal numbers the last bits of a mantissa are 0: nothing is cut off.
        sums[block] += whole << shift if shift >= 0 else whole >> -shift
    return {int(ids[i]): (units, int(rows[i])) for i, units in sums.items()}
