"""Two models on the same rows: which loses less, with a verdict that holds whenever one stops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.blocks import TINY, neighbour_inflation, require_between, require_block
from ciclo_drift.errors import DriftInputError
from ciclo_drift.snapshots import Snapshot, require_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_PRECISION = 3.0
"""Precision of the normal mixture over (gain / sd of a block): effects of about half a standard
deviation, the size at which some twenty blocks decide. Smaller values decide sooner on large
effects and err more often where blocks are skewed."""

FLOOR = 1e-3
"""Blocks are taken to vary by at least this share of `clip`: a handful of blocks that agree by
chance to the last digit (few rows, 0/1 losses) would otherwise count as endless evidence."""

HORIZON_BLOCKS = 10_000
"""Verdicts further away than this are reported as out of sight."""


class Verdict(StrEnum):
    """What is known about the challenger, at the declared error."""

    BETTER = "better"
    """The whole interval of the gain lies above 0."""
    NOT_WORSE = "not_worse"
    """The whole interval lies above -margin."""
    WORSE = "worse"
    """The whole interval lies below 0, and not above -margin."""
    UNDECIDED = "undecided"
    """None of these yet."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the blocks seen so far say about the challenger.

    Args:
        verdict: The strongest claim that holds.
        gain: Mean loss of the champion less that of the challenger, over blocks, each held within
            `limit` of 0. Unit of the loss; NaN before the first block.
        lower: Lower end of the confidence sequence of the gain.
        upper: Upper end. Both hold at all blocks at once with probability 1 - alpha.
        mean: The same difference over rows, without a limit; NaN before the first block.
        limit: Largest difference that a block counts with.
        blocks: Blocks seen.
        rows: Rows seen.
        blocks_expected: Further blocks until a stronger verdict if things go on as so far;
            0 after `better` and `worse`; None where none is in sight.
    """

    verdict: Verdict
    gain: float
    lower: float
    upper: float
    mean: float
    limit: float
    blocks: int
    rows: int
    blocks_expected: int | None


class PairedComparison:
    """Compares two models on the same rows, one time block at a time.

    The mean difference of each block is one observation: rows within a block may depend on
    each other in any way. An anytime-valid t-test (a normal mixture over the effect size, the
    scale integrated out) turns them into a confidence sequence, so one may look after every
    block and stop whenever one likes. Blocks with fewer rows than usual count less.
    Memory and time per block: O(1).

    The error `alpha` is kept for independent normal blocks of unknown spread and for heavy tails.
    Where neighbouring blocks resemble each other they count as fewer, by their measured
    correlation. Strongly skewed block means exceed `alpha` (README, with figures): declare
    longer blocks, or a tighter `clip`.

    Args:
        margin: Loss that may be given away and still be `not_worse`. Unit of the loss, >= 0.
        alpha: Chance of ever giving a wrong verdict, half on each side. In (0, 1).
        clip: Largest difference of a block's mean that counts; beyond it counts as this much.
            Unit of the loss, > 0. Some five standard deviations of a block's mean difference.
        least_blocks: Blocks before the first verdict. >= 3.

    Raises:
        DriftInputError: A setting is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pair = PairedComparison(margin=0.005, alpha=0.05, clip=0.25)
        >>> for day_mean in rng.normal(0.034, 0.05, size=60):
        ...     now = pair.update(total=900 * day_mean, rows=900)
        ...     if now.verdict is Verdict.BETTER:
        ...         break
        >>> now.verdict.value, now.blocks, round(now.gain, 3)
        ('better', 34, 0.027)

    Reference:
        T. L. Lai, "On confidence sequences", Annals of Statistics 4 (1976).
        H. Wang, A. Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means
        with unknown variance", Sequential Analysis 44 (2025).
    """

    KIND = "ciclo_drift.PairedComparison/2"

    def __init__(
        self, *, margin: float = 0.0, alpha: float = 0.05, clip: float, least_blocks: int = 5
    ) -> None:
        require_between("margin", margin, 0.0, math.inf)
        require_between("alpha", alpha, 1e-9, 0.5)
        require_between("clip", clip, TINY, 1e100)
        require_between("least_blocks", least_blocks, 3, 1_000_000)
        self.margin, self.alpha, self.clip = float(margin), float(alpha), float(clip)
        self.least_blocks = int(least_blocks)
        self.reset()

    def reset(self) -> None:
        """Forgets all blocks; settings stay."""
        self._blocks = 0
        self._rows = 0
        self._weight = 0.0
        self._mean = 0.0
        self._squares = 0.0
        self._steps = 0.0
        self._last = (0.0, 0.0)
        self._total = 0.0

    def update(self, total: float, rows: int) -> Comparison:
        """Takes the next block and returns what is known after it.

        Args:
            total: Sum over the block's rows of (loss of the champion - loss of the challenger).
                Positive: the challenger lost less.
            rows: Rows of the block, >= 1. Rows without a label are left out of both.

        Raises:
            DriftInputError: `total` is not finite or `rows` < 1; the block is not counted.
        """
        require_block(total, rows)
        # The weight may look at rows, not at losses: it must be known before they are.
        usual = self._rows / self._blocks if self._blocks else float(rows)
        weight = min(1.0, rows / usual)
        value = min(max(float(total) / rows, -self.clip), self.clip)
        if self._blocks:
            last, last_weight = self._last
            pull = weight * last_weight / (weight + last_weight)
            self._steps += 2.0 * pull * (value - last) ** 2
        self._last = (value, weight)
        self._blocks += 1
        self._rows += int(rows)
        self._total += float(total)
        self._weight += weight
        step = value - self._mean
        self._mean += step * weight / self._weight
        self._squares += weight * step * (value - self._mean)
        return self.judge()

    def judge(self) -> Comparison:
        """Returns what is known now; changes nothing."""
        if self._blocks == 0:
            nothing = (math.nan, -math.inf, math.inf, math.nan, self.clip)
            return Comparison(Verdict.UNDECIDED, *nothing, 0, 0, None)
        widths = self._half_width(self._blocks + _horizon())
        half = float(widths[0])
        lower, upper = self._mean - half, self._mean + half
        verdict = self._verdict(lower, upper)
        return Comparison(
            verdict,
            self._mean,
            lower,
            upper,
            self._total / self._rows,
            self.clip,
            self._blocks,
            self._rows,
            self._expected(verdict, widths),
        )

    def snapshot(self) -> Snapshot:
        """Returns settings and state; `restore` continues from it exactly."""
        return {
            "kind": np.array(self.KIND),
            "settings": np.array([self.margin, self.alpha, self.clip, self.least_blocks]),
            "counts": np.array([self._blocks, self._rows], dtype=np.int64),
            "moments": np.array(
                [self._weight, self._mean, self._squares, self._steps, *self._last, self._total]
            ),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> PairedComparison:
        """Returns the comparison that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        margin, alpha, clip, least = (float(value) for value in snapshot["settings"])
        pair = cls(margin=margin, alpha=alpha, clip=clip, least_blocks=int(least))
        pair._blocks, pair._rows = (int(value) for value in snapshot["counts"])
        pair._weight, pair._mean, pair._squares, pair._steps, last, last_weight, pair._total = (
            float(value) for value in snapshot["moments"]
        )
        pair._last = (last, last_weight)
        return pair

    def _half_width(self, blocks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Half the interval's width after `blocks` blocks, (k,), spread as seen so far.

        With S = sum w (x - m), V = sum w (x - m)^2, W = sum w and prior precision c the mixture
        likelihood ratio against mean m is sqrt(c / (W + c)) (1 - S^2 / ((W + c) V))^(-n / 2);
        the interval holds the m at which it is below 1 / alpha. Solved for (mean - m)^2.
        """
        growth = blocks / self._blocks / self._inflation()
        count = self._blocks * growth
        weight = self._weight * growth
        squares = np.maximum(self._squares * growth, weight * (FLOOR * self.clip) ** 2)
        total = weight + PRIOR_PRECISION
        share = 1.0 - (self.alpha**2 * PRIOR_PRECISION / total) ** (1.0 / count)
        room = weight - share * total
        open_ended = (room <= 0.0) | (blocks < self.least_blocks)
        square = share * total * squares / (np.where(open_ended, 1.0, room) * weight)
        return np.where(open_ended, math.inf, np.sqrt(square))

    def _inflation(self) -> float:
        """Blocks that count as one, because neighbours resemble each other."""
        pairs = max(self._blocks - 1, 1)
        count = np.array([float(self._blocks)])
        # The floor counts as independent noise: two equal models are no dependent blocks.
        floor = (FLOOR * self.clip) ** 2
        squares = np.array([self._squares / pairs + floor])
        steps = np.array([self._steps / pairs + 2.0 * floor])
        return float(neighbour_inflation(squares, steps, count)[0])

    def _verdict(self, lower: float, upper: float) -> Verdict:
        if lower > 0.0:
            return Verdict.BETTER
        if lower > -self.margin:
            return Verdict.NOT_WORSE
        return Verdict.WORSE if upper < 0.0 else Verdict.UNDECIDED

    def _expected(self, verdict: Verdict, widths: NDArray[np.float64]) -> int | None:
        if verdict in {Verdict.BETTER, Verdict.WORSE}:
            return 0
        if self._blocks < 2:
            return None
        distances = [self._mean]
        if verdict is Verdict.UNDECIDED:
            distances += [self._mean + self.margin, -self._mean]
        distance = max(distances)
        reached = widths[1:] < distance
        return int(_horizon()[1:][np.argmax(reached)]) if bool(reached.any()) else None


@lru_cache(maxsize=1)
def _horizon() -> NDArray[np.int64]:
    """Numbers of blocks ahead at which to look: 0, then steps of 6 %."""
    return np.unique(np.append(0, np.geomspace(1, HORIZON_BLOCKS, 160).astype(np.int64)))


def compare_blocks(
    totals: NDArray[np.float64], rows: NDArray[np.int64], pair: PairedComparison
) -> list[Comparison]:
    """Feeds blocks in order and returns what was known after each.

    Args:
        totals: Sums of loss differences per block. Shape (B,).
        rows: Rows per block. Shape (B,).
        pair: The comparison to feed; it is changed.

    Raises:
        DriftInputError: Shapes differ, or a block is refused.
    """
    if np.shape(totals) != np.shape(rows):
        raise DriftInputError("rows", f"shape {np.shape(rows)}", f"shape {np.shape(totals)}")
    return [pair.update(float(total), int(n)) for total, n in zip(totals, rows, strict=True)]
