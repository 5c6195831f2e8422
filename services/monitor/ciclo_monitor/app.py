"""The composition root: the only place where the monitor's parts meet."""

from datetime import timedelta

from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.monitoring.v1.monitoring_service_pb2_grpc import add_MonitoringServiceServicer_to_server
from ciclo_monitor import wire
from ciclo_monitor.adapters.definitions import Blobs
from ciclo_monitor.adapters.journal import METADATA, SqliteJournal
from ciclo_monitor.adapters.states import RegistryStates
from ciclo_monitor.grpc_api import MonitoringApi
from ciclo_monitor.handlers import Monitor
from ciclo_monitor.metrics import MonitorMetrics
from ciclo_monitor.settings import Settings
from ciclo_monitor.worker import FaustWorker
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Part, Service
from ciclo_runtime.metrics import MetricsServer
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.reconcile import Reconciler
from ciclo_runtime.state_table import StateTable
from ciclo_runtime.topics_admin import TopicsAdmin

FOLLOW_EVERY = timedelta(seconds=5)
"""The registry's changes wake the step; this is for what failed before."""


def build(settings: Settings) -> Service:
    """Returns the monitor, ready to run. Long: a few lines a part, in the order of their start."""
    clock, metrics = SystemClock(), MonitorMetrics()
    home = settings.state_dir / "monitor"
    at = (settings.kafka_bootstrap, settings.env)
    database = Database(
        home / "monitor.sqlite", METADATA, service="monitor", env=settings.env, clock=clock
    )
    registry = StateTable(
        *at,
        RegistryState,
        generation=lambda state: state[0],
        decode_state=wire.to_registered,
        metrics=metrics,
        clock=clock,
    )
    monitor = Monitor(
        RegistryStates(registry),
        Blobs(settings.blob_url, home / "blobs"),
        SqliteJournal(database, clock),
        metrics=metrics,
        clock=clock,
        most_rows=settings.most_rows,
    )
    worker = FaustWorker(
        settings,
        monitor,
        dead_letters=DeadLetters(database, metrics=metrics, clock=clock),
        metrics=metrics,
        clock=clock,
    )
    follow = Reconciler(
        "registry", monitor.follow_registry, interval=FOLLOW_EVERY, metrics=metrics, clock=clock
    )
    heartbeat = Reconciler(
        "heartbeat",
        monitor.state_all,
        interval=settings.heartbeat_interval,
        metrics=metrics,
        clock=clock,
    )
    registry.subscribe(follow.wake)
    api = GrpcServer(
        settings.grpc_address,
        [(add_MonitoringServiceServicer_to_server, MonitoringApi(monitor))],
        metrics=metrics,
        clock=clock,
    )
    parts: list[Part] = [
        MetricsServer(metrics, settings.metrics_address),
        database,
        TopicsAdmin(*at, clock=clock),
        OutboxRelay(settings.kafka_bootstrap, database, metrics=metrics, clock=clock),
        registry,
        worker,
        follow,
        heartbeat,
        api,
    ]
    return Service("monitor", parts, drain_timeout=settings.drain_timeout)
