"""Has what the champion is asked, or answers, left its reference? Many streams, one budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciclo_drift import Alarm, Culprit, StreamSet
from ciclo_monitor.domain.calendar import Calendar

SCORE = "score"
"""Name of the stream of the champion's own answers."""


@dataclass(frozen=True, slots=True)
class Moved:
    """An alarm, with event time in place of row numbers.

    Args:
        alarm: What moved.
        since_us: Start of the block in which the first culprit moved.
        culprits: Each with the start of the block in which it moved.
    """

    alarm: Alarm
    since_us: int
    culprits: tuple[tuple[Culprit, int], ...]


class DriftTest:
    """Feeds the champion's rows, in the order of the topic, to the detectors of its bundle.

    Args:
        streams: Restored from the bundle's reference.
        calendar: Cuts event time into blocks.
    """

    def __init__(self, streams: StreamSet, calendar: Calendar) -> None:
        self._streams = streams
        self._calendar = calendar
        self._first_rows: list[tuple[int, int]] = []  # of each block: (row number, block)

    @property
    def now(self) -> Alarm:
        """What the detectors say now; an alarm only if its evidence passed the threshold."""
        return self._streams.report()

    @property
    def alarm(self) -> Moved | None:
        """The first alarm, as it was when it was raised."""
        raised = self._streams.alarm
        return self.dated(raised) if raised else None

    @property
    def limitation(self) -> str:
        """Why the budget cannot be certified; empty if it can."""
        certificate = self._streams.certificate
        return "" if certificate.certified else certificate.reason

    @property
    def blocks(self) -> int:
        """Blocks that were watched."""
        return len(self._first_rows)

    def fold(
        self,
        columns: Mapping[str, NDArray[Any]],
        scores: NDArray[np.float64],
        event_time_us: NDArray[np.int64],
    ) -> None:
        """Takes in rows.

        Raises:
            DriftInputError: A stream is missing, or of another type; nothing has changed.
        """
        first = self._streams.rows
        self._streams.update({**columns, SCORE: scores})
        self._note(first, event_time_us)

    def snapshot(self) -> dict[str, NDArray[np.generic]]:
        """Returns all that is needed to go on."""
        inner = {f"streams/{name}": value for name, value in self._streams.snapshot().items()}
        return {"first_rows": np.array(self._first_rows, np.int64).reshape(-1, 2), **inner}

    def restore(self, snapshot: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a snapshot."""
        self._first_rows = [(row, block) for row, block in snapshot["first_rows"].tolist()]
        inner = {n[8:]: value for n, value in snapshot.items() if n.startswith("streams/")}
        self._streams = StreamSet.restore(inner)

    def _note(self, first: int, event_time_us: NDArray[np.int64]) -> None:
        newest = self._first_rows[-1][1] if self._first_rows else None
        for row, block in enumerate(self._calendar.block_of(event_time_us).tolist(), first):
            if newest is None or block > newest:
                self._first_rows.append((row, block))
                newest = block

    def dated(self, alarm: Alarm) -> Moved:
        """Returns an alarm with event time in place of row numbers."""
        culprits = tuple((c, self._start_of(c.since_row)) for c in alarm.culprits)
        return Moved(alarm, self._start_of(alarm.since_row), culprits)

    def _start_of(self, row: int) -> int:
        block = max((b for first, b in self._first_rows if first <= row), default=0)
        return self._calendar.start_us(block)
