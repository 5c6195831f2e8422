"""How every client of Kafka is set up, and how a part outlives Kafka's absences."""

import asyncio
import contextlib
import random
from abc import abstractmethod
from datetime import timedelta

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ciclo.errors import Retry
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.lifecycle import Background

REQUEST_TIMEOUT = timedelta(seconds=10)
"""How long one request may take before it is tried again or given up."""

SESSION_TIMEOUT = timedelta(seconds=10)
"""After how long without a heartbeat Kafka gives a consumer's partitions away."""

BATCH_BYTES = 1_040_000
"""Greatest batch that is sent; under Kafka's default limit of 1,048,588 bytes."""

CLOSE_TIMEOUT = timedelta(seconds=3)
"""How long closing a client may take: with Kafka away it would wait for a request's timeout."""

RECONNECT = Backoff(first=timedelta(milliseconds=200), cap=timedelta(seconds=5))
"""Waits between sessions. Short, because an absence is usually a restart."""

UNAVAILABLE = (KafkaError, OSError, TimeoutError, Retry)
"""What a session may die of without harm: nothing is lost, the next one goes on."""

_log = structlog.get_logger(__name__)


def group_consumer(bootstrap: str, group: str, topics: list[str]) -> AIOKafkaConsumer:
    """Returns a consumer whose offsets are committed by hand; a new group reads from the start.

    The group has one static member: a process that restarts, or replaces one that was killed, gets
    its partitions at once instead of after `SESSION_TIMEOUT`.
    """
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=group,
        group_instance_id=group,
        client_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=_ms(SESSION_TIMEOUT),
        request_timeout_ms=_ms(REQUEST_TIMEOUT),
        metadata_max_age_ms=10_000,
    )


def position_consumer(bootstrap: str, topics: list[str]) -> AIOKafkaConsumer:
    """Returns a consumer of all partitions that belongs to no group: its user keeps the offsets."""
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        request_timeout_ms=_ms(REQUEST_TIMEOUT),
        metadata_max_age_ms=10_000,
    )


def producer(bootstrap: str) -> AIOKafkaProducer:
    """Returns an idempotent producer: a retry of its own never doubles or reorders."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=_ms(REQUEST_TIMEOUT),
    )


def admin(bootstrap: str) -> AIOKafkaAdminClient:
    """Returns a client that can create topics."""
    return AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_ms(REQUEST_TIMEOUT))


async def close(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Closes a client, or gives up after `CLOSE_TIMEOUT`: its session is over either way."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT.total_seconds()):
            await client.stop()


class Session(Background):
    """A part that works in sessions: one that dies of Kafka's absence is followed by another.

    Args:
        name: For the task and its log lines.
        clock: Waits between sessions.
        rng: Jitter of those waits.
    """

    def __init__(self, name: str, *, clock: Clock, rng: random.Random | None = None) -> None:
        super().__init__(name)
        self.clock = clock
        self.rng = rng or random.Random()
        self._failures = 0

    @abstractmethod
    async def session(self) -> None:
        """Connects and works until it is cancelled or something fails; closes what it opened."""

    def mark_healthy(self) -> None:
        """Says that the present session works, so that the next wait is short again."""
        self._failures = 0

    async def run(self) -> None:
        """Runs sessions for ever. What is not in `UNAVAILABLE` ends the part."""
        while True:
            try:
                await self.session()
            except UNAVAILABLE as error:
                self._failures += 1
                delay = RECONNECT.delay(self._failures, self.rng)
                _log.warning(
                    "session_lost",
                    part=self.name,
                    error=repr(error),
                    attempt=self._failures,
                    retry_seconds=round(delay.total_seconds(), 3),
                )
                await self.clock.sleep(delay)


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
