"""The composition root: the only place where the registry's parts meet."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

from ciclo.registry.v1.registry_service_pb2_grpc import add_RegistryServiceServicer_to_server
from ciclo_bundle.store import BlobStore
from ciclo_registry import wire
from ciclo_registry.acts import Setup
from ciclo_registry.adapters.blobs import BlobExaminer
from ciclo_registry.adapters.books import SqlBooks
from ciclo_registry.adapters.tables import METADATA
from ciclo_registry.commands import Commands
from ciclo_registry.domain.model import Heartbeat
from ciclo_registry.grpc_api import RegistryApi
from ciclo_registry.handlers import Handlers
from ciclo_registry.metrics import RegistryMetrics
from ciclo_registry.registration import Registration
from ciclo_registry.settings import Settings
from ciclo_registry.vigil import INTERVALS_A_LEASE, Vigil
from ciclo_runtime.clock import Clock, SystemClock
from ciclo_runtime.consumer import EventConsumer
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Part, Service
from ciclo_runtime.metrics import MetricsServer, ServiceMetrics
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.reconcile import Reconciler
from ciclo_runtime.state_table import StateTable
from ciclo_runtime.topics_admin import TopicsAdmin

NAME = "registry"
"""Of the service, its folder, its metrics and the source of its events."""


def build(settings: Settings) -> Service:
    """Puts the service together. Called inside the event loop; opens nothing."""
    clock, metrics, kafka = SystemClock(), ServiceMetrics(NAME), settings.kafka_bootstrap
    folder = settings.state_dir / NAME
    database = Database(
        folder / "registry.sqlite", METADATA, service=NAME, env=settings.env, clock=clock
    )
    setup = Setup(
        open_books=SqlBooks,
        metrics=RegistryMetrics(metrics),
        new_id=lambda: str(uuid4()),
        stall=settings.rollout_stall,
        lease=settings.lease,
    )
    examiner = BlobExaminer(BlobStore(settings.blob_url), folder / "scratch")
    heartbeats = _heartbeats(settings, metrics, clock)
    watch = Vigil(database, heartbeats.items, setup, since=clock.now())
    vigil = _reconciler("vigil", watch.step, settings, metrics, clock)
    heartbeats.subscribe(vigil.wake)
    queue = Registration(database, examiner, setup)
    registration = _reconciler("registration", queue.step, settings, metrics, clock)
    routes = Handlers(setup, on_candidate=registration.wake).routes()
    letters = DeadLetters(database, metrics=metrics, clock=clock)
    api = RegistryApi(Commands(database, examiner, setup), clock)
    servicers = [(add_RegistryServiceServicer_to_server, api)]
    parts: list[Part] = [
        MetricsServer(metrics, settings.metrics_address),
        database,
        TopicsAdmin(kafka, settings.env, clock=clock),
        OutboxRelay(kafka, database, metrics=metrics, clock=clock),
        heartbeats,
        registration,
        EventConsumer(kafka, database, routes, dead_letters=letters, metrics=metrics, clock=clock),
        vigil,
        GrpcServer(settings.grpc_address, servicers, metrics=metrics, clock=clock),
    ]
    return Service(NAME, parts, drain_timeout=settings.drain_timeout)


def _heartbeats(settings: Settings, metrics: ServiceMetrics, clock: Clock) -> StateTable[Heartbeat]:
    return StateTable(
        settings.kafka_bootstrap,
        settings.env,
        wire.MonitoringState,
        generation=lambda beat: beat.generation,
        decode_state=wire.heartbeat,
        metrics=metrics,
        clock=clock,
    )


def _reconciler(
    name: str,
    step: Callable[[], Awaitable[None]],
    settings: Settings,
    metrics: ServiceMetrics,
    clock: Clock,
) -> Reconciler:
    interval = settings.lease / INTERVALS_A_LEASE
    return Reconciler(name, step, interval=interval, metrics=metrics, clock=clock)
