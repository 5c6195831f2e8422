"""The running system as an outsider sees it: the command line, the topics, the services' RPCs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import grpc.aio
import tritonclient.grpc.aio as triton
from aiokafka import AIOKafkaConsumer, TopicPartition
from player import MODEL
from tritonclient.utils import InferenceServerException

from ciclo.cloudevents import decode
from ciclo.features.v1 import feature_service_pb2 as features
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo.history import RecordedEvent
from ciclo.monitoring.v1 import monitoring_service_pb2 as monitoring
from ciclo.monitoring.v1.monitoring_service_pb2_grpc import MonitoringServiceStub
from ciclo.registry.v1 import registry_service_pb2 as registry
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from ciclo.topics import CONTROL_TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE_PORT: Final = 18600
"""Beside the ports of `ciclo up`, so that a system for daily work may go on."""

ENVIRONMENT: Final = "demo"

LOOK_SECONDS: Final = 0.1
"""Between two looks at Triton's statistics: about five requests at a day a second."""


class CommandFailed(Exception):
    """A `ciclo` command did not end well."""


class System:
    """A system in a state folder of its own.

    Args:
        state: The folder.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.addresses: dict[str, str] = {}
        self.env = ENVIRONMENT

    async def command(self, *arguments: str) -> str:
        """Runs `ciclo` with these arguments and returns what it prints.

        Raises:
            CommandFailed: With what it printed.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ciclo.cli", *arguments, "--state", str(self.state)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode:
            said = (error or out).decode().strip()
            raise CommandFailed(f"`ciclo {' '.join(arguments)}` ended with: {said}")
        return out.decode()

    async def up(self) -> None:
        """Starts everything from an empty state folder."""
        if (self.state / "stack.json").exists():
            await self.command("down", "--purge")
        await self.command("up", "--env", ENVIRONMENT, "--base-port", str(BASE_PORT))
        stack = json.loads((self.state / "stack.json").read_text())
        self.addresses, self.env = stack["addresses"], stack["environment"]

    async def down(self, *, purge: bool) -> None:
        """Stops everything."""
        await self.command("down", *(["--purge"] if purge else []))


class Services:
    """What the services' RPCs tell. Plain gRPC."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self._channels = {
            name: grpc.aio.insecure_channel(addresses[name])
            for name in ("registry", "monitor", "feature-store")
        }
        self._registry: Any = RegistryServiceStub(self._channels["registry"])
        self._monitor: Any = MonitoringServiceStub(self._channels["monitor"])
        self._features: Any = FeatureServiceStub(self._channels["feature-store"])

    async def __aenter__(self) -> Self:
        """Connects with the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            await channel.close()

    async def state(self) -> Any:
        """Returns the registry's state of the model."""
        return (await self._registry.GetModel(registry.GetModelRequest(model=MODEL))).state

    async def versions(self) -> list[Any]:
        """Returns the versions, oldest first."""
        answer = await self._registry.ListVersions(registry.ListVersionsRequest(model=MODEL))
        return list(reversed(answer.versions))

    async def rollouts(self) -> list[Any]:
        """Returns the rollouts, oldest first."""
        answer = await self._registry.ListRollouts(registry.ListRolloutsRequest(model=MODEL))
        return list(reversed(answer.rollouts))

    async def audit(self) -> Any:
        """Returns the audit chain."""
        return await self._registry.ListAudit(registry.ListAuditRequest(model=MODEL))

    async def health(self) -> Any:
        """Returns what the monitor knows."""
        return await self._monitor.GetModelHealth(
            monitoring.GetModelHealthRequest(model=MODEL), timeout=10
        )

    async def audit_skew(self, start: datetime, end: datetime) -> tuple[int, int]:
        """Returns how many rows were audited, and how many differ."""
        request = features.AuditSkewRequest(model=MODEL)
        request.start_time.FromDatetime(start)
        request.end_time.FromDatetime(end)
        answer = await self._features.AuditSkew(request, timeout=120)
        return int(answer.rows_audited), int(answer.rows_different)

    async def history(self) -> Any:
        """Returns how far history is stored, and where."""
        return await self._features.GetHistoryStatus(features.GetHistoryStatusRequest(model=MODEL))


class TritonCounts:
    """What the serving Triton says of itself: which versions are ready, and what each answered.

    Args:
        address: Of its gRPC port.
    """

    def __init__(self, address: str) -> None:
        self.requests: Counter[int] = Counter()
        self.ready: list[dict[str, Any]] = []
        self._client = triton.InferenceServerClient(address)
        self._before: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        """Connects with the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        await self._client.close()

    async def follow(self) -> None:
        """Looks all the time: a load makes Triton count anew, and what was not seen is gone."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Adds what was counted since the last look; nothing while the model is not there."""
        when = datetime.now(UTC).isoformat()  # noqa: TID251 -- a program of its own
        try:
            found = await self._client.get_inference_statistics(MODEL)
        except InferenceServerException:
            self.ready.append({"wall_time": when, "versions": []})
            return
        now = {int(s.version): int(s.inference_stats.success.count) for s in found.model_stats}
        for version, count in now.items():
            before = self._before.get(version, 0)
            self.requests[version] += count - before if count >= before else count
        self._before = now
        self.ready.append({"wall_time": when, "versions": sorted(now)})


class Watch:
    """Follows the control topics with a plain consumer, and lets others wait for events.

    Args:
        bootstrap: Kafka's address.
        env: First word of the topics.
        on_event: Told each event as it comes.
    """

    def __init__(self, bootstrap: str, env: str, on_event: Callable[[RecordedEvent], None]) -> None:
        self.events: list[RecordedEvent] = []
        self._on_event = on_event
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        self._topics = [TopicPartition(topic.name(env), 0) for topic in CONTROL_TOPICS]
        self._came = asyncio.Condition()

    async def __aenter__(self) -> Self:
        """Reads from the beginning."""
        await self._consumer.start()
        self._consumer.assign(self._topics)
        await self._consumer.seek_to_beginning()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops reading."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._consumer.stop()

    def find(self, name: str, test: Callable[[Any], bool] = lambda _: True) -> RecordedEvent | None:
        """Returns the first event of a name whose message passes a test."""
        return next((e for e in self.events if e.name == name and test(e.message)), None)

    async def wait(
        self, name: str, test: Callable[[Any], bool] = lambda _: True, within_s: float = 120.0
    ) -> RecordedEvent:
        """Waits for the first event of a name whose message passes a test.

        Raises:
            TimeoutError: It did not come.
        """
        try:
            async with asyncio.timeout(within_s), self._came:
                while not (found := self.find(name, test)):
                    await self._came.wait()
                return found
        except TimeoutError:
            raise TimeoutError(f"no {name} came within {within_s:.0f} s") from None

    async def _follow(self) -> None:
        async for record in self._consumer:
            envelope, message = decode(record.value, record.headers)
            event = RecordedEvent(envelope, message, record.topic, record.partition, record.offset)
            if envelope.subject == MODEL:
                self.events.append(event)
                self._on_event(event)
                async with self._came:
                    self._came.notify_all()
