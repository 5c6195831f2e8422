"""How long a run waits for others before it fails with what it waited for."""

from dataclasses import dataclass
from datetime import timedelta

MOST_FAULTS = 8
"""Tries of what answers with a fault of its own; with back-off they take some ten seconds."""


@dataclass(frozen=True, slots=True)
class Patience:
    """A run's wait, from the first time that something was not to be had.

    Attributes:
        since_seconds: Monotonic time of its begin.
        faults: How often what was asked failed, instead of being away.

    Example:
        >>> wait = Patience(since_seconds=0.0)
        >>> wait.is_lost(3599.0, timedelta(hours=1)), wait.is_lost(3600.0, timedelta(hours=1))
        (False, True)
    """

    since_seconds: float
    faults: int = 0

    def is_lost(self, now_seconds: float, limit: timedelta) -> bool:
        """Says whether the run has waited for long enough, or met with enough faults."""
        waited_seconds = now_seconds - self.since_seconds
        return self.faults >= MOST_FAULTS or waited_seconds >= limit.total_seconds()
