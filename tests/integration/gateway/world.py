"""What surrounds the gateway in its tests: a registry that we play, callers, Kafka's topics."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.integration.gateway import bundles
from tests.support.eventually import eventually
from tests.support.stack import LocalStack
from tritonclient.grpc import service_pb2_grpc

from ciclo.cloudevents import Envelope, decode, encode
from ciclo.common.v1.version_pb2 import VersionRef, Weight
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo.events.v1.registry_state_pb2 import RegistryState, Rollout
from ciclo.events.v1.routes_applied_pb2 import RoutesApplied
from ciclo.topics import EVENTS, topic_of
from ciclo_bundle.store import BlobStore
from ciclo_gateway.domain.tensors import Tensor
from ciclo_gateway.wire import inference

SEEN_FROM = datetime(2013, 6, 1, tzinfo=UTC)
SOON = timedelta(seconds=60)
EVENT_TIME_US = int(SEEN_FROM.timestamp() * 1e6)


@dataclass
class Gateway:
    """The service as a process of its own."""

    stack: LocalStack
    log: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    async def start(self, **extra: str) -> None:
        environment = {**os.environ, **self.stack.environment("gateway"), **extra}
        environment["CICLO_LOG_FORMAT"] = "json"
        self.port = int(environment["CICLO_GRPC_PORT"])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 -- returns at once
                [sys.executable, "-m", "ciclo_gateway"], env=environment, stdout=log, stderr=log
            )
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for _ in range(600):
                assert self.process.poll() is None or extra, self.log.read_text()[-3000:]
                if self.process.poll() is not None:
                    return  # it was told to die on its way
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
                else:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                    await asyncio.sleep(0.05)
        raise AssertionError(f"the gateway does not serve: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait(10)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class World:
    """A stack, and one gateway in it."""

    stack: LocalStack
    folder: Path
    gateway: Gateway
    generations: dict[str, int] = field(default_factory=dict)
    champions: dict[str, VersionRef] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.stack.settings.ports.kafka}"

    @property
    def envoy(self) -> str:
        return f"127.0.0.1:{self.stack.settings.ports.envoy}"

    def store(self) -> BlobStore:
        return BlobStore(self.stack.settings.blobs.as_uri())

    def bundle(self, model: str, number: int, bias: float, **options: float) -> VersionRef:
        """Puts a bundle into the blob store; returns the version that it is."""
        path = bundles.write(self.folder / f"{model}-{number}", bias, **options)
        digest = self.store().put_folder(path)
        return VersionRef(
            model=model,
            version=number,
            bundle_digest=digest,
            signature_digest=bundles.SIGNATURE.digest,
        )

    def damage(self, model: str, number: int, bias: float) -> None:
        """Changes a byte of a bundle's graph in the blob store."""
        graph = self.folder / f"{model}-{number}" / f"bundle-{bias}-0.0" / "model.onnx"
        name = hashlib.sha256(graph.read_bytes()).hexdigest()
        blob = self.stack.settings.blobs / name[:2] / name
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")

    async def want(
        self,
        model: str,
        champion: VersionRef | None,
        weights: dict[int, float],
        *,
        rollout: Rollout | None = None,
        previous: VersionRef | None = None,
        lease: timedelta | None = None,
        loop_digest: str = "",
    ) -> int:
        """Plays the registry; returns the generation."""
        generation = self.generations[model] = self.generations.get(model, 0) + 1
        state = RegistryState(
            model=model,
            generation=generation,
            loop_digest=loop_digest,
            champion=champion,
            previous=previous,
            rollout=rollout,
            weights=[Weight(version=v, weight=w) for v, w in weights.items()],
            salt="salt",
            cycle_id=rollout.cycle_id if rollout else "",
        )
        if lease is not None:
            state.lease_expire_time.FromDatetime(datetime.now(UTC) + lease)  # noqa: TID251
        await self.say(state, model)
        return generation

    async def say(self, message: Any, subject: str) -> None:
        envelope = Envelope(str(uuid4()), "/test", subject, SEEN_FROM)
        record = encode(envelope, message)
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(
                topic_of(message).name("test"),
                record.value,
                key=record.key,
                headers=list(record.headers),
            )
        finally:
            await producer.stop()

    async def heard(self, kind: type[Any], model: str) -> list[tuple[Envelope, Any]]:
        """Returns all events of a type about a model, from the beginning of its topic."""
        topic = EVENTS[kind.DESCRIPTOR.name].name("test")
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        await consumer.start()
        found: list[tuple[Envelope, Any]] = []
        try:
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(timeout_ms=500)).get(partition, ()):
                    envelope, message = decode(record.value, record.headers)
                    if isinstance(message, kind) and envelope.subject == model:
                        found.append((envelope, message))
        finally:
            await consumer.stop()
        return found

    async def answers(self, model: str) -> list[tuple[str, int, str]]:
        """Returns prediction id, version and variant of every served answer in the topic."""
        variants = {1: "champion", 2: "challenger", 3: "pinned"}
        return [
            (prediction_id, message.version.version, variants[message.variant])
            for _, message in await self.heard(PredictionsServed, model)
            if message.purpose == PURPOSE_SERVED
            for prediction_id in message.prediction_ids
        ]


def rows(count: int, first: int = 0) -> list[Tensor]:
    """Returns a question of some rows that differ."""
    numbers = np.arange(first, first + count)
    return [
        inference.pack("flight", np.array([f"F{n}" for n in numbers], dtype=object)),
        inference.pack("origin", np.array([("EWR", "JFK")[n % 2] for n in numbers], dtype=object)),
        inference.pack("distance", (numbers * 10 % 3000).astype(np.float32)),
        inference.pack("temp", (numbers % 90).astype(np.float32)),
    ]


FIRST_BIAS = 0.25
"""Of the version that most tests ask."""


async def first_model(world: World, model: str = "first") -> VersionRef:
    """Returns the champion of a model that is routed; loads it when first asked."""
    if model not in world.generations:
        world.champions[model] = world.bundle(model, 1, FIRST_BIAS)
        await routed(world, model, await world.want(model, world.champions[model], {1: 1.0}))
    return world.champions[model]


async def routed(world: World, model: str, generation: int) -> None:
    """Returns when Envoy has what a generation asks for."""

    async def assertion() -> None:
        found = await world.heard(RoutesApplied, model)
        assert any(message.generation >= generation for _, message in found)

    await eventually(assertion, SOON)


class Caller:
    """An application that calls by tensor."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def ask(
        self,
        model: str,
        tensors: Sequence[Tensor],
        *,
        key: str = "",
        version: int | None = None,
        event_time_us: int = EVENT_TIME_US,
    ) -> tuple[dict[str, str], tuple[Tensor, ...]]:
        """Returns Envoy's metadata and the outputs."""
        metadata = [("x-ciclo-event-time", str(event_time_us))]
        if key:
            metadata.append(("x-ciclo-key", key))
        request = inference.infer_request(model, version, tensors, "client")
        call = self._stub.ModelInfer(request, metadata=metadata, timeout=10)
        said = {name: str(value) for name, value in await call.initial_metadata()}
        return said, inference.read_response(await call)
