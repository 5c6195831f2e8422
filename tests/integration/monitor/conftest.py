"""An environment of its own for each world: topics, a blob store, and a monitor that may die."""

import asyncio
import multiprocessing
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from google.protobuf.message import Message
from tests.integration.monitor import process, story
from tests.support.eventually import eventually

from ciclo.cloudevents import Envelope, encode
from ciclo.monitoring.v1.monitoring_service_pb2 import (
    GetModelHealthRequest,
    GetModelHealthResponse,
)
from ciclo.monitoring.v1.monitoring_service_pb2_grpc import MonitoringServiceStub
from ciclo.topics import Topic, topic_of
from ciclo_bundle.store import BlobStore
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.topics_admin import TopicsAdmin

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([process.__name__])

SOON = timedelta(seconds=150)
"""A monitor that replaces a killed one waits until the consumer group has given that one up."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class World:
    """All that a monitor meets, and the monitor."""

    bootstrap: str
    env: str
    folder: Path
    producer: AIOKafkaProducer
    loop_digest: str
    bundle_digest: str
    grpc_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    running: list[ForkServerProcess] = field(default_factory=list)

    @property
    def log_file(self) -> Path:
        return self.folder / "monitor.log"

    def start(self, dies_at: str = "") -> ForkServerProcess:
        environment = {
            "CICLO_ENV": self.env,
            "CICLO_STATE_DIR": str(self.folder),
            "CICLO_KAFKA_BOOTSTRAP": self.bootstrap,
            "CICLO_GRPC_PORT": str(self.grpc_port),
            "CICLO_METRICS_PORT": str(self.metrics_port),
            "CICLO_BLOB_URL": f"file://{self.folder}/blobs",
            "CICLO_SNAPSHOT_INTERVAL": "0.3",
            "CICLO_HEARTBEAT_INTERVAL": "1",
        }
        given = (environment, str(self.log_file), dies_at)
        started = FORKS.Process(target=process.main, args=given)
        started.start()
        self.running.append(started)
        return started

    async def live(self, deaths: Sequence[str]) -> None:
        """Runs a monitor that dies at each of some moments, and then one that lives."""
        for moment in deaths:
            dying = self.start(moment)
            await asyncio.to_thread(dying.join)
            assert dying.exitcode == -signal.SIGKILL, (moment, self.log()[-3000:])
        self.start()

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else "it has not begun"

    async def say(self, generation: int, stage: str = "", since_day: int = 0) -> None:
        """Plays the registry."""
        digests = (self.loop_digest, self.bundle_digest)
        await self.publish([story.registry_state(generation, *digests, stage, since_day)])

    async def publish(self, messages: Iterable[Message]) -> None:
        for message in messages:
            source = f"/ciclo/{self.env}/tests"
            envelope = Envelope(str(uuid.uuid4()), source, story.NAME, SystemClock().now())
            record = encode(envelope, message)
            await self.publish_raw(topic_of(message), record.value, list(record.headers))
        await self.producer.flush()

    async def publish_raw(
        self, topic: Topic, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        name, key = topic.name(self.env), story.NAME.encode()
        await self.producer.send(name, value=value, key=key, headers=headers)

    async def records(self, topic: Topic) -> list[ConsumerRecord]:
        """Everything that is in a topic now."""
        async with AIOKafkaConsumer(
            topic.name(self.env), bootstrap_servers=self.bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            ends = await consumer.end_offsets(consumer.assignment())
            found: list[ConsumerRecord] = []
            while len(found) < sum(ends.values()):
                polled = await consumer.getmany(timeout_ms=200)
                found += [one for records in polled.values() for one in records]
            return found

    async def health(self) -> GetModelHealthResponse:
        """Returns what the monitor says; an AssertionError while it does not answer."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            stub: Any = MonitoringServiceStub(channel)
            try:
                return await stub.GetModelHealth(GetModelHealthRequest(model=story.NAME), timeout=5)
            except grpc.aio.AioRpcError as error:
                raise AssertionError(f"{error.details()}; {self.log()[-2000:]}") from error

    async def until(self, is_so: Callable[[GetModelHealthResponse], bool]) -> None:
        """Waits until the monitor says so."""

        async def assertion() -> None:
            health = await self.health()
            assert is_so(health), health.counts

        await eventually(assertion, SOON)

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            found: str = answer.read().decode()
            return found


@asynccontextmanager
async def made(bootstrap: str, folder: Path) -> AsyncIterator[World]:
    """Yields a world in which the registry knows a champion; nothing runs yet."""
    env = f"t{uuid.uuid4().hex[:12]}"
    admin = TopicsAdmin(bootstrap, env, clock=SystemClock(), within=timedelta(seconds=30))
    await admin.start()
    digests = story.put_definitions(BlobStore(f"file://{folder}/blobs"), folder)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        world = World(bootstrap, env, folder, producer, *digests)
        try:
            await world.say(1)
            yield world
        finally:
            for one in world.running:
                one.kill()
                one.join()


@pytest.fixture
async def two_worlds(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[list[World]]:
    """Two worlds that know nothing of each other."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(made(kafka_bootstrap, tmp_path / name))
            for name in ("first", "second")
        ]


@pytest.fixture
async def world(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[World]:
    async with made(kafka_bootstrap, tmp_path / "world") as one:
        yield one
