"""Publishes what transactions emitted: in order, at least once, the same bytes at every try."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import timedelta

from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.partitioner import DefaultPartitioner

from ciclo.errors import Retry
from ciclo_runtime import kafka, ledger
from ciclo_runtime.clock import Clock
from ciclo_runtime.crash import RuntimeCrash, crash_point
from ciclo_runtime.database import Database
from ciclo_runtime.ledger import Outgoing
from ciclo_runtime.metrics import ServiceMetrics

ROWS = 500
"""Rows read at once."""

MEASURE_EVERY = timedelta(seconds=1)
"""How often the backlog is counted, also while Kafka is away."""


class OutboxRelay(kafka.Session):
    """A part that moves the outbox to Kafka.

    Rows of a topic partition go as one Kafka batch, which the broker takes whole or not at all,
    and the next batch is sent after it is acknowledged: so no failure can change their order. A
    crash between acknowledgement and removal sends a batch again, with the same event ids.

    Args:
        bootstrap: Kafka's address.
        database: Holds the outbox; wakes the relay when a transaction has emitted.
        metrics: Shows the backlog.
        clock: Times its counting and the waits for Kafka.
    """

    def __init__(
        self, bootstrap: str, database: Database, *, metrics: ServiceMetrics, clock: Clock
    ) -> None:
        super().__init__(f"outbox relay {database.service}", clock=clock)
        self._bootstrap = bootstrap
        self._database = database
        self._metrics = metrics
        self._partitioner = DefaultPartitioner()

    async def run(self) -> None:
        """Publishes and counts, until stopped."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().run())
            tasks.create_task(self._measure())

    async def session(self) -> None:
        """Publishes until Kafka is lost."""
        producer = kafka.producer(self._bootstrap)
        try:
            await producer.start()
            while True:
                await self._database.has_outgoing.wait()
                self._database.has_outgoing.clear()
                while rows := await self._database.read(lambda tx: ledger.pending(tx, ROWS)):
                    await self._publish(producer, rows)
                    self.mark_healthy()
        finally:
            # Whatever ended this session, the next one must look at the outbox first.
            self._database.has_outgoing.set()
            await kafka.close(producer)

    async def _publish(self, producer: AIOKafkaProducer, rows: Iterable[Outgoing]) -> None:
        groups: dict[tuple[str, int], list[Outgoing]] = {}
        for row in rows:
            partition = await self._partition(producer, row)
            groups.setdefault((row.topic, partition), []).append(row)
        for (topic, partition), waiting in groups.items():
            left = waiting
            while left:
                left = left[await self._send_batch(producer, topic, partition, left) :]

    async def _partition(self, producer: AIOKafkaProducer, row: Outgoing) -> int:
        partitions = sorted(await producer.partitions_for(row.topic))
        if not partitions:
            raise UnknownTopicOrPartitionError(row.topic)
        chosen: int = self._partitioner(row.key, partitions, partitions)
        return chosen

    async def _send_batch(
        self, producer: AIOKafkaProducer, topic: str, partition: int, rows: list[Outgoing]
    ) -> int:
        batch = producer.create_batch()
        sent = []
        for row in rows:
            headers = list(row.headers)
            if not batch.append(key=row.key, value=row.value, timestamp=None, headers=headers):
                break
            sent.append(row.sequence)
        batch.close()
        crash_point(RuntimeCrash.OUTBOX_BEFORE_SEND)
        await (await producer.send_batch(batch, topic, partition=partition))
        crash_point(RuntimeCrash.OUTBOX_AFTER_SEND)
        await self._database.transaction(lambda tx: ledger.forget_sent(tx.connection, sent))
        crash_point(RuntimeCrash.OUTBOX_AFTER_MARK)
        return len(sent)

    async def _measure(self) -> None:
        while True:
            # A database that cannot be read now is told by those who need it; this only counts.
            with contextlib.suppress(Retry):
                self._metrics.outbox_backlog.set(await self._database.read(ledger.backlog))
            await self.clock.sleep(MEASURE_EVERY)
