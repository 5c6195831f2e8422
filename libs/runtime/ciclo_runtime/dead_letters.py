"""Messages that cannot be handled: kept whole on a topic of their own, and counted."""

from collections import deque
from dataclasses import dataclass
from datetime import timedelta

import structlog
from aiokafka import ConsumerRecord

from ciclo.errors import CicloError, Fatal
from ciclo.topics import DEAD_LETTERS
from ciclo_runtime import ledger
from ciclo_runtime.clock import Clock
from ciclo_runtime.database import Database
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.transaction import Tx

HEADER_PREFIX = "dl_"
"""Of the headers that are added; the original ones stay as they were."""

ERROR_CHARACTERS = 2_000
"""How much of an error's text is kept: a header is no place for a dump."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetterLimit:
    """From when on dead letters mean that the service, not the messages, is broken.

    Attributes:
        per_minute: More than so many in a minute of wall time stop the service.
        of_last_100: More than so many among the last 100 messages stop it.
    """

    per_minute: int = 50
    of_last_100: int = 50


class DeadLetters:
    """Puts messages aside through the outbox, once for each place in Kafka.

    Args:
        database: Holds the outbox.
        metrics: Counts them.
        clock: Dates them.
        limit: When to stop.
    """

    def __init__(
        self,
        database: Database,
        *,
        metrics: ServiceMetrics,
        clock: Clock,
        limit: DeadLetterLimit = DeadLetterLimit(),
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._limit = limit
        self._last_100: deque[bool] = deque(maxlen=100)
        self._last_minute: deque[float] = deque()

    def passed(self) -> None:
        """Counts a message that was handled, for the share of those that were not."""
        self._last_100.append(False)

    async def put(self, record: ConsumerRecord, error: Exception, attempts: int) -> None:
        """Puts a message aside. When it returns, the caller may commit the message's offset.

        Args:
            record: As Kafka gave it.
            error: Why it cannot be handled.
            attempts: How often it was tried.

        Raises:
            Fatal: There are too many; this one is not put aside but stays where it is.
            Retry: The database cannot be written now.
        """
        self._check_limit(error)
        reason = error.reason if isinstance(error, CicloError) else "UNEXPECTED"
        place = f"{record.topic}/{record.partition}/{record.offset}"

        def write(tx: Tx) -> bool:
            # A crash before the commit of its offset brings the message again: one letter will do.
            if not ledger.remember(tx.connection, DEAD_LETTERS.domain, place, tx.now):
                return False
            facts = {
                "reason": reason,
                "error": f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS],
                "service": self._database.service,
                "topic": record.topic,
                "partition": str(record.partition),
                "offset": str(record.offset),
                "attempts": str(attempts),
                "time": tx.now.isoformat(),
            }
            added = ((f"{HEADER_PREFIX}{name}", fact.encode()) for name, fact in facts.items())
            headers = (*tuple(record.headers), *added)
            tx.enqueue(DEAD_LETTERS.name(self._database.env), record.key, record.value, headers)
            return True

        if await self._database.transaction(write):
            self._last_100.append(True)
            self._last_minute.append(self._clock.monotonic())
            self._metrics.dead_letters.labels(record.topic, reason).inc()
            _log.error("dead_letter", place=place, reason=reason, error=str(error))

    def _check_limit(self, error: Exception) -> None:
        """Counts one more than were put aside. One that waits to be written is no second one."""
        a_minute_ago = self._clock.monotonic() - timedelta(minutes=1).total_seconds()
        while self._last_minute and self._last_minute[0] < a_minute_ago:
            self._last_minute.popleft()
        of_last = [*self._last_100, True][-100:]
        in_minute, bad = len(self._last_minute) + 1, sum(of_last)
        if in_minute > self._limit.per_minute or bad > self._limit.of_last_100:
            raise Fatal(
                f"{in_minute} dead letters in a minute (limit {self._limit.per_minute}), {bad} "
                f"of the last {len(of_last)} messages (limit {self._limit.of_last_100} of "
                f"100): the service is broken, not the messages; the last error: {error!r}",
                reason="TOO_MANY_DEAD_LETTERS",
            ) from error
