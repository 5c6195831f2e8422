"""The composition root: the only place where the trainer's parts meet."""

from datetime import timedelta

from ciclo.events.v1.monitoring_state_pb2 import MonitoringState
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.training.v1.training_service_pb2_grpc import add_TrainingServiceServicer_to_server
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Part, Service
from ciclo_runtime.metrics import MetricsServer
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.reconcile import Reconciler
from ciclo_runtime.state_table import StateTable
from ciclo_runtime.topics_admin import TopicsAdmin
from ciclo_trainer import wire
from ciclo_trainer.adapters.blobs import Blobs
from ciclo_trainer.adapters.ledger import METADATA, Ledger
from ciclo_trainer.adapters.process import TrainingProcess
from ciclo_trainer.adapters.snapshots import FeatureStore
from ciclo_trainer.adapters.states import States
from ciclo_trainer.grpc_api import TrainingApi
from ciclo_trainer.handlers import Trainer
from ciclo_trainer.metrics import TrainerMetrics
from ciclo_trainer.runner import Runner
from ciclo_trainer.settings import Settings

CONSIDER_EVERY = timedelta(seconds=5)
"""Policies depend on event time, which is learned by events; this is for what was missed."""


def build(settings: Settings) -> Service:
    """Returns the trainer, ready to run. Long: a few lines a part, in the order of their start."""
    clock, metrics = SystemClock(), TrainerMetrics()
    home = settings.state_dir / "trainer"
    at = (settings.kafka_bootstrap, settings.env)
    database = Database(
        home / "trainer.sqlite", METADATA, service="trainer", env=settings.env, clock=clock
    )
    registry = StateTable(
        *at,
        RegistryState,
        generation=lambda state: state[0],
        decode_state=wire.to_model_state,
        metrics=metrics,
        clock=clock,
    )
    monitoring = StateTable(
        *at,
        MonitoringState,
        generation=lambda state: state[0],
        decode_state=wire.to_watch,
        metrics=metrics,
        clock=clock,
    )
    blobs = Blobs(settings.blob_url, home / "blobs")
    features = FeatureStore(settings.feature_store_address, settings.snapshot_timeout)
    process = TrainingProcess(
        home / "runs", blobs, threads=settings.threads, kept=settings.runs_kept
    )
    states, ledger = States(registry, monitoring), Ledger(database)
    runner = Runner(
        states,
        ledger,
        features,
        process,
        wait_limit=settings.wait_limit,
        clock=clock,
        metrics=metrics,
    )
    trainer = Trainer(
        states,
        blobs,
        ledger,
        runner.progress,
        clock=clock,
        metrics=metrics,
        wake=lambda: runs.wake(),
    )
    policy, runs = (
        Reconciler(name, step, interval=CONSIDER_EVERY, metrics=metrics, clock=clock)
        for name, step in (("policy", trainer.consider_all), ("runs", runner.advance_all))
    )
    for table in (registry, monitoring):
        table.subscribe(policy.wake)
    api = GrpcServer(
        settings.grpc_address,
        [(add_TrainingServiceServicer_to_server, TrainingApi(trainer))],
        metrics=metrics,
        clock=clock,
    )
    parts: list[Part] = [
        MetricsServer(metrics, settings.metrics_address),
        database,
        TopicsAdmin(*at, clock=clock),
        OutboxRelay(settings.kafka_bootstrap, database, metrics=metrics, clock=clock),
        registry,
        monitoring,
        features,
        process,
        policy,
        runs,
        api,
    ]
    return Service("trainer", parts, drain_timeout=settings.drain_timeout)
