from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiokafka import TopicPartition
from tests.unit.runtime.conftest import FakeConsumer, drift, record_of, turns

from ciclo.cloudevents import Envelope
from ciclo.errors import Fatal, Retry
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.training_started_pb2 import TrainingStarted
from ciclo_runtime import kafka
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.consumer import EventConsumer
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.transaction import Tx

MONITORING = TopicPartition("t.ciclo.monitoring.v1", 0)
TRAINING = TopicPartition("t.ciclo.training.v1", 0)


class Scene:
    """A consumer on a stand-in for Kafka, with a handler that can be told to wait."""

    def __init__(self, database: Database, metrics: ServiceMetrics, clock: ManualClock) -> None:
        self.clock = clock
        self.seen: list[str] = []
        self.error: Exception | None = None
        self.kafka = FakeConsumer(
            [
                drift("a", 0),
                drift("b", 1),
                record_of(TrainingStarted(), "t0", 0, TRAINING.topic),
            ]
        )
        self.consumer = EventConsumer(
            "nowhere:1",
            database,
            {DriftDetected: self._on_drift, TrainingStarted: self._on_training},
            dead_letters=DeadLetters(database, metrics=metrics, clock=clock),
            metrics=metrics,
            clock=clock,
        )

    def _on_drift(self, envelope: Envelope, message: DriftDetected, tx: Tx) -> None:
        if self.error:
            raise self.error
        self.seen.append(message.episode_id)

    def _on_training(self, envelope: Envelope, message: TrainingStarted, tx: Tx) -> None:
        self.seen.append("training")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.consumer.start()
        yield
        await self.consumer.stop()


@pytest.fixture
def scene(
    database: Database,
    metrics: ServiceMetrics,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    made = Scene(database, metrics, clock)
    monkeypatch.setattr(kafka, "group_consumer", lambda *_: made.kafka)
    return made


async def test_offsets_are_committed_after_the_events_are_handled(scene: Scene) -> None:
    async with scene.running():
        await turns(lambda: scene.kafka.committed == {MONITORING: 2, TRAINING: 1})

    assert scene.seen == ["a", "b", "training"]
    assert scene.kafka.stopped == 1


async def test_an_event_that_waits_stops_its_own_partition_alone(scene: Scene) -> None:
    scene.error = Retry("not yet")
    async with scene.running():
        await turns(lambda: scene.kafka.committed == {TRAINING: 1})
        assert MONITORING in scene.kafka.paused

        scene.error = None
        scene.clock.advance(timedelta(seconds=1))
        await turns(lambda: MONITORING in scene.kafka.committed)

    assert scene.seen == ["training", "a", "b"]
    assert scene.kafka.committed[MONITORING] == 2


async def test_kafka_gone_for_a_while_is_waited_for(scene: Scene, clock: ManualClock) -> None:
    scene.kafka.fail_polls = 3
    async with scene.running():

        def retried() -> bool:
            clock.advance(kafka.RECONNECT.cap)
            return MONITORING in scene.kafka.committed

        await turns(retried)
    assert scene.kafka.stopped == 4

    assert scene.seen[:2] == ["a", "b"]


async def test_fatal_ends_the_consumer_and_commits_nothing(scene: Scene) -> None:
    scene.error = Fatal("no use")
    await scene.consumer.start()

    with pytest.raises(Fatal, match="no use"):
        await scene.consumer.wait()

    assert scene.kafka.committed == {}
    await scene.consumer.stop()
