"""Events with the records that they came in, which are kept whole where they cannot be stored."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from aiokafka import ConsumerRecord
from google.protobuf.message import Message

from ciclo.cloudevents import Envelope, decode
from ciclo.errors import CicloError, Reject
from ciclo_runtime.handling import event_type


class UnstorableRecord(Reject):
    """The content of a record cannot become rows, however often it is tried."""

    reason = "UNSTORABLE_RECORD"


@dataclass(frozen=True, slots=True)
class Event:
    """An event and its record.

    Attributes:
        record: As Kafka gave it.
        envelope: Who said it, and why.
        message: The protobuf message.
    """

    record: ConsumerRecord
    envelope: Envelope
    message: Message

    @property
    def offset(self) -> int:
        """Where it lies in its stream."""
        offset: int = self.record.offset
        return offset

    @property
    def stream(self) -> str:
        """Name of its partition."""
        return f"{self.record.topic}/{self.record.partition}"

    def age_seconds(self, now: datetime) -> float:
        """Returns the wall time since Kafka took it; never below 0."""
        taken_at: float = self.record.timestamp / 1000
        return max(now.timestamp() - taken_at, 0.0)


def read_event(record: ConsumerRecord, types: Collection[str]) -> Event | None:
    """Returns the event of a record, None if it is none of some types.

    Args:
        record: From a topic.
        types: Full names of messages.

    Raises:
        Reject: It is no event.
    """
    kind = event_type(record)
    if kind and kind not in types:
        return None
    with blaming_the_record():
        return Event(record, *decode(record.value, record.headers))


@contextmanager
def blaming_the_record() -> Iterator[None]:
    """Whatever fails inside is a record's own fault, and becomes a `Reject`.

    Only for code that touches nothing but a record's content. An error that is let through would
    be met again after every restart, and nothing behind the record would ever be stored.
    """
    try:
        yield
    except (CicloError, MemoryError):
        raise
    except Exception as error:
        raise UnstorableRecord(
            f"its content cannot be stored: {type(error).__name__}: {error}; "
            "correct it where it was written, and send it again"
        ) from error
