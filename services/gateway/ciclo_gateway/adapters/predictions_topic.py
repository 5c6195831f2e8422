"""The topic `predictions`, as the shipper writes it: in order, and able to say what arrived."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from aiokafka import AIOKafkaProducer, TopicPartition

from ciclo.cloudevents import Envelope, encode
from ciclo.errors import Retry
from ciclo.topics import PREDICTIONS
from ciclo_gateway.ports.shipping import Outgoing
from ciclo_runtime import kafka


class KafkaPredictionsTopic:
    """Implements `ports.PredictionsTopic`. One partition, as all topics of this version.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topic.
        service: The source of its events.
    """

    def __init__(self, bootstrap: str, env: str, service: str) -> None:
        self._bootstrap = bootstrap
        self._topic = PREDICTIONS.name(env)
        self._source = f"/ciclo/{env}/{service}"
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Nothing: it connects with the first event."""

    async def stop(self) -> None:
        """Closes the connection."""
        if self._producer:
            producer, self._producer = self._producer, None
            await kafka.close(producer)

    async def end(self) -> int:
        """Returns the offset after its last record. Raises `Retry`."""
        async with self._reading():
            consumer = kafka.position_consumer(self._bootstrap, [self._topic])
            try:
                await consumer.start()
                partition = TopicPartition(self._topic, 0)
                found: int = (await consumer.end_offsets([partition]))[partition]
                return found
            finally:
                await kafka.close(consumer)

    async def ids_since(self, offset: int) -> frozenset[str]:
        """Returns the ids of all events from an offset to the end. Raises `Retry`."""
        async with self._reading():
            consumer = kafka.position_consumer(self._bootstrap, [self._topic])
            try:
                await consumer.start()
                partition = TopicPartition(self._topic, 0)
                first = (await consumer.beginning_offsets([partition]))[partition]
                end = (await consumer.end_offsets([partition]))[partition]
                consumer.seek(partition, max(offset, first))
                ids: set[str] = set()
                while await consumer.position(partition) < end:
                    fetched = await consumer.getmany(partition, timeout_ms=1000)
                    for record in fetched.get(partition, ()):
                        ids.add(dict(record.headers).get("ce_id", b"").decode(errors="replace"))
                return frozenset(ids)
            finally:
                await kafka.close(consumer)

    async def send(self, events: Sequence[Outgoing]) -> int:
        """Sends in order; returns the offset after the last, once all are acknowledged.

        Raises `Retry`: any of them may or may not have arrived.
        """
        try:
            producer = await self._connected()
            waiting = []
            for event in events:
                envelope = Envelope(event.id, self._source, event.model, event.time)
                record = encode(envelope, event.message)
                waiting.append(
                    await producer.send(
                        self._topic,
                        record.value,
                        key=record.key,
                        partition=0,
                        headers=list(record.headers),
                    )
                )
            sent = await asyncio.gather(*waiting)
        except kafka.UNAVAILABLE as error:
            await self.stop()
            raise Retry(f"Kafka at {self._bootstrap}: {error!r}") from error
        return int(sent[-1].offset) + 1

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = kafka.producer(self._bootstrap)
            try:
                await producer.start()
            except BaseException:
                await kafka.close(producer)
                raise
            self._producer = producer
        return self._producer

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            yield
        except kafka.UNAVAILABLE as error:
            raise Retry(f"Kafka at {self._bootstrap}: {error!r}") from error
