"""The composition root: the only place where the feature store's parts meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from google.protobuf.message import Message

from ciclo.features.v1.feature_service_pb2_grpc import add_FeatureServiceServicer_to_server
from ciclo.topics import EVENTS
from ciclo_bundle.store import BlobStore
from ciclo_feature_store import wire
from ciclo_feature_store.adapters import state
from ciclo_feature_store.adapters.blobs import Signatures, SnapshotStore
from ciclo_feature_store.adapters.delta import Tables
from ciclo_feature_store.adapters.feature_sink import FeatureSink
from ciclo_feature_store.adapters.history import DeltaHistory
from ciclo_feature_store.adapters.history_sink import HistorySink
from ciclo_feature_store.adapters.loops import LoopCatalog
from ciclo_feature_store.adapters.offline_process import OfflineProcess
from ciclo_feature_store.adapters.recording import Recording, Sink
from ciclo_feature_store.adapters.restoration import Restoration
from ciclo_feature_store.adapters.writer import Writer
from ciclo_feature_store.domain.definitions import LoopState
from ciclo_feature_store.domain.online import OnlineStore
from ciclo_feature_store.grpc_api import FeatureServicer
from ciclo_feature_store.handlers import Handlers
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_feature_store.settings import Settings
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Part, Service
from ciclo_runtime.metrics import MetricsServer, ServiceMetrics
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.reconcile import Reconciler
from ciclo_runtime.state_table import StateTable
from ciclo_runtime.streams import follow
from ciclo_runtime.topics_admin import TopicsAdmin

LOOPS_INTERVAL = timedelta(seconds=30)
"""Longest time between two looks at the loops in force; a change is looked at at once."""

BATCHES_AT_ONCE = 100
"""Records handled between two turns of the event loop: online reads wait for no more than these."""


@dataclass(frozen=True)
class _Ground:
    """What most parts stand on."""

    settings: Settings
    clock: SystemClock
    metrics: ServiceMetrics
    own_metrics: FeatureStoreMetrics
    database: Database
    dead_letters: DeadLetters
    writer: Writer
    tables: Tables


def build(settings: Settings) -> Service:
    """Returns the service; nothing is opened before it starts."""
    ground = _ground(settings)
    clock, metrics, database = ground.clock, ground.metrics, ground.database
    bootstrap, rows_per_entity = settings.kafka_bootstrap, settings.online_rows_per_entity
    blobs = BlobStore(settings.blob_url)
    offline = _offline(ground)
    states = _loop_states(ground)
    loops = LoopCatalog(states, blobs, offline, settings.home / "loops", clock)
    online = OnlineStore(rows_per_entity)
    feature_sink = FeatureSink(online, ground.tables, loops.view_rules, ground.own_metrics)
    history_sink = HistorySink(ground.tables, Signatures(blobs).find, ground.own_metrics)
    recordings = [
        _recording(ground, "features", wire.FEATURE_EVENTS, feature_sink),
        _recording(ground, "history", wire.HISTORY_EVENTS, history_sink),
    ]
    datasets = SnapshotStore(blobs, database, settings.home / "cuts", clock)
    history = _history(ground, recordings)
    tables = str(settings.tables.absolute())
    servicer = FeatureServicer(Handlers(online, loops, history, offline, datasets, tables=tables))
    parts: list[Part] = [
        MetricsServer(metrics, settings.metrics_address),
        offline,
        database,
        TopicsAdmin(bootstrap, settings.env, clock=clock),
        OutboxRelay(bootstrap, database, metrics=metrics, clock=clock),
        datasets,
        states,
        loops,
        _loop_reader(ground, states, loops),
        ground.writer,
        Restoration(online, ground.tables, database, ground.writer, rows_per_entity),
        *recordings,
        _server(ground, servicer),
    ]
    return Service("feature-store", parts, drain_timeout=settings.drain_timeout)


def _ground(settings: Settings) -> _Ground:
    clock = SystemClock()
    metrics = ServiceMetrics("feature-store")
    path = settings.home / "feature-store.sqlite"
    database = Database(
        path, state.METADATA, service="feature-store", env=settings.env, clock=clock
    )
    return _Ground(
        settings,
        clock,
        metrics,
        FeatureStoreMetrics(metrics),
        database,
        DeadLetters(database, metrics=metrics, clock=clock),
        Writer(),
        Tables(settings.tables, compact_after=settings.compact_after_commits),
    )


def _offline(ground: _Ground) -> OfflineProcess:
    return OfflineProcess(
        ground.own_metrics,
        ground.clock,
        at_start=ground.settings.offline_at_start,
        limit=ground.settings.offline_time_limit,
    )


def _loop_states(ground: _Ground) -> StateTable[LoopState]:
    return StateTable(
        ground.settings.kafka_bootstrap,
        ground.settings.env,
        wire.STATE_EVENT,
        generation=lambda loop_state: loop_state.generation,
        decode_state=wire.loop_state,
        metrics=ground.metrics,
        clock=ground.clock,
    )


def _loop_reader(ground: _Ground, states: StateTable[LoopState], loops: LoopCatalog) -> Reconciler:
    reader = Reconciler(
        "loops", loops.step, interval=LOOPS_INTERVAL, metrics=ground.metrics, clock=ground.clock
    )
    states.subscribe(reader.wake)
    return reader


def _recording(ground: _Ground, name: str, types: Sequence[type[Message]], sink: Sink) -> Recording:
    settings = ground.settings
    topics = sorted({EVENTS[kind.DESCRIPTOR.name].name(settings.env) for kind in types})
    return Recording(
        name,
        topics,
        types,
        partial(
            follow,
            settings.kafka_bootstrap,
            topics,
            clock=ground.clock,
            metrics=ground.metrics,
            max_records=BATCHES_AT_ONCE,
        ),
        sink,
        database=ground.database,
        writer=ground.writer,
        dead_letters=ground.dead_letters,
        metrics=ground.own_metrics,
        clock=ground.clock,
        flush_interval=settings.flush_interval,
        flush_rows=settings.flush_rows,
    )


def _history(ground: _Ground, recordings: Sequence[Recording]) -> DeltaHistory:
    return DeltaHistory(
        ground.tables,
        ground.writer,
        recordings,
        ground.settings.kafka_bootstrap,
        metrics=ground.own_metrics,
        catch_up_timeout=ground.settings.catch_up_timeout,
    )


def _server(ground: _Ground, servicer: FeatureServicer) -> GrpcServer:
    return GrpcServer(
        ground.settings.grpc_address,
        [(add_FeatureServiceServicer_to_server, servicer)],
        metrics=ground.metrics,
        clock=ground.clock,
    )
