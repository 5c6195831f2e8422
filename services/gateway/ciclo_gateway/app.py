"""The composition root: the only place where the gateway's parts meet."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ciclo.serving.v1.prediction_service_pb2_grpc import add_PredictionServiceServicer_to_server
from ciclo_bundle.store import BlobFolders, BlobStore
from ciclo_gateway.adapters.blobs import BlobBundles, BlobLoops
from ciclo_gateway.adapters.calls import EnvoyInference, FeatureStore
from ciclo_gateway.adapters.envoy import EnvoyRoutes
from ciclo_gateway.adapters.envoy_admin import EnvoyAdmin
from ciclo_gateway.adapters.journal import SqliteJournal
from ciclo_gateway.adapters.label_book import SqliteLabelBook
from ciclo_gateway.adapters.predictions_topic import KafkaPredictionsTopic
from ciclo_gateway.adapters.registry_state import RegistryFollower
from ciclo_gateway.adapters.replay import KafkaReplay, SqliteShadowBook
from ciclo_gateway.adapters.shipping_ledger import SqliteShippingLedger
from ciclo_gateway.adapters.spool_files import SpoolFiles
from ciclo_gateway.adapters.tables import METADATA, UPGRADES
from ciclo_gateway.adapters.triton import TritonServer
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Placement
from ciclo_gateway.grpc_api import PredictionServicer
from ciclo_gateway.handlers import Handlers
from ciclo_gateway.loading import Loader
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.routes import Router, wanted_versions
from ciclo_gateway.settings import Settings
from ciclo_gateway.shadowing import ShadowWorker
from ciclo_gateway.shipping import Shipper, SpoolLimits
from ciclo_gateway.wire.events import PREDICTIONS_SERVED
from ciclo_gateway.write_failures import WriteFailures
from ciclo_runtime.clock import Clock, SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Part, Service
from ciclo_runtime.metrics import MetricsServer
from ciclo_runtime.outbox import OutboxRelay
from ciclo_runtime.reconcile import Reconciler
from ciclo_runtime.streams import StreamReader
from ciclo_runtime.topics_admin import TopicsAdmin

NAME = "gateway"
"""Of the service."""


@dataclass(frozen=True, slots=True)
class _Common:
    """What most parts need."""

    settings: Settings
    clock: Clock
    metrics: GatewayMetrics
    database: Database
    catalog: Catalog
    journal: SqliteJournal
    folders: BlobFolders
    admin: EnvoyAdmin


def build(settings: Settings) -> Service:
    """Returns the gateway; opens nothing."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each look at Envoy
    clock = SystemClock()
    metrics = GatewayMetrics()
    database = Database(
        settings.home / "gateway.sqlite",
        METADATA,
        service=NAME,
        env=settings.env,
        clock=clock,
        upgrades=UPGRADES,
    )
    common = _Common(
        settings=settings,
        clock=clock,
        metrics=metrics,
        database=database,
        catalog=Catalog(),
        journal=SqliteJournal(database),
        folders=BlobFolders(BlobStore(settings.blob_url), settings.home / "blobs"),
        admin=EnvoyAdmin(settings.envoy_admin),
    )
    serving = _triton(settings, Placement.SERVING, settings.triton_serving_address)
    shadow = _triton(settings, Placement.SHADOW, settings.triton_shadow_address)
    parts: list[Part] = [
        MetricsServer(metrics, settings.metrics_address),
        database,
        TopicsAdmin(settings.kafka_bootstrap, settings.env, clock=clock),
        OutboxRelay(settings.kafka_bootstrap, database, metrics=metrics, clock=clock),
        common.admin,
        serving,
        shadow,
        *_control(common, serving, shadow),
        *_shipping(common),
        _shadow_worker(common, shadow),
        *_serving(common),
    ]
    return Service(NAME, parts, drain_timeout=settings.drain_timeout)


def _triton(settings: Settings, placement: Placement, address: str) -> TritonServer:
    folder = settings.state_dir / "triton" / placement.value.lower()
    return TritonServer(
        placement,
        address,
        folder,
        max_rows=settings.max_rows,
        load_timeout=settings.load_timeout,
    )


def _control(common: _Common, *servers: TritonServer) -> list[Part]:
    """Returns a reconciler for each Triton and one for routes: a slow load delays no lease."""
    settings = common.settings
    envoy = EnvoyRoutes(settings.state_dir / "envoy", common.admin, common.clock)
    router = Router(
        common.catalog, envoy, common.journal, metrics=common.metrics, clock=common.clock
    )
    routing = _reconciler(common, "routes", router.step)
    bundles = BlobBundles(common.folders)
    loading = []
    for server in servers:
        loader = Loader(
            server,
            wanted_versions(common.catalog, server.placement),
            bundles,
            common.journal,
            common.catalog,
            tolerance=settings.parity_tolerance,
            on_change=routing.wake,
            metrics=common.metrics,
            clock=common.clock,
        )
        loading.append(_reconciler(common, f"load {server.placement.value}", loader.step))

    def wake() -> None:
        for reconciler in (*loading, routing):
            reconciler.wake()

    follower = RegistryFollower(
        settings.kafka_bootstrap,
        settings.env,
        common.journal,
        common.catalog,
        wake=wake,
        metrics=common.metrics,
        clock=common.clock,
    )
    return [follower, *loading, routing]


def _reconciler(common: _Common, name: str, step: Callable[[], Awaitable[None]]) -> Reconciler:
    return Reconciler(
        name,
        step,
        interval=common.settings.reconcile_interval,
        metrics=common.metrics,
        clock=common.clock,
    )


def _shipping(common: _Common) -> list[Part]:
    settings = common.settings
    topic = KafkaPredictionsTopic(settings.kafka_bootstrap, settings.env, NAME)
    spool = SpoolFiles(settings.state_dir / "spool", common.admin, common.clock)
    ledger = SqliteShippingLedger(common.database)
    failures = WriteFailures(spool, ledger, common.metrics)
    shipper = Shipper(
        spool,
        ledger,
        topic,
        common.catalog,
        limits=SpoolLimits(settings.spool_segment_bytes, settings.spool_total_bytes),
        poll_interval=settings.spool_poll_interval,
        metrics=common.metrics,
        clock=common.clock,
    )
    return [topic, shipper, _reconciler(common, "spool write failures", failures.step)]


def _shadow_worker(common: _Common, shadow: TritonServer) -> Part:
    settings = common.settings
    dead_letters = DeadLetters(common.database, metrics=common.metrics, clock=common.clock)
    reader = StreamReader(
        settings.kafka_bootstrap,
        settings.env,
        [PREDICTIONS_SERVED],
        dead_letters=dead_letters,
        metrics=common.metrics,
        clock=common.clock,
        max_records=20,  # a batch is worked off before the place is kept
    )
    return ShadowWorker(
        common.catalog,
        KafkaReplay(reader, settings.env),
        shadow,
        SqliteShadowBook(common.database),
        rows_per_second=settings.shadow_rows_per_second,
        chunk_rows=settings.shadow_chunk_rows,
        metrics=common.metrics,
        clock=common.clock,
    )


def _serving(common: _Common) -> list[Part]:
    settings = common.settings
    features = FeatureStore(settings.feature_store_address)
    envoy = EnvoyInference(settings.envoy_address)
    handlers = Handlers(
        common.catalog,
        BlobLoops(common.folders),
        features,
        envoy,
        SqliteLabelBook(common.database),
        metrics=common.metrics,
        clock=common.clock,
    )
    server = GrpcServer(
        settings.grpc_address,
        [(add_PredictionServiceServicer_to_server, PredictionServicer(handlers))],
        metrics=common.metrics,
        clock=common.clock,
    )
    return [features, envoy, server]
