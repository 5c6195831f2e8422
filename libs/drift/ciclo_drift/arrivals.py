"""Counts and gaps: do as many events come as usual, or none at all?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.blocks import TINY, finite_vector, require_between
from ciclo_drift.errors import DriftInputError
from ciclo_drift.rank_bank import RankBank
from ciclo_drift.reference import Reference
from ciclo_drift.snapshots import Snapshot, require_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.alarms import Alarm
    from ciclo_drift.calibration import Certificate

MOST_OPEN = 100_000
"""Buckets that may be open at once (800 KB): an event further ahead has a wrong clock."""

FARTHEST = 2.0**62
"""Buckets from time 0 beyond which a clock is as wrong as can be."""


class ArrivalBank:
    """Watches how many events come in each bucket of time: fewer, more, or none.

    Events are counted in buckets of equal length; a bucket is closed by the time that the caller
    vouches for, not by the next event, so silence is seen too: an empty bucket is a count of 0.
    Closed buckets are the rows of a `RankBank`, compared with buckets of the same phase of a
    cycle. Choose buckets of some ten events or more: a gap shorter than a bucket is not seen.
    Time a bucket: some 0.4 us, and 25 ns an event.

    Args:
        reference: Sketch of counts per bucket.
        bucket_seconds: Length of a bucket. > 0.
        cycle_buckets: Buckets after which the season repeats, counted from time 0; 1: no season.
        budget_buckets: Mean number of buckets between false alarms. >= 10.
        next_bucket: The first bucket that is watched: time / `bucket_seconds`, rounded down.
        seed: Seed of the draws that break ties.

    What it has seen: `late_events` and `ahead_events`, which were left out, and `silent_buckets`,
    the closed buckets without an event since the last one with some.

    Raises:
        DriftInputError: A setting is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> times = np.cumsum(rng.exponential(1.0, size=60_000))  # one a second
        >>> bank = ArrivalBank.fit(times, bucket_seconds=30, budget_buckets=5_000)
        >>> start = 30.0 * bank.next_bucket
        >>> bank.update(start + np.cumsum(rng.exponential(1.0, size=3_000)))
        >>> bank.advance(start + 2_400) is None  # as before
        True
        >>> alarm = bank.advance(start + 3_600)  # silence since some 3,000 seconds
        >>> alarm.culprits[0].change, bank.silent_buckets
        ('down', 21)

    Reference:
        As for `RankBank`.
    """

    KIND = "ciclo_drift.ArrivalBank/1"

    def __init__(
        self,
        reference: Reference,
        *,
        bucket_seconds: float,
        cycle_buckets: int = 1,
        budget_buckets: float,
        next_bucket: int,
        seed: int = 0,
    ) -> None:
        require_between("bucket_seconds", bucket_seconds, TINY, 1e9)
        require_between("cycle_buckets", cycle_buckets, 1, reference.phases)
        self.bucket_seconds, self.cycle_buckets = float(bucket_seconds), int(cycle_buckets)
        self._bank = RankBank(reference, budget_rows=budget_buckets, seed=seed)
        self._open = np.zeros(0, dtype=np.int64)
        self.next_bucket = int(next_bucket)
        self.late_events = 0
        self.ahead_events = 0
        self.silent_buckets = 0

    @classmethod
    def fit(
        cls,
        times: NDArray[np.float64],
        *,
        bucket_seconds: float,
        cycle_buckets: int = 1,
        budget_buckets: float,
        name: str = "arrivals",
        seed: int = 0,
    ) -> ArrivalBank:
        """Sketches how many events came in each bucket; watches from the last one on.

        Args:
            times: Times of the reference's events, in seconds since any moment. Shape (m,), any
                order. The first and the last bucket are incomplete and left out.
            bucket_seconds: As for the class.
            cycle_buckets: As for the class.
            budget_buckets: As for the class.
            name: Name of the stream.
            seed: Seed of resampling and of ties.

        Raises:
            DriftInputError: A time is not finite, fewer than 100 buckets, or all of one count.
        """
        require_between("bucket_seconds", bucket_seconds, TINY, 1e9)
        buckets = _buckets(times, bucket_seconds)
        first, last = int(buckets.min()) + 1, int(buckets.max())
        require_between("times: buckets", last - first, 100, 1e8)
        whole = buckets[(buckets >= first) & (buckets < last)]
        counts = np.bincount(whole - first, minlength=last - first).astype(np.float64)
        phases = np.arange(first, last) % cycle_buckets
        reference = Reference.numeric(
            counts, name=name, phases=phases, budgets_rows=[budget_buckets], seed=seed
        )
        return cls(
            reference,
            bucket_seconds=bucket_seconds,
            cycle_buckets=cycle_buckets,
            budget_buckets=budget_buckets,
            next_bucket=last,
            seed=seed,
        )

    @property
    def certificate(self) -> Certificate:
        """Whether the reference can promise the budget."""
        return self._bank.certificate

    @property
    def evidence(self) -> float:
        """The Shiryaev-Roberts sum, now."""
        return self._bank.evidence

    @property
    def alarm(self) -> Alarm | None:
        """The alarm since the last reset, if any; its rows are buckets."""
        return self._bank.alarm

    def update(self, times: object) -> None:
        """Counts events, in any order; a bucket is judged once `advance` has closed it.

        Events of closed buckets are counted in `late_events`, those more than 100,000 buckets
        ahead in `ahead_events`; both are left out.

        Args:
            times: Shape (n,), seconds.

        Raises:
            DriftInputError: A time is not finite; none is counted.
        """
        places = _buckets(times, self.bucket_seconds) - self.next_bucket
        late, ahead = places < 0, places >= MOST_OPEN
        self.late_events += int(late.sum())
        self.ahead_events += int(ahead.sum())
        added = np.bincount(places[~late & ~ahead], minlength=len(self._open))
        added[: len(self._open)] += self._open
        self._open = added.astype(np.int64)

    def advance(self, now: float) -> Alarm | None:
        """Closes the buckets that end by `now`; returns the alarm if one of them raised it.

        A clock that jumps back closes nothing.

        Args:
            now: Time up to which all events were given to `update`. Seconds.

        Raises:
            DriftInputError: Not finite, or more than 100,000 buckets ahead; nothing is closed.
        """
        require_between("now", now, -math.inf, math.inf)
        if not math.isfinite(now) or now / self.bucket_seconds - self.next_bucket > MOST_OPEN:
            raise DriftInputError(
                "now", f"{now}", f"a time at most {MOST_OPEN} buckets after the last one closed"
            )
        closed = max(math.floor(now / self.bucket_seconds) - self.next_bucket, 0)
        counts = np.zeros(closed)
        known = min(closed, len(self._open))
        counts[:known] = self._open[:known]
        phases = np.arange(self.next_bucket, self.next_bucket + closed) % self.cycle_buckets
        alarm = self._bank.update(counts, phases)
        busy = np.flatnonzero(counts)
        self.silent_buckets = (
            closed - 1 - int(busy[-1]) if len(busy) else self.silent_buckets + closed
        )
        self._open = self._open[known:]
        self.next_bucket += closed
        return alarm

    def reset(self) -> None:
        """Starts anew, from the reference; the clock and the open buckets stay."""
        self._bank.reset()

    def snapshot(self) -> Snapshot:
        """Returns reference, settings and state; `restore` continues from it exactly."""
        clock = [self.cycle_buckets, self.next_bucket]
        seen = [self.late_events, self.ahead_events, self.silent_buckets]
        return self._bank.snapshot() | {
            "kind": np.array(self.KIND),
            "bucket_seconds": np.array(self.bucket_seconds),
            "clock": np.array(clock + seen, dtype=np.int64),
            "open": self._open.copy(),
        }

    @classmethod
    def restore(cls, snapshot: Snapshot) -> ArrivalBank:
        """Returns the bank that `snapshot` was taken from.

        Raises:
            DriftInputError: The snapshot is of something else.
        """
        require_kind(snapshot, cls.KIND)
        inner = RankBank.restore(snapshot | {"kind": np.array(RankBank.KIND)})
        cycle, next_bucket, *seen = (int(value) for value in snapshot["clock"])
        bank = cls(
            inner.reference,
            bucket_seconds=float(snapshot["bucket_seconds"]),
            cycle_buckets=cycle,
            budget_buckets=float(snapshot["budget_rows"]),
            next_bucket=next_bucket,
        )
        bank._bank = inner
        bank._open = snapshot["open"].astype(np.int64)
        bank.late_events, bank.ahead_events, bank.silent_buckets = seen
        return bank


def _buckets(times: object, bucket_seconds: float) -> NDArray[np.int64]:
    """Number of the bucket of each time. Shape (n,).

    Raises:
        DriftInputError: A time is not finite.
    """
    places = np.floor(finite_vector("times", times, least=0) / bucket_seconds)
    return np.clip(places, -FARTHEST, FARTHEST).astype(np.int64)
