"""The event time that is known: it does not go far ahead on one caller's word.

A single call with a wrong clock must not end all watching: what lies years ahead would close every
block that is still to come. Once it is settled it never goes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ciclo_monitor.domain.batches import UNKNOWN_US

REACH_US = 7 * 86_400_000_000
"""How far ahead a record is believed at once, beyond the age after which no label is waited for:
traffic may pause for so long, and what comes late anyway is of no use."""

AGREEING = 10
"""Records that must lie ahead before time is believed to have moved there, and times that must
agree before the first that was ever heard of is believed for good."""

OUTWEIGHED = 5
"""Records that are not ahead which outweigh one that is: a wrong clock is rarer than one call in
six, and a world that moved on is not held back by those who still ask of the past."""


@dataclass(slots=True)
class Watermark:
    """Follows the event times of records in the order of their topic.

    Args:
        reach_us: How far ahead of it a record is believed at once.
        now_us: Greatest event time that is believed.
        agreed: Times that agreed with it, up to `AGREEING`: before, an earlier one may replace it.
        ahead: Records, in parts, that lay further ahead, times `OUTWEIGHED`, less the others.
        ahead_us: Smallest event time among them.

    Example:
        >>> mark = Watermark(reach_us=10)
        >>> for day in range(1, 15):
        ...     believed = mark.take(np.array([day]))
        >>> mark.take(np.array([15, 1_000])), mark.now_us
        (array([ True, False]), 15)
    """

    reach_us: int
    now_us: int = UNKNOWN_US
    agreed: int = 0
    ahead: float = 0.0
    ahead_us: int = field(default=UNKNOWN_US)

    @property
    def settled_us(self) -> int:
        """The same once it cannot go back any more; `UNKNOWN_US` before. Closes blocks."""
        return self.now_us if self.agreed >= AGREEING else UNKNOWN_US

    def take(self, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Takes in the event times of a record [n], n >= 1; returns which are believed [n]."""
        if self.agreed < AGREEING and (times_us < self.now_us - self.reach_us).all():
            # What was heard before was ahead of the others, or it is the wrong clock itself.
            self.now_us, self.agreed = int(times_us.min()), 0
        if self.now_us == UNKNOWN_US:
            self.now_us = int(times_us.min())
        near = self._follow(times_us)
        if not near.all() and self._is_believed(times_us, near):
            self.now_us, self.ahead = max(self.now_us, self.ahead_us), 0.0
            near = self._follow(times_us)
        elif near.all():
            self.ahead = max(self.ahead - 1.0, 0.0)
        if self.agreed < AGREEING:
            agreeing = np.unique(times_us[near & (times_us >= self.now_us - self.reach_us)])
            self.agreed = min(self.agreed + len(agreeing), AGREEING)
        return near

    def _is_believed(self, times_us: NDArray[np.int64], near: NDArray[np.bool_]) -> bool:
        """Weighs a record of which a part lies ahead."""
        oldest = int(times_us[~near].min())
        self.ahead_us = min(self.ahead_us, oldest) if self.ahead else oldest
        share = 1.0 - float(near.mean())
        self.ahead = max(self.ahead + OUTWEIGHED * share - (1.0 - share), 0.0)
        return self.ahead >= AGREEING * OUTWEIGHED

    def is_near(self, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Says of each time whether it lies at most `reach_us` ahead. [n]."""
        return times_us <= self.now_us + self.reach_us

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Returns all that is needed to go on."""
        return {
            "times": np.array([self.now_us, self.agreed, self.ahead_us]),
            "ahead": np.array(self.ahead),
        }

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Goes on from a state."""
        self.now_us, self.agreed, self.ahead_us = state["times"].tolist()
        self.ahead = float(state["ahead"])

    def _follow(self, times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Goes on to the newest of the times that no gap parts from it; returns which are known."""
        while True:
            near = self.is_near(times_us)
            newest = int(times_us[near].max(initial=UNKNOWN_US))
            if newest <= self.now_us:
                return near
            self.now_us = newest
