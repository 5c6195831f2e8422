"""What a handler may do inside a transaction: change state and emit events, all or nothing."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from google.protobuf.message import Message
from sqlalchemy import Connection

from ciclo.cloudevents import Envelope, encode
from ciclo.errors import Reject
from ciclo.topics import EVENTS, topic_of
from ciclo_runtime import ledger
from ciclo_runtime.ledger import Headers

MAX_EVENT_BYTES = 1_000_000
"""Greatest message that is emitted. Kafka's own default limit is 1,048,588 with headers; a record
beyond it would block the outbox for ever, so it is refused before it is committed."""


class EventTooLarge(Reject):
    """A message would not fit into Kafka: split it."""

    reason = "EVENT_TOO_LARGE"


def new_event_id() -> str:
    """Returns a fresh random id."""
    return str(uuid4())


class Tx:
    """One transaction. Lives in the writer thread, only as long as the function it is given to.

    Attributes:
        connection: The SQLAlchemy connection, in a transaction that commits after the function.
        now: Wall time at which the transaction began. UTC.
        cause: The event being handled, if any.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        now: datetime,
        cause: Envelope | None,
        service: str,
        env: str,
        new_id: Callable[[], str] = new_event_id,
    ) -> None:
        self.connection = connection
        self.now = now
        self.cause = cause
        self.has_emitted = False
        self.calls_after_commit: list[Callable[[], None]] = []
        self._source = f"/ciclo/{env}/{service}"
        self._env = env
        self._new_id = new_id

    def emit(
        self,
        message: Message,
        *,
        subject: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        event_id: str | None = None,
    ) -> str:
        """Adds an event to the outbox; it is published after the commit, in order.

        Args:
            message: Of a type in `ciclo.topics`, which also says on which topic it travels.
            subject: The model's or view's name; the Kafka key.
            correlation_id: The cycle it belongs to. None: the cause's, or, where there is no
                cause, the event's own id, because it begins one. Empty: none.
            causation_id: `id` of the event that caused it. None: the cause's. Empty: none.
            event_id: Where the same fact must have the same id whoever says it. None: a new one.

        Returns:
            The event's id.

        Raises:
            EventTooLarge: Over `MAX_EVENT_BYTES`.
        """
        event_id = event_id or self._new_id()
        if correlation_id is None:
            correlation_id = self.cause.correlation_id if self.cause else event_id
        if causation_id is None:
            causation_id = self.cause.id if self.cause else ""
        envelope = Envelope(
            id=event_id,
            source=self._source,
            subject=subject,
            time=self.now,
            correlation_id=correlation_id,
            causation_id=causation_id,
            traceparent=self.cause.traceparent if self.cause else "",
        )
        record = encode(envelope, message)
        if len(record.value) > MAX_EVENT_BYTES:
            raise EventTooLarge(
                f"{message.DESCRIPTOR.name} of {subject!r} has {len(record.value)} bytes, at most "
                f"{MAX_EVENT_BYTES} fit: split it"
            )
        self.enqueue(topic_of(message).name(self._env), record.key, record.value, record.headers)
        return event_id

    def emit_tombstone(self, message_type: type[Message], *, subject: str) -> None:
        """Removes a subject from a compacted topic, after the commit, in order."""
        topic = EVENTS[message_type.DESCRIPTOR.name]
        if not topic.compacted:
            raise ValueError(f"{topic.domain} is not compacted: nothing can be removed from it")
        self.enqueue(topic.name(self._env), subject.encode(), None, ())

    def after_commit(self, call: Callable[[], None]) -> None:
        """Calls `call` on the event loop once the transaction is committed; not if it is not."""
        self.calls_after_commit.append(call)

    def enqueue(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Adds any record to the outbox, as it is. Services use `emit`."""
        ledger.enqueue(self.connection, topic, key, value, headers)
        self.has_emitted = True
