"""A loop and a bundle in a blob store, the offline process, and the service as a process."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiokafka import AIOKafkaProducer
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import TypeAdapter
from tests.support.eventually import eventually
from tests.support.stack import kafka_bootstrap, stack  # noqa: F401 -- fixtures
from tests.unit.feature_store.examples import (
    DEFINITIONS,
    FEATURES_PY,
    LOOP_YAML,
    MODEL,
    SIGNATURE,
)

from ciclo.cloudevents import Envelope, encode
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.topics import Topic, topic_of
from ciclo_bundle.signature import encode_signature
from ciclo_bundle.store import BlobStore
from ciclo_feature_store.adapters.offline_process import OfflineProcess
from ciclo_feature_store.domain.definitions import Definitions
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.metrics import ServiceMetrics


@dataclass(frozen=True)
class Blobs:
    """What other services have put into the blob store."""

    url: str
    loop_digest: str
    bundle_digest: str


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    home = tmp_path_factory.mktemp("blobs")
    loop, bundle = home / "loop", home / "bundle"
    loop.mkdir()
    (loop / "features.py").write_text(FEATURES_PY)
    (loop / "loop.yaml").write_text(LOOP_YAML)
    bundle.mkdir()
    (bundle / "signature.json").write_bytes(encode_signature(SIGNATURE))
    url = (home / "store").as_uri()
    store = BlobStore(url)
    return Blobs(url, store.put_folder(loop), store.put_folder(bundle))


@pytest.fixture(scope="session")
async def offline() -> AsyncIterator[OfflineProcess]:
    process = OfflineProcess(FeatureStoreMetrics(ServiceMetrics("feature-store")), SystemClock())
    await process.start()
    yield process
    await process.stop()


@dataclass
class FeatureStore:
    """The service as a process of its own, in an environment of its own."""

    bootstrap: str
    state: Path
    blobs: Blobs
    env: str
    port: int
    process: Any = None

    @property
    def home(self) -> Path:
        return self.state / "feature-store"

    async def start(self, **extra: str) -> None:
        variables = {
            "CICLO_ENV": self.env,
            "CICLO_STATE_DIR": str(self.state),
            "CICLO_KAFKA_BOOTSTRAP": self.bootstrap,
            "CICLO_GRPC_PORT": str(self.port),
            "CICLO_METRICS_PORT": "0",
            "CICLO_BLOB_URL": self.blobs.url,
            "CICLO_LOG_LEVEL": "warning",
            "CICLO_FLUSH_INTERVAL": "PT0.2S",
            "CICLO_OFFLINE_AT_START": "false",
        }
        self.process = subprocess.Popen(  # noqa: ASYNC220 -- killed and waited for by tests
            [sys.executable, "-m", "ciclo_feature_store"],
            env=os.environ | variables | extra,
        )
        options = [("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def serves() -> None:
                if self.process.poll() is not None:
                    pytest.fail(f"the service ended with {self.process.returncode}")
                try:
                    answer = await health.Check(health_pb2.HealthCheckRequest())
                except grpc.aio.AioRpcError as error:
                    raise AssertionError(error.details()) from error
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

            await eventually(serves, within=timedelta(seconds=30))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        code: int = self.process.wait(timeout=20)
        return code

    def know_definitions(self) -> None:
        """Puts what Feast would have said of features.py where the service keeps it."""
        folder = self.home / "loops"
        folder.mkdir(parents=True)
        name = self.blobs.loop_digest.removeprefix("sha256:")
        content = TypeAdapter(Definitions).dump_json(DEFINITIONS)
        (folder / f"{name}.definitions.json").write_bytes(content)


@pytest.fixture
def feature_store(
    kafka_bootstrap: str,  # noqa: F811
    blobs: Blobs,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    unused_tcp_port: int,
) -> Iterator[FeatureStore]:
    env = f"fs-{abs(hash(request.node.nodeid)) % 10**8}"
    service = FeatureStore(kafka_bootstrap, tmp_path / "state", blobs, env, unused_tcp_port)
    yield service
    if service.process and service.process.poll() is None:
        service.kill()


@pytest.fixture
async def stub(feature_store: FeatureStore) -> AsyncIterator[Any]:
    address = f"127.0.0.1:{feature_store.port}"
    options = [
        ("grpc.max_send_message_length", 16 * 2**20),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield FeatureServiceStub(channel)


@dataclass
class Publisher:
    """Says what other programs would say."""

    producer: AIOKafkaProducer
    env: str
    blobs: Blobs
    count: int = 0

    async def publish(self, message: Message, subject: str = MODEL) -> int:
        """Returns the offset."""
        return await self._send(topic_of(message), message, subject)

    async def publish_bytes(self, topic: Topic, value: bytes, *, like: Message) -> int:
        """Says something with the headers of a message and another value. Returns the offset."""
        return await self._send(topic, like, MODEL, value)

    async def _send(
        self, topic: Topic, message: Message, subject: str, value: bytes | None = None
    ) -> int:
        self.count += 1
        envelope = Envelope(f"test-{self.count}", "/test", subject, datetime.now(UTC))  # noqa: TID251
        record = encode(envelope, message)
        sent: Any = await self.producer.send_and_wait(
            topic.name(self.env),
            record.value if value is None else value,
            key=record.key,
            headers=list(record.headers),
        )
        offset: int = sent.offset
        return offset

    async def apply_loop(self) -> None:
        digest = self.blobs.loop_digest
        await self.publish(RegistryState(model=MODEL, generation=1, loop_digest=digest))


@pytest.fixture
async def publisher(feature_store: FeatureStore) -> AsyncIterator[Publisher]:
    async with AIOKafkaProducer(bootstrap_servers=feature_store.bootstrap) as producer:
        yield Publisher(producer, feature_store.env, feature_store.blobs)
