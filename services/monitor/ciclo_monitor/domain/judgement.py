"""Is the challenger better? Both on the same rows, by blocks of time, anytime-valid."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ciclo_drift import Comparison, PairedComparison, Verdict, log_loss
from ciclo_monitor.domain.batches import UNKNOWN_US
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.sums import counted

CLIP = 0.25
"""Largest difference of a block's mean log loss that counts: some five deviations of the daily
means that were seen. One freak day must not decide."""

LEAST_ROWS = 20
"""Labelled pairs that a block needs; fewer say too little about their block."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Who is compared with whom.

    Args:
        rollout: Number of the rollout.
        champion: The version that served when it began.
        challenger: The version that wants to.
        since_us: Rows from this event time on are compared.
        margin: Smallest gain that counts as better, and largest loss that counts as not worse.
        alpha: Chance of ever giving a wrong verdict.
    """

    rollout: int
    champion: int
    challenger: int
    since_us: int
    margin: float
    alpha: float


class Judgement:
    """Feeds blocks in which both answered to a paired comparison.

    A block is compared once it is closed and its rows were asked again.

    Args:
        pair: Who is compared.
        calendar: Cuts event time into blocks.
    """

    def __init__(self, pair: Pair, calendar: Calendar) -> None:
        self.asked_until_us = UNKNOWN_US
        self._pair = pair
        self._calendar = calendar
        self._next = calendar.first_whole(pair.since_us)
        self._comparison = PairedComparison(margin=pair.margin, alpha=pair.alpha, clip=CLIP)

    @property
    def comparison(self) -> Comparison:
        """What the blocks so far say; a gain within the margin is not called better."""
        found = self._comparison.judge()
        if found.verdict is Verdict.BETTER and found.lower <= self._pair.margin:
            return replace(found, verdict=Verdict.NOT_WORSE)
        return found

    def fold(self, rows: NDArray[np.void], watermark_us: int) -> list[tuple[int, Comparison]]:
        """Compares the blocks that have closed; returns each with what is known after it.

        Args:
            rows: [n] of `rows.ROW`, all that are kept.
            watermark_us: Up to which predictions and labels are known.
        """
        asked = self.asked_until_us // self._calendar.block_us - 1
        last = min(self._calendar.last_closed(watermark_us), asked)
        if last < self._next:
            return []
        mine = rows[(rows["rollout"] == self._pair.rollout) & (rows["block"] >= self._next)]
        if not len(mine):
            self._next = last + 1  # what comes later does not count
            return []
        self._next = max(self._next, int(mine["block"].min()))
        compared = []
        while self._next <= last:
            pairs = counted(mine, self._calendar, self._next)
            if len(pairs) >= LEAST_ROWS:
                compared.append((self._next, self._compare(pairs)))
            self._next += 1
        return compared

    def snapshot(self) -> dict[str, NDArray[np.generic]]:
        """Returns all that is needed to go on."""
        inner = {f"pairs/{name}": value for name, value in self._comparison.snapshot().items()}
        return {"marks": np.array([self._next, self.asked_until_us]), **inner}

    def restore(self, snapshot: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a snapshot."""
        self._next, self.asked_until_us = snapshot["marks"].tolist()
        inner = {n[6:]: value for n, value in snapshot.items() if n.startswith("pairs/")}
        self._comparison = PairedComparison.restore(inner)

    def _compare(self, rows: NDArray[np.void]) -> Comparison:
        own = log_loss(rows["score"], rows["label"])
        other = log_loss(rows["other_score"], rows["label"])
        # The challenger's gain: the champion's loss less its own, whoever of the two served.
        gain = np.where(rows["version"] == self._pair.challenger, other - own, own - other)
        self._comparison.update(float(gain.sum()), len(rows))
        return self.comparison
