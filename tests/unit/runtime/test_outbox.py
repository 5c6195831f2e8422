import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from tests.unit.runtime.conftest import turns

from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.training_started_pb2 import TrainingStarted
from ciclo_runtime import kafka, outbox
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.ledger import backlog
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.transaction import Tx


class FakeProducer:
    """Takes whole batches, or none; notes the values in the order in which the broker has them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[bytes]]] = []
        self.failures = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> BatchBuilder:
        builder = BatchBuilder(kafka.BATCH_BYTES, 0)
        builder.values = []
        append = builder.append

        def noted(*, timestamp: None, key: bytes, value: bytes, headers: list[object]) -> object:
            taken = append(timestamp=1, key=key, value=value, headers=headers)
            if taken:
                builder.values.append(value)
            return taken

        builder.append = noted
        return builder

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failures:
            self.failures -= 1
            future.set_exception(KafkaTimeoutError())
        else:
            self.sent.append((topic, batch.values))
            future.set_result(None)
        return future


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    monkeypatch.setattr(kafka, "producer", lambda _: fake)
    return fake


@pytest.fixture
async def relay(
    database: Database, metrics: ServiceMetrics, clock: ManualClock, producer: FakeProducer
) -> AsyncIterator[OutboxRelay]:
    running = OutboxRelay("nowhere:1", database, metrics=metrics, clock=clock)
    await running.start()
    yield running
    await running.stop()


def emit(*episodes: str) -> Callable[[Tx], None]:
    def work(tx: Tx) -> None:
        for episode in episodes:
            tx.emit(DriftDetected(episode_id=episode), subject="flights")

    return work


def drifts(producer: FakeProducer) -> list[str]:
    return [
        DriftDetected.FromString(value).episode_id for _, some in producer.sent for value in some
    ]


async def emptied(database: Database) -> None:
    for _ in range(500):
        if await database.read(backlog) == 0:
            return
    raise AssertionError("the outbox is not empty")


async def test_a_transaction_that_emits_wakes_the_relay(
    relay: OutboxRelay, producer: FakeProducer, database: Database
) -> None:
    await database.transaction(emit("a", "b"))
    await turns(lambda: drifts(producer) == ["a", "b"])
    await emptied(database)

    await database.transaction(emit("c"))
    await turns(lambda: drifts(producer) == ["a", "b", "c"])


async def test_a_failed_batch_is_sent_again_before_anything_that_follows_it(
    relay: OutboxRelay, producer: FakeProducer, database: Database, clock: ManualClock
) -> None:
    producer.failures = 2
    await database.transaction(emit("a"))
    await database.transaction(emit("b"))
    for _ in range(2):
        await asyncio.sleep(0)
        await turns(lambda: not producer.failures or bool(clock._sleepers))
        clock.advance(kafka.RECONNECT.cap)
    await database.transaction(emit("c"))

    async def published() -> None:
        for _ in range(200):
            await turns(lambda: True)
            clock.advance(timedelta(seconds=1))
            if len(drifts(producer)) == 3:
                return
            await database.read(backlog)

    await published()
    assert drifts(producer) == ["a", "b", "c"]


async def test_topics_are_batched_apart_and_large_outboxes_in_several_batches(
    relay: OutboxRelay, producer: FakeProducer, database: Database
) -> None:
    def work(tx: Tx) -> None:
        for number in range(4):
            tx.emit(DriftDetected(episode_id=str(number) * 400_000), subject="flights")
            tx.emit(TrainingStarted(), subject="flights")

    await database.transaction(work)
    await emptied(database)

    batches = [(topic.split(".")[2], len(values)) for topic, values in producer.sent]
    assert batches == [("monitoring", 2), ("monitoring", 2), ("training", 4)]


async def test_the_backlog_is_shown_while_kafka_is_away(
    relay: OutboxRelay,
    producer: FakeProducer,
    database: Database,
    metrics: ServiceMetrics,
    clock: ManualClock,
) -> None:
    producer.failures = 1_000_000
    await database.transaction(emit("a", "b", "c"))

    def shown() -> float | None:
        return metrics.registry.get_sample_value("ciclo_trainer_outbox_backlog_messages")

    for _ in range(100):
        clock.advance(outbox.MEASURE_EVERY)
        await database.read(backlog)
        await asyncio.sleep(0)
        if shown() == 3:
            return
    pytest.fail(f"the backlog shown is {shown()}")
