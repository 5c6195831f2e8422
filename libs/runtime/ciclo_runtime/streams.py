"""Reads topics for those who keep offsets with their own state: Delta writers, the monitor."""

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from google.protobuf.message import Message

from ciclo.cloudevents import Envelope, decode
from ciclo.errors import Fatal, Reject, Retry
from ciclo.topics import EVENTS
from ciclo_runtime import kafka
from ciclo_runtime.clock import Clock
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.handling import event_type
from ciclo_runtime.metrics import ServiceMetrics

IDLE = timedelta(seconds=1)
"""How long a poll waits for records before an empty batch is handed out."""

Offsets = Mapping[TopicPartition, int]
"""The next offset to read, by partition."""

_log = structlog.get_logger(__name__)


class TopicRecreated(Fatal):
    """A topic ends before the offset that was stored with the state: it is not the same topic."""

    reason = "TOPIC_RECREATED"


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """An event and its place.

    Attributes:
        topic: Full name.
        partition: Number.
        offset: In the partition.
        time: Kafka's wall time of the record. UTC.
        envelope: Who said it, and why.
        message: The protobuf message.
    """

    topic: str
    partition: int
    offset: int
    time: datetime
    envelope: Envelope
    message: Message


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """What one poll brought.

    Attributes:
        records: In order within a partition; only of the types that were asked for.
        next_offsets: To be stored with the state that these records made. Covers records that were
            skipped or put aside; only partitions that moved.
        is_caught_up: True if nothing newer was there.
    """

    records: Sequence[StreamRecord]
    next_offsets: Offsets
    is_caught_up: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one poll brought, as Kafka gave it."""

    records: Sequence[ConsumerRecord]
    is_caught_up: bool


class StreamReader:
    """Reads from given offsets, without a consumer group.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topics.
        message_types: What to read; the topics follow. Other types there are skipped.
        dead_letters: Takes records that do not decode.
        metrics: Shows the lag.
        clock: Waits for Kafka.
        max_records: Most records of a batch.
    """

    def __init__(
        self,
        bootstrap: str,
        env: str,
        message_types: Sequence[type[Message]],
        *,
        dead_letters: DeadLetters,
        metrics: ServiceMetrics,
        clock: Clock,
        max_records: int = 500,
    ) -> None:
        self._bootstrap = bootstrap
        self._types = frozenset(kind.DESCRIPTOR.full_name for kind in message_types)
        self._topics = sorted({EVENTS[kind.DESCRIPTOR.name].name(env) for kind in message_types})
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._clock = clock
        self._max_records = max_records

    async def batches(self, offsets: Offsets) -> AsyncGenerator[StreamBatch, None]:
        """Hands out batches for ever, an empty one about once a second when nothing comes.

        The next batch is read when it is asked for, so a caller that stores state and offsets
        before it asks again never stores an offset ahead of its state. Kafka may come and go. A
        record that retention removed before it was read is logged as lost.

        Args:
            offsets: Where to begin; partitions that are not in it begin at their first record.

        Raises:
            TopicRecreated: A topic ends before its offset.
            Fatal: Too many records do not decode.
        """
        reading = follow(
            self._bootstrap,
            self._topics,
            offsets,
            clock=self._clock,
            metrics=self._metrics,
            max_records=self._max_records,
        )
        async with aclosing(reading):
            async for fetched in reading:
                decoded = [await self._decode(record) for record in fetched.records]
                yield StreamBatch(
                    records=[record for record in decoded if record],
                    next_offsets={
                        TopicPartition(record.topic, record.partition): record.offset + 1
                        for record in fetched.records
                    },
                    is_caught_up=fetched.is_caught_up,
                )

    async def _decode(self, record: ConsumerRecord) -> StreamRecord | None:
        kind = event_type(record)
        if kind and kind not in self._types:
            return None
        try:
            envelope, message = decode(record.value, record.headers)
        except Reject as error:
            await self._put_aside(record, error)
            return None
        time = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        self._dead_letters.passed()
        return StreamRecord(record.topic, record.partition, record.offset, time, envelope, message)

    async def _put_aside(self, record: ConsumerRecord, error: Reject) -> None:
        attempt = 0
        while True:
            try:
                await self._dead_letters.put(record, error, attempts=1)
                return
            except Retry as waiting:
                attempt += 1
                _log.warning("dead_letter_waits", error=repr(waiting), attempt=attempt)
                await self._clock.sleep(kafka.RECONNECT.delay(attempt, random.Random()))


async def follow(
    bootstrap: str,
    topics: list[str],
    offsets: Offsets,
    *,
    clock: Clock,
    metrics: ServiceMetrics,
    max_records: int,
) -> AsyncGenerator[Fetched, None]:
    """Hands out the records of topics for ever, whatever becomes of the connection.

    Args:
        bootstrap: Kafka's address.
        topics: Full names.
        offsets: Where to begin; other partitions begin at their first record.
        clock: Waits for Kafka.
        metrics: Shows the lag.
        max_records: Most records handed out at once.

    Raises:
        TopicRecreated: A topic ends before its offset.
    """
    positions = dict(offsets)
    rng = random.Random()
    failures = 0
    while True:
        consumer = kafka.position_consumer(bootstrap, topics)
        try:
            await consumer.start()
            await _seek(consumer, positions)
            while True:
                polled = await consumer.getmany(
                    timeout_ms=int(IDLE.total_seconds() * 1000), max_records=max_records
                )
                lag = await _lag(consumer, topics, metrics)
                failures = 0
                records = [record for partition in polled.values() for record in partition]
                positions |= {place: some[-1].offset + 1 for place, some in polled.items() if some}
                yield Fetched(records, is_caught_up=lag == 0)
        except kafka.UNAVAILABLE as error:
            failures += 1
            _log.warning("stream_lost", topics=topics, error=repr(error), attempt=failures)
        finally:
            await kafka.close(consumer)
        await clock.sleep(kafka.RECONNECT.delay(failures, rng))


async def require_reached(bootstrap: str, offsets: Offsets) -> None:
    """Returns if every topic reaches as far as the state that was made of it.

    For those who read through another library; readers of this module look by themselves.

    Raises:
        TopicRecreated: A topic ends before its offset.
        Retry: Kafka is away.
    """
    consumer = kafka.position_consumer(bootstrap, sorted({place.topic for place in offsets}))
    try:
        await consumer.start()
        _require_reached(offsets, await consumer.end_offsets(list(offsets)))
    except kafka.UNAVAILABLE as error:
        raise Retry(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        await kafka.close(consumer)


def _require_reached(offsets: Offsets, ends: Offsets) -> None:
    for partition, wanted in offsets.items():
        if wanted > ends[partition]:
            raise TopicRecreated(
                f"{partition.topic}/{partition.partition} ends at {ends[partition]}, but the state "
                f"holds everything before {wanted}: the topic was made anew. Begin with a new "
                "state, or bring the topic back",
                metadata={"topic": partition.topic},
            )


async def _seek(consumer: AIOKafkaConsumer, positions: Offsets) -> None:
    partitions = sorted(consumer.assignment())
    first = await consumer.beginning_offsets(partitions)
    end = await consumer.end_offsets(partitions)
    wanted_of = {place: positions.get(place, first[place]) for place in partitions}
    _require_reached(wanted_of, end)
    for partition, wanted in wanted_of.items():
        if wanted < first[partition]:
            _log.error(
                "records_lost_to_retention",
                topic=partition.topic,
                partition=partition.partition,
                first_lost=wanted,
                lost=first[partition] - wanted,
            )
        consumer.seek(partition, max(wanted, first[partition]))


async def _lag(
    consumer: AIOKafkaConsumer, topics: list[str], metrics: ServiceMetrics
) -> int | None:
    lags: dict[str, int | None] = dict.fromkeys(topics, 0)
    for partition in consumer.assignment():
        highwater = consumer.highwater(partition)
        before = lags[partition.topic]
        if highwater is None or before is None:
            lags[partition.topic] = None  # not fetched yet: unknown
        else:
            lags[partition.topic] = before + highwater - await consumer.position(partition)
    known = [lag for lag in lags.values() if lag is not None]
    for topic, lag in lags.items():
        if lag is not None:
            metrics.consumer_lag.labels(topic).set(lag)
    return sum(known) if len(known) == len(topics) else None
