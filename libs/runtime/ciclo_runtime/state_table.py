"""A compacted topic as a dictionary: how a service follows the state that another publishes."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import ConsumerRecord
from google.protobuf.message import Message

from ciclo.cloudevents import decode
from ciclo.errors import Reject
from ciclo.topics import EVENTS
from ciclo_runtime.clock import Clock
from ciclo_runtime.handling import Outcome, event_type
from ciclo_runtime.lifecycle import Background
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.streams import follow

MAX_RECORDS = 500
"""Records taken in at once."""

State = TypeVar("State")

_log = structlog.get_logger(__name__)


class StateTable(Background, Generic[State]):
    """A part that follows a compacted topic from its beginning and keeps what is newest.

    An older generation never replaces a newer one. A record that does not decode is logged, counted
    and passed over: the next generation replaces it. After a restart the table is read anew.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topic.
        message_type: The state's message; the topic follows from it.
        generation: Reads the generation from what `decode` made.
        decode_state: From the protobuf message to a domain value.
        metrics: Shows lag and outcomes.
        clock: Waits for Kafka.
    """

    def __init__(
        self,
        bootstrap: str,
        env: str,
        message_type: type[Message],
        *,
        generation: Callable[[State], int],
        decode_state: Callable[[Any], State],
        metrics: ServiceMetrics,
        clock: Clock,
    ) -> None:
        super().__init__(f"state table {message_type.DESCRIPTOR.name}")
        self.version = 0
        self._bootstrap = bootstrap
        self._type = message_type.DESCRIPTOR
        self._topic = EVENTS[self._type.name].name(env)
        self._generation = generation
        self._decode_state = decode_state
        self._metrics = metrics
        self._clock = clock
        self._states: dict[str, State] = {}
        self._ready = asyncio.Event()
        self._next_change = asyncio.Event()
        self._subscribers: list[Callable[[], None]] = []

    async def ready(self) -> None:
        """Returns once everything that was in the topic has been read."""
        await self._ready.wait()

    def get(self, subject: str) -> State | None:
        """Returns the newest state of a subject, None if there is none (or none any more)."""
        return self._states.get(subject)

    def items(self) -> Mapping[str, State]:
        """Returns a live view of all states by subject."""
        return MappingProxyType(self._states)

    async def changed(self, since: int) -> int:
        """Waits until `version` is greater than `since`, and returns it."""
        while self.version <= since:
            await self._next_change.wait()
        return self.version

    def subscribe(self, call: Callable[[], None]) -> None:
        """Calls `call` after each change, and once when the table is ready; `Reconciler.wake`."""
        self._subscribers.append(call)

    async def run(self) -> None:
        """Follows the topic."""
        reading = follow(
            self._bootstrap,
            [self._topic],
            {},
            clock=self._clock,
            metrics=self._metrics,
            max_records=MAX_RECORDS,
        )
        async with aclosing(reading):
            async for fetched in reading:
                news = [self._take(record) for record in fetched.records]
                is_first_end = fetched.is_caught_up and not self._ready.is_set()
                if is_first_end:
                    self._ready.set()
                if any(news) or is_first_end:
                    self._tell()

    def _take(self, record: ConsumerRecord) -> bool:
        subject = (record.key or b"").decode(errors="replace")
        if record.value is None:
            return self._states.pop(subject, None) is not None
        if event_type(record) not in ("", self._type.full_name):
            return False
        try:
            envelope, message = decode(record.value, record.headers)
            state = self._decode_state(message)
        except Reject as error:
            place = f"{record.topic}/{record.partition}/{record.offset}"
            _log.error("state_rejected", place=place, subject=subject, error=str(error))
            self._count(Outcome.REJECTED)
            return False
        present = self._states.get(envelope.subject)
        if present is not None and self._generation(state) <= self._generation(present):
            self._count(Outcome.DUPLICATE)
            return False
        self._states[envelope.subject] = state
        self._count(Outcome.DONE)
        return True

    def _tell(self) -> None:
        self.version += 1
        self._next_change.set()
        self._next_change = asyncio.Event()
        for call in self._subscribers:
            call()

    def _count(self, outcome: Outcome) -> None:
        self._metrics.events_handled.labels(self._type.name, outcome.value).inc()
