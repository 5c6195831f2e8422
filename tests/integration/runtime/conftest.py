"""An environment of its own for each test, a view of Kafka, and a service to try it with."""

import multiprocessing
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from google.protobuf.message import Message
from tests.integration.runtime import ledger_service

from ciclo.cloudevents import Envelope, encode
from ciclo.topics import Topic, topic_of
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.topics_admin import TopicsAdmin

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([ledger_service.__name__])


@dataclass
class Broker:
    """Kafka as one test sees it: topics of an environment that no other test uses."""

    bootstrap: str
    env: str
    producer: AIOKafkaProducer

    async def publish(self, message: Message, *, event_id: str, subject: str = "flights") -> None:
        envelope = Envelope(event_id, "/ciclo/test/test", subject, SystemClock().now(), "cycle-1")
        record = encode(envelope, message)
        await self.publish_raw(topic_of(message), record.key, record.value, list(record.headers))

    async def publish_raw(
        self, topic: Topic, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        name = topic.name(self.env)
        await self.producer.send_and_wait(name, value=value, key=key, headers=headers)

    async def records(self, topic: Topic) -> list[ConsumerRecord]:
        """Everything that is in a topic now."""
        async with AIOKafkaConsumer(
            topic.name(self.env), bootstrap_servers=self.bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            found: list[ConsumerRecord] = []
            while len(found) < sum(ends.values()):
                polled = await consumer.getmany(timeout_ms=200)
                found += [record for records in polled.values() for record in records]
            return found


@dataclass
class LedgerProcess:
    """The test's service in processes of its own, forked from one that has it imported."""

    broker: Broker
    state_dir: Path
    running: list[ForkServerProcess] = field(default_factory=list)

    def start(self, crash_at: str = "") -> ForkServerProcess:
        environment = {
            "CICLO_ENV": self.broker.env,
            "CICLO_STATE_DIR": str(self.state_dir),
            "CICLO_KAFKA_BOOTSTRAP": self.broker.bootstrap,
            "CICLO_GRPC_PORT": "0",
            "CICLO_METRICS_PORT": "0",
            "CICLO_BLOB_URL": "file:///unused",
            "CICLO_CRASH_AT": crash_at,
        }
        process = start_process(environment, self.state_dir / "log")
        self.running.append(process)
        return process

    def effects(self) -> list[str]:
        return [row[0] for row in self._query("SELECT episode_id FROM effects ORDER BY sequence")]

    def outbox_size(self) -> int:
        return len(self._query("SELECT sequence FROM runtime_outbox"))

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.state_dir / "ledger.sqlite") as connection:
            return connection.execute(sql).fetchall()


def start_process(environment: dict[str, str], log: Path) -> ForkServerProcess:
    """Starts the service in a fork of a process that has it imported already."""
    process = FORKS.Process(target=ledger_service.main, args=(environment, str(log)), daemon=True)
    process.start()
    return process


@pytest.fixture
async def broker(kafka_bootstrap: str) -> AsyncIterator[Broker]:
    env = f"t{uuid.uuid4().hex[:12]}"
    admin = TopicsAdmin(kafka_bootstrap, env, clock=SystemClock(), within=timedelta(seconds=30))
    await admin.start()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    yield Broker(kafka_bootstrap, env, producer)
    await producer.stop()


@pytest.fixture
def ledger(broker: Broker, tmp_path: Path) -> Iterator[LedgerProcess]:
    processes = LedgerProcess(broker, tmp_path)
    yield processes
    for process in processes.running:
        process.kill()
        process.join()


@pytest.fixture
async def service(broker: Broker, tmp_path: Path) -> AsyncIterator[ledger_service.InProcess]:
    """The same service inside the test."""
    running = ledger_service.InProcess(broker.bootstrap, broker.env, tmp_path / "ledger.sqlite")
    async with running.service:
        yield running
