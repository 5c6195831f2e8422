"""What happens to one record: decode, refuse duplicates, handle, classify the failure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from google.protobuf.message import Message

from ciclo.cloudevents import Envelope, decode
from ciclo.errors import Fatal, Reject, Retry
from ciclo_runtime import ledger, log
from ciclo_runtime.clock import Clock
from ciclo_runtime.crash import RuntimeCrash, crash_point
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.transaction import Tx

Handler = Callable[[Envelope, Any, Tx], None]
"""A use case. Runs in the writer thread, inside the transaction that also notes the event as
handled; raises `Retry`, `Reject` or `Fatal` to say what should become of the event."""

_log = structlog.get_logger(__name__)


def _as_it_is(message: Any) -> Any:
    return message


@dataclass(frozen=True, slots=True)
class Route:
    """Where events of one type go.

    Attributes:
        handle: Gets the envelope, what `decode` made of the message, and the transaction.
        decode: From the protobuf message to a domain value; may raise `Reject`.
    """

    handle: Handler
    decode: Callable[[Any], Any] = _as_it_is


Routes = Mapping[type[Message], Handler | Route]
"""What a service consumes, by generated message class."""


class Outcome(StrEnum):
    """What became of a record, as metrics and log lines name it."""

    DONE = "done"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    RETRIED = "retried"
    FAILED = "failed"

    @property
    def is_settled(self) -> bool:
        """True if the next record may follow; False if the same must be tried again."""
        return self not in (Outcome.RETRIED, Outcome.FAILED)


@dataclass(slots=True)
class Trial:
    """The record of a partition that is not settled yet."""

    offset: int
    attempts: int = 0
    failures: int = 0


@dataclass
class RecordHandler:
    """Handles records one at a time.

    Attributes:
        database: Holds inbox, outbox and the service's state.
        routes: What is handled; other types are skipped.
        consumer: Name under which events are noted as handled.
        dead_letters: Takes what cannot be handled.
        metrics: Counts outcomes.
        clock: Measures durations.
        max_failures: How often a record may fail unexpectedly before it is put aside.
    """

    database: Database
    routes: Mapping[str, Route]
    consumer: str
    dead_letters: DeadLetters
    metrics: ServiceMetrics
    clock: Clock
    max_failures: int
    _trials: dict[tuple[str, int], Trial] = field(default_factory=dict)

    async def handle(self, record: ConsumerRecord) -> Outcome:
        """Tries a record once.

        Returns:
            What became of it. If that is not settled, the caller hands the same record over again.

        Raises:
            Fatal: The service cannot go on.
        """
        kind = event_type(record)
        if kind and kind not in self.routes:
            self._count(kind, Outcome.SKIPPED)
            return Outcome.SKIPPED
        trial = self._trial(record)
        trial.attempts += 1
        started = self.clock.monotonic()
        try:
            outcome, error = await self._classified(record, trial)
        except Retry as waiting:
            outcome, error = Outcome.RETRIED, waiting
        seconds = self.clock.monotonic() - started
        self._tell(kind or "unknown", outcome, seconds, record, trial, error)
        if outcome.is_settled:
            del self._trials[record.topic, record.partition]
        return outcome

    def attempts(self, topic: str, partition: int) -> int:
        """Returns how often the unsettled record of a partition was tried; 0 if there is none."""
        trial = self._trials.get((topic, partition))
        return trial.attempts if trial else 0

    async def _classified(
        self, record: ConsumerRecord, trial: Trial
    ) -> tuple[Outcome, Exception | None]:
        try:
            outcome = await self._apply(record)
        except (Retry, Fatal):
            raise
        except Exception as error:  # noqa: BLE001 -- a bug of a handler must not stop the others
            if not isinstance(error, Reject):
                trial.failures += 1
                if trial.failures < self.max_failures:
                    return Outcome.FAILED, error
            await self.dead_letters.put(record, error, trial.attempts)
            return Outcome.REJECTED, error
        self.dead_letters.passed()
        return outcome, None

    async def _apply(self, record: ConsumerRecord) -> Outcome:
        envelope, message = decode(record.value, record.headers)
        route = self.routes[message.DESCRIPTOR.full_name]

        def work(tx: Tx) -> Outcome:
            if not ledger.remember(tx.connection, self.consumer, envelope.id, tx.now):
                return Outcome.DUPLICATE
            route.handle(envelope, route.decode(message), tx)
            crash_point(RuntimeCrash.CONSUMER_IN_TRANSACTION)
            return Outcome.DONE

        crash_point(RuntimeCrash.CONSUMER_BEFORE_TRANSACTION)
        with log.about(envelope):
            outcome = await self.database.transaction(work, cause=envelope)
        crash_point(RuntimeCrash.CONSUMER_AFTER_TRANSACTION)
        return outcome

    def _trial(self, record: ConsumerRecord) -> Trial:
        place = (record.topic, record.partition)
        trial = self._trials.get(place)
        if trial is None or trial.offset != record.offset:
            trial = self._trials[place] = Trial(record.offset)
        return trial

    def _tell(
        self,
        kind: str,
        outcome: Outcome,
        seconds: float,
        record: ConsumerRecord,
        trial: Trial,
        error: Exception | None,
    ) -> None:
        self._count(kind, outcome)
        self.metrics.event_handling.labels(kind.rpartition(".")[2]).observe(seconds)
        _log.log(
            _LEVELS[outcome],
            "event_handled",
            type=kind,
            outcome=outcome.value,
            duration_seconds=round(seconds, 6),
            event_id=header(record, "ce_id"),
            correlation_id=header(record, "ce_correlationid"),
            place=f"{record.topic}/{record.partition}/{record.offset}",
            attempts=trial.attempts,
            error=repr(error) if error else None,
            exc_info=error if outcome is Outcome.FAILED else None,
        )

    def _count(self, kind: str, outcome: Outcome) -> None:
        self.metrics.events_handled.labels(kind.rpartition(".")[2], outcome.value).inc()


def header(record: ConsumerRecord, name: str) -> str:
    """Returns a header of a record as text; empty if it has none."""
    return next(
        (value.decode(errors="replace") for key, value in record.headers if key == name), ""
    )


def event_type(record: ConsumerRecord) -> str:
    """Returns the full name of the message that a record says it holds; empty if it does not."""
    return header(record, "ce_type")


_LEVELS = {
    Outcome.DONE: 20,
    Outcome.DUPLICATE: 20,
    Outcome.SKIPPED: 10,
    Outcome.REJECTED: 40,
    Outcome.RETRIED: 30,
    Outcome.FAILED: 40,
}
