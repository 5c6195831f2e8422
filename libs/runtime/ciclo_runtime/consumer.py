"""Takes events from Kafka to a service's handlers: in order, at least once, effects once."""

import random
from datetime import timedelta

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from ciclo.topics import EVENTS
from ciclo_runtime import kafka
from ciclo_runtime.backoff import DEFAULT_BACKOFF, Backoff
from ciclo_runtime.clock import Clock
from ciclo_runtime.crash import RuntimeCrash, crash_point
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.handling import RecordHandler, Route, Routes
from ciclo_runtime.metrics import ServiceMetrics

MAX_RECORDS = 50
"""Records handled between two commits; what a crash may bring again, to be skipped."""

IDLE = timedelta(seconds=1)
"""How long a poll waits for records."""


class EventConsumer(kafka.Session):
    """Handles the events of a service, one partition in order, one transaction an event.

    What a handler raises decides: `Retry` pauses the event's partition and tries the same event
    again after a back-off, while other partitions flow; `Reject`, as bytes that do not decode,
    goes to the dead letters; anything else is tried `max_failures` times, then likewise; `Fatal`
    stops the service. Offsets are committed after the transactions, so an event may come twice;
    the inbox makes the second a no-op.

    Args:
        bootstrap: Kafka's address.
        database: Where effects and inbox are written, in one transaction.
        routes: Handler by message class; the topics follow from the classes. Other types on those
            topics are skipped.
        dead_letters: Takes what cannot be handled.
        metrics: Counts outcomes and lag.
        clock: Times the back-off.
        group: Consumer group within the environment; None: the service's name. One member.
        backoff: Waits of a retried event.
        max_failures: Tries of an event whose handler raises something unexpected.
        rng: Jitter.
    """

    def __init__(
        self,
        bootstrap: str,
        database: Database,
        routes: Routes,
        *,
        dead_letters: DeadLetters,
        metrics: ServiceMetrics,
        clock: Clock,
        group: str | None = None,
        backoff: Backoff = DEFAULT_BACKOFF,
        max_failures: int = 5,
        rng: random.Random | None = None,
    ) -> None:
        group = group or database.service
        super().__init__(f"consumer {group}", clock=clock, rng=rng)
        self._bootstrap = bootstrap
        self._group = f"{database.env}.ciclo.{group}"
        self._topics = sorted({EVENTS[kind.DESCRIPTOR.name].name(database.env) for kind in routes})
        self._metrics = metrics
        self._backoff = backoff
        self._resume_at: dict[TopicPartition, float] = {}
        self._handler = RecordHandler(
            database=database,
            routes={
                kind.DESCRIPTOR.full_name: to if isinstance(to, Route) else Route(to)
                for kind, to in routes.items()
            },
            consumer=group,
            dead_letters=dead_letters,
            metrics=metrics,
            clock=clock,
            max_failures=max_failures,
        )

    async def session(self) -> None:
        """Polls until Kafka is lost."""
        consumer = kafka.group_consumer(self._bootstrap, self._group, self._topics)
        self._resume_at.clear()
        try:
            await consumer.start()
            while True:
                self._resume_due(consumer)
                fetched = await consumer.getmany(
                    timeout_ms=self._poll_ms(), max_records=MAX_RECORDS
                )
                await self._handle(consumer, fetched)
                await self._measure_lag(consumer)
                self.mark_healthy()
        finally:
            await kafka.close(consumer)

    async def _handle(
        self,
        consumer: AIOKafkaConsumer,
        fetched: dict[TopicPartition, list[ConsumerRecord]],
    ) -> None:
        done: dict[TopicPartition, int] = {}
        for partition, records in fetched.items():
            for record in records:
                if not (await self._handler.handle(record)).is_settled:
                    self._pause(consumer, partition, record.offset)
                    break
                done[partition] = record.offset + 1
        if done:
            await consumer.commit(done)
            crash_point(RuntimeCrash.CONSUMER_AFTER_COMMIT)

    def _pause(self, consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        attempts = self._handler.attempts(partition.topic, partition.partition)
        delay = self._backoff.delay(attempts, self.rng)
        self._resume_at[partition] = self.clock.monotonic() + delay.total_seconds()
        # Paused partitions are polled on, or Kafka would take this consumer for dead.
        consumer.seek(partition, offset)
        consumer.pause(partition)

    def _resume_due(self, consumer: AIOKafkaConsumer) -> None:
        now = self.clock.monotonic()
        for partition in [one for one, moment in self._resume_at.items() if moment <= now]:
            del self._resume_at[partition]
            consumer.resume(partition)

    def _poll_ms(self) -> int:
        now = self.clock.monotonic()
        waits = [moment - now for moment in self._resume_at.values()]
        return max(1, int(min([IDLE.total_seconds(), *waits]) * 1000))

    async def _measure_lag(self, consumer: AIOKafkaConsumer) -> None:
        lags = dict.fromkeys(self._topics, 0)
        for partition in consumer.assignment():
            highwater = consumer.highwater(partition)
            if highwater is not None:
                lags[partition.topic] += highwater - await consumer.position(partition)
        for topic, lag in lags.items():
            self._metrics.consumer_lag.labels(topic).set(lag)
