"""How long to wait before trying again; used by every part that retries."""

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter, capped.

    Attributes:
        first: The greatest wait before the second attempt. > 0.
        factor: By how much the wait grows with each attempt. >= 1.
        cap: The greatest wait of all.

    Example:
        >>> Backoff(first=timedelta(seconds=1)).ceiling(attempt=4)
        datetime.timedelta(seconds=8)
    """

    first: timedelta = timedelta(milliseconds=100)
    factor: float = 2.0
    cap: timedelta = timedelta(seconds=30)

    def ceiling(self, attempt: int) -> timedelta:
        """The wait after the `attempt`-th failure (from 1), before jitter."""
        # Bounded twice: after hours of failures the power exceeds any timedelta.
        return self.first * min(self.factor ** min(attempt - 1, 64), self.cap / self.first)

    def delay(self, attempt: int, rng: random.Random) -> timedelta:
        """The wait after the `attempt`-th failure: uniform in the upper half below `ceiling`.

        The jitter keeps services that lost the same dependency from coming back in step.
        """
        return self.ceiling(attempt) * rng.uniform(0.5, 1.0)


DEFAULT_BACKOFF = Backoff()
"""From a tenth of a second to half a minute."""
