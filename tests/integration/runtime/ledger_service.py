"""A small service: it writes down each drift that it hears of and answers with an event."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from ciclo.cloudevents import Envelope
from ciclo.errors import Reject, Retry
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.training_started_pb2 import TrainingStarted
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.consumer import EventConsumer
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Part, Service, run
from ciclo_runtime.metrics import MetricsServer, ServiceMetrics
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.settings import ServiceSettings
from ciclo_runtime.topics_admin import TopicsAdmin
from ciclo_runtime.transaction import Tx

METADATA = MetaData()
EFFECTS = Table(
    "effects",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("episode_id", String, nullable=False),
)


class Handlers:
    def __init__(self) -> None:
        self.tries_until_ready = 3

    def on_drift_detected(self, envelope: Envelope, drift: DriftDetected, tx: Tx) -> None:
        if drift.episode_id == "bad":
            raise Reject("this episode is bad", field="episode_id")
        if drift.episode_id == "wait" and self.tries_until_ready > 0:
            self.tries_until_ready -= 1
            raise Retry("not yet")
        tx.connection.execute(insert(EFFECTS).values(episode_id=drift.episode_id))
        tx.emit(TrainingStarted(), subject=envelope.subject)


class Hanging:
    """A part that does not stop."""

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        await asyncio.Event().wait()


def parts(bootstrap: str, database: Database, metrics: ServiceMetrics) -> list[Part]:
    clock = SystemClock()
    return [
        database,
        TopicsAdmin(bootstrap, database.env, clock=clock),
        OutboxRelay(bootstrap, database, metrics=metrics, clock=clock),
        EventConsumer(
            bootstrap,
            database,
            {DriftDetected: Handlers().on_drift_detected},
            dead_letters=DeadLetters(database, metrics=metrics, clock=clock),
            metrics=metrics,
            clock=clock,
            backoff=Backoff(first=timedelta(milliseconds=20)),
        ),
    ]


def build(settings: ServiceSettings) -> Service:
    metrics = ServiceMetrics("ledger")
    path = settings.state_dir / "ledger.sqlite"
    database = Database(path, METADATA, service="ledger", env=settings.env, clock=SystemClock())
    if os.environ.get("LEDGER_HANGS"):
        return Service("ledger", [Hanging()])
    return Service(
        "ledger",
        [
            MetricsServer(metrics, settings.metrics_address),
            *parts(settings.kafka_bootstrap, database, metrics),
            GrpcServer(settings.grpc_address, [], metrics=metrics, clock=SystemClock()),
        ],
        drain_timeout=settings.drain_timeout,
    )


def main(environment: dict[str, str], log: str) -> None:
    """The body of a process."""
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    run(build, ServiceSettings)


class InProcess:
    """The service as a test holds it in its own process."""

    def __init__(self, bootstrap: str, env: str, path: Path) -> None:
        self.metrics = ServiceMetrics("ledger")
        self.database = Database(path, METADATA, service="ledger", env=env, clock=SystemClock())
        self.service = Service("ledger", parts(bootstrap, self.database, self.metrics))

    async def effects(self) -> list[str]:
        query = select(EFFECTS.c.episode_id).order_by(EFFECTS.c.sequence)
        return await self.database.read(lambda tx: list(tx.execute(query).scalars()))

    def handled(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "ciclo_ledger_events_handled_total", {"type": "DriftDetected", "outcome": outcome}
        )
