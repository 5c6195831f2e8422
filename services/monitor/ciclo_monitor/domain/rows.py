"""Rows that callers got, until their labels have come and no challenger will be asked them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ciclo_monitor.domain.batches import UNKNOWN_US, Answers, Labels
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.watermark import REACH_US, Watermark

ROW = np.dtype(
    [
        ("key", np.int64),
        ("row_key", np.int64),
        ("event_time_us", np.int64),
        ("block", np.int64),
        ("version", np.int32),
        ("is_late", np.bool_),  # arrived after its block was closed to predictions
        ("score", np.float64),
        ("label", np.float64),  # NaN: unknown
        ("label_time_us", np.int64),  # when it became known
        ("label_before_us", np.int64),  # watermark of labels when it arrived
        ("rollout", np.int64),  # that asked the row again; 0: none
        ("other_version", np.int32),  # that was asked again
        ("other_score", np.float64),  # what it answered; NaN: nothing
        ("older", np.int64),  # number of the previous row with the same row key; -1: none
    ]
)
"""One row. 93 bytes."""


@dataclass(slots=True)
class RowCounts:
    """What became of rows and labels."""

    rows: int = 0
    joined: int = 0
    unmatched: int = 0
    too_late: int = 0
    corrected_late: int = 0
    never_labelled: int = 0
    dropped: int = 0
    ahead: int = 0


class RowStore:
    """Answered rows in order of arrival, found by key; pruned from the oldest on.

    Labels may come before or after their row, and again: the newest statement counts.
    Memory: about 250 bytes a row. Time: O(1) a row and label.

    Args:
        calendar: Says which block a row belongs to, and when that is closed.
        kept_us: Event time for which rows are kept. At least the calendar's `never_us`.
        most_rows: Rows beyond which the oldest are dropped and counted.
    """

    def __init__(self, calendar: Calendar, kept_us: int, most_rows: int) -> None:
        self.counts = RowCounts()
        self.clock = Watermark(calendar.never_us + REACH_US)
        self._label_clock = Watermark(calendar.never_us + REACH_US)
        self._calendar = calendar
        self._kept_us = kept_us
        self._most_rows = most_rows
        self._base = 0  # number of the oldest row that is kept
        self._rows = np.zeros(1024, ROW)
        self._size = 0
        self._index: dict[int, int] = {}
        self._waiting: dict[int, tuple[float, int, int]] = {}

    @property
    def watermark_us(self) -> int:
        """Event time up to which rows are known; `UNKNOWN_US` before the first."""
        return self.clock.now_us

    @property
    def label_watermark_us(self) -> int:
        """The same of labels."""
        return self._label_clock.now_us

    @property
    def known_us(self) -> int:
        """Event time up to which both are known; `UNKNOWN_US` before."""
        return min(self.clock.settled_us, self.label_watermark_us)

    @property
    def kept(self) -> NDArray[np.void]:
        """The rows that are kept, oldest first. [n] of `ROW`; a view."""
        return self._rows[: self._size]

    def is_new(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Says of each key whether its row is unknown, and named here for the first time. [n]."""
        asked = keys.tolist()
        firsts = dict(zip(reversed(asked), range(len(asked) - 1, -1, -1), strict=True))
        if len(firsts) == len(asked) and self._index.keys().isdisjoint(asked):
            return np.ones(len(asked), np.bool_)
        return np.array([firsts[k] == n and k not in self._index for n, k in enumerate(asked)])

    def add(self, answers: Answers, clock: Watermark) -> None:
        """Takes in rows that callers got and that are new.

        Args:
            answers: Those of a record that are believed.
            clock: The clock, after it has heard of the record.
        """
        times = answers.event_time_us
        added = self._grow(len(times))
        added["key"] = answers.keys
        added["row_key"] = answers.row_keys
        added["event_time_us"] = times
        added["block"] = self._calendar.block_of(times)
        added["version"] = answers.version
        # A row that comes when its block's predictions are complete would make the block's sums
        # depend on when labels happen to arrive.
        known_us = self.clock.settled_us
        before = np.maximum.accumulate(np.concatenate(([known_us], times)))[:-1]
        added["is_late"] = self._calendar.last_closed_each(before) >= added["block"]
        added["score"] = answers.scores
        added["label"] = np.nan
        added["other_score"] = np.nan
        self.clock = clock
        self.counts.rows += len(added)
        self._name(added)

    def label(self, labels: Labels) -> None:
        """Takes in labels; those of unknown rows wait for them."""
        if not len(labels.keys):
            return
        before = self.label_watermark_us
        believed = self._label_clock.take(labels.event_time_us)
        if before > self.label_watermark_us:  # it was the wrong clock's
            before = UNKNOWN_US
        self.counts.ahead += int((~believed).sum())
        columns = (labels.keys, labels.values, labels.event_time_us)
        for key, value, time in zip(*(c[believed].tolist() for c in columns), strict=True):
            statement = (value, time, before)
            before = max(before, time)
            number = self._index.get(key, -1)
            if number < 0:
                self._waiting[key] = statement
            while number >= self._base:
                self._set_label(number, *statement)
                number = int(self._rows[number - self._base]["older"])

    def answer_again(self, answers: Answers, is_late: Callable[[int], bool]) -> None:
        """Notes what another version answered to rows that callers got.

        Args:
            answers: Of one rollout.
            is_late: Says of a block whether its answers were complete before; such answers do not
                count, or the comparison would depend on when labels happen to arrive.
        """
        for key, score in zip(answers.keys.tolist(), answers.scores.tolist(), strict=True):
            number = self._index.get(key, -1)
            if number < self._base:
                continue
            row = self._rows[number - self._base]
            is_new = row["rollout"] != answers.rollout and row["version"] != answers.version
            if is_new and not is_late(int(row["block"])):
                row["rollout"] = answers.rollout
                row["other_version"] = answers.version
                row["other_score"] = score

    def prune(self, forget: Callable[[NDArray[np.void]], None]) -> None:
        """Lets go of rows that nobody will ask for again.

        Args:
            forget: Is given the rows before they go.
        """
        cutoff = self.clock.settled_us - self._kept_us
        kept = self.kept
        # A row far ahead was believed before the clock was settled.
        is_kept = (kept["event_time_us"] >= cutoff) & self.clock.is_near(kept["event_time_us"])
        old = int(np.argmax(is_kept)) if len(kept) else 0
        surplus = max(0, self._size - self._most_rows)
        self.counts.dropped += max(0, surplus - old)
        gone = max(old, surplus)
        if gone:
            self._remove(gone, forget)
        if self._waiting:
            self._give_up_waiting()

    def never_labelled(self) -> int:
        """Returns how many rows will have no label."""
        kept = self.kept
        over = kept["event_time_us"] < self.known_us - self._calendar.never_us
        return self.counts.never_labelled + int(np.isnan(kept["label"][over]).sum())

    def snapshot(self) -> dict[str, NDArray[np.generic]]:
        """Returns all that is needed to go on as if nothing had happened."""
        counts = self.counts
        waiting = [(key, *statement) for key, statement in self._waiting.items()]
        return {
            "rows": self.kept.view(np.uint8).copy(),
            "base": np.array(self._base),
            **{f"clock/{name}": value for name, value in self.clock.state().items()},
            **{f"labels/{name}": value for name, value in self._label_clock.state().items()},
            "counts": np.array([getattr(counts, name) for name in counts.__slots__]),
            "waiting_keys": np.array([w[0] for w in waiting], np.int64),
            "waiting_values": np.array([w[1] for w in waiting], np.float64),
            "waiting_times": np.array([w[2:] for w in waiting], np.int64).reshape(-1, 2),
        }

    def restore(self, snapshot: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a snapshot."""
        rows = np.ascontiguousarray(snapshot["rows"]).view(ROW)
        self._size = len(rows)
        self._rows = np.zeros(max(1024, 2 * len(rows)), ROW)
        self._rows[: self._size] = rows
        self._base = int(snapshot["base"])
        for prefix, clock in (("clock/", self.clock), ("labels/", self._label_clock)):
            clock.restore({n.removeprefix(prefix): a for n, a in snapshot.items()})
        self.counts = RowCounts(*snapshot["counts"].tolist())
        self._index = {}
        for number, (key, row_key) in enumerate(rows[["key", "row_key"]].tolist(), self._base):
            self._index[key] = number
            if row_key:
                self._index[row_key] = number
        self._waiting = {
            key: (value, *times)
            for key, value, times in zip(
                snapshot["waiting_keys"].tolist(),
                snapshot["waiting_values"].tolist(),
                snapshot["waiting_times"].tolist(),
                strict=True,
            )
        }

    def _grow(self, count: int) -> NDArray[np.void]:
        needed = self._size + count
        if needed > len(self._rows):
            larger = np.zeros(max(needed, 2 * len(self._rows)), ROW)
            larger[: self._size] = self.kept
            self._rows = larger
        self._size = needed
        added = self._rows[needed - count : needed]
        added[:] = np.zeros(1, ROW)
        added["older"] = -1
        return added

    def _name(self, added: NDArray[np.void]) -> None:
        first = self._base + self._size - len(added)
        keys, row_keys, older = added["key"].tolist(), added["row_key"].tolist(), []
        for number, (key, row_key) in enumerate(zip(keys, row_keys, strict=True), first):
            self._index[key] = number
            older.append(self._index.get(row_key, -1) if row_key else -1)
            if row_key:
                self._index[row_key] = number
        added["older"] = older
        for number, names in enumerate(zip(keys, row_keys, strict=True), first):
            if not self._waiting:
                return
            for name in names:
                if name in self._waiting:
                    self._set_label(number, *self._waiting.pop(name))

    def _set_label(self, number: int, value: float, time_us: int, before_us: int) -> None:
        row = self._rows[number - self._base]
        if time_us > row["event_time_us"] + self._calendar.never_us:
            self.counts.too_late += 1
            return
        is_first = bool(np.isnan(row["label"]))
        if not is_first and before_us >= self._calendar.close_us(int(row["block"])):
            self.counts.corrected_late += 1  # the block's sums were fixed before
            return
        self.counts.joined += is_first
        row["label"], row["label_time_us"], row["label_before_us"] = value, time_us, before_us

    def _remove(self, gone: int, forget: Callable[[NDArray[np.void]], None]) -> None:
        going = self.kept[:gone].copy()
        forget(going)
        self.counts.never_labelled += int(np.isnan(going["label"]).sum())
        for number, (key, row_key) in enumerate(going[["key", "row_key"]].tolist(), self._base):
            for name in (key, row_key):
                if self._index.get(name) == number:
                    del self._index[name]
        self._rows[: self._size - gone] = self._rows[gone : self._size].copy()
        self._size -= gone
        self._base += gone

    def _give_up_waiting(self) -> None:
        cutoff = self.known_us - self._calendar.never_us
        over = [key for key, (_, time, _) in self._waiting.items() if time < cutoff]
        for key in over:
            del self._waiting[key]
        self.counts.unmatched += len(over)
