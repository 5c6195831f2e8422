"""What the shipper needs: the spool, a ledger, the topic."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the spool.

    Attributes:
        name: Names sort by time.
        inode: Stays when the file is renamed.
        size_bytes: As it is now.
        is_closed: True if nothing will be appended any more.
    """

    name: str
    inode: int
    size_bytes: int
    is_closed: bool


@dataclass(frozen=True, slots=True)
class WriteFailureCount:
    """How many lines an Envoy could not write.

    Attributes:
        process: Names the Envoy: no two of them alike.
        since_start: Lines since it started.
    """

    process: str
    since_start: int


class Spool(Protocol):
    """The folder that Envoy writes captured calls to."""

    async def segments(self) -> list[Segment]:
        """Returns the files, oldest first."""
        ...

    async def read(self, name: str, start: int, limit: int) -> bytes:
        """Returns up to `limit` bytes from `start`. Raises `FileNotFoundError`."""
        ...

    async def rotate(self, segment: Segment) -> None:
        """Makes Envoy begin a new file. Raises `Retry`; then the next try goes on where it was."""
        ...

    async def delete(self, name: str) -> None:
        """Deletes a file; nothing happens if it is gone."""
        ...

    async def write_failures(self) -> WriteFailureCount | None:
        """Returns how many lines Envoy could not write since it started; None if unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a segment whose calls are being published.

    Attributes:
        segment_id: Names the segment for ever, unlike its file's name and inode.
        name: File at the time of the range; only for people.
        start: First byte.
        end: Byte after the last; whole lines, but for the end of a closed segment.
        begin_time: Wall time at which the range was written down; dates its events.
        topic_offset: End of the topic before any of its events was sent.
    """

    segment_id: int
    name: str
    start: int
    end: int
    begin_time: datetime
    topic_offset: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Answers that will never be captured.

    Attributes:
        model: Its name, or `-`.
        reason: SPOOL_FULL, TORN_RECORD or UNREADABLE_RECORD.
        count: How many, at most.
        place: Segment and byte range.
    """

    model: str
    reason: str
    count: int
    place: str


class ShippingLedger(Protocol):
    """How far each segment is shipped; written before anything is sent."""

    async def positions(self, segments: Sequence[Segment]) -> Mapping[int, tuple[int, int]]:
        """Returns id and next byte of each segment by inode; new segments are given an id."""
        ...

    async def in_flight(self) -> Range | None:
        """Returns the range that was begun and not ended, if any."""
        ...

    async def begin(
        self, segment_id: int, name: str, start: int, end: int, topic_offset: int
    ) -> Range:
        """Writes down that a range is about to be sent."""
        ...

    async def end(self, done: Range, losses: Sequence[Loss], newest: Mapping[str, int]) -> None:
        """Writes down that a range was acknowledged; `PredictionsLost` for each loss.

        Args:
            done: The range.
            losses: What of it could not be read.
            newest: Greatest event time among its calls, by model. Microseconds.
        """
        ...

    async def drop(self, segment_id: int, end: int, losses: Sequence[Loss]) -> None:
        """Gives a segment up: it counts as shipped; `PredictionsLost` for each loss."""
        ...

    async def count_write_failures(
        self, found: WriteFailureCount, loss: Callable[[int], Loss]
    ) -> int:
        """Writes down how often Envoy could not write; returns how many of them are new.

        Args:
            found: What Envoy counted.
            loss: Makes the loss of so many answers.
        """
        ...

    async def forget(self, segment_id: int) -> None:
        """Forgets a segment whose file is deleted."""
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event of the topic `predictions`, ready to be sent.

    Attributes:
        id: Its `ce_id`.
        model: Its key.
        time: When it was said.
        message: What is said.
    """

    id: str
    model: str
    time: datetime
    message: Any


class PredictionsTopic(Protocol):
    """The topic `predictions`, as the shipper writes it."""

    async def end(self) -> int:
        """Returns the offset after its last record. Raises `Retry`."""
        ...

    async def ids_since(self, offset: int) -> frozenset[str]:
        """Returns the ids of all events from an offset to the end. Raises `Retry`."""
        ...

    async def send(self, events: Sequence[Outgoing]) -> int:
        """Sends in order; returns the offset after the last, once all are acknowledged.

        Raises `Retry`: any of them may or may not have arrived.
        """
        ...
