"""An environment of its own for each test: topics, a blob store, and a registry that may die."""

import asyncio
import multiprocessing
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from google.protobuf.message import Message
from tests.integration.registry import process
from tests.support.eventually import eventually

from ciclo.cloudevents import Envelope, decode, encode
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from ciclo.topics import DEAD_LETTERS, REGISTRY, REGISTRY_STATE, Topic, topic_of
from ciclo_bundle.store import BlobStore
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.grpc_client import connect
from ciclo_runtime.topics_admin import TopicsAdmin

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([process.__name__])


@dataclass
class World:
    """All that a registry meets, and the registry."""

    bootstrap: str
    env: str
    folder: Path
    producer: AIOKafkaProducer
    port: int = field(default_factory=process.free_port)
    running: list[ForkServerProcess] = field(default_factory=list)

    @property
    def blob_url(self) -> str:
        return f"file://{self.folder}/blobs"

    def put_bundle(self, seed: int, *, compared: bool) -> str:
        return process.put_bundle(BlobStore(self.blob_url), self.folder, seed, compared=compared)

    def start(self, crash_at: str = "", **settings: str) -> ForkServerProcess:
        environment = {
            "CICLO_ENV": self.env,
            "CICLO_STATE_DIR": str(self.folder),
            "CICLO_KAFKA_BOOTSTRAP": self.bootstrap,
            "CICLO_GRPC_PORT": str(self.port),
            "CICLO_METRICS_PORT": "0",
            "CICLO_BLOB_URL": self.blob_url,
            "CICLO_CRASH_AT": crash_at,
            **settings,
        }
        log = str(self.folder / "registry.log")
        started = FORKS.Process(target=process.main, args=(environment, log))
        started.start()
        self.running.append(started)
        return started

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Any]:
        name = "ciclo.registry.v1.RegistryService"
        async with connect(
            f"127.0.0.1:{self.port}", deadline=timedelta(seconds=20), idempotent=[name]
        ) as channel:
            async with asyncio.timeout(20):
                await channel.channel_ready()
            yield RegistryServiceStub(channel)

    async def publish(self, message: Message, *, event_id: str, service: str = "monitor") -> None:
        envelope = Envelope(
            event_id, f"/ciclo/{self.env}/{service}", process.NAME, SystemClock().now(), "cycle-1"
        )
        record = encode(envelope, message)
        await self.producer.send_and_wait(
            topic_of(message).name(self.env),
            value=record.value,
            key=record.key,
            headers=list(record.headers),
        )

    async def events(self, topic: Topic) -> list[tuple[Envelope, Message]]:
        """Everything that is in a topic now."""
        async with AIOKafkaConsumer(
            topic.name(self.env), bootstrap_servers=self.bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            found: list[ConsumerRecord] = []
            while len(found) < sum(ends.values()):
                polled = await consumer.getmany(timeout_ms=200)
                found += [one for records in polled.values() for one in records]
            assert topic is not DEAD_LETTERS or not found
            return [decode(record.value, record.headers) for record in found]

    async def facts(self) -> list[str]:
        """Types of the facts in order, each event id once."""
        by_id = {e.id: m.DESCRIPTOR.name for e, m in await self.events(REGISTRY)}
        return list(by_id.values())

    async def states(self) -> list[RegistryState]:
        by_id = {envelope.id: message for envelope, message in await self.events(REGISTRY_STATE)}
        return [state for state in by_id.values() if isinstance(state, RegistryState)]

    async def until(self, facts: Sequence[str], seconds: float = 20) -> None:
        """Waits until exactly these facts were published, in this order."""

        async def are_there() -> None:
            assert await self.facts() == list(facts)

        await eventually(are_there, timedelta(seconds=seconds))


@pytest.fixture
async def world(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[World]:
    env = f"t{uuid.uuid4().hex[:12]}"
    admin = TopicsAdmin(kafka_bootstrap, env, clock=SystemClock(), within=timedelta(seconds=30))
    await admin.start()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
    await producer.start()
    made = World(kafka_bootstrap, env, tmp_path, producer)
    yield made
    await producer.stop()
    for one in made.running:
        one.kill()
        one.join()
