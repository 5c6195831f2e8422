"""Every metric that the gateway has beside those of all services."""

from prometheus_client import Gauge, Histogram

from ciclo_runtime.metrics import DURATION_BUCKETS, ServiceMetrics


class GatewayMetrics(ServiceMetrics):
    """What the gateway shows to Prometheus."""

    def __init__(self) -> None:
        super().__init__("gateway")
        counter, name, registry = self._counter, self.prefix, self.registry
        self.answers_shipped = counter("answers_shipped", "Captured answers published")
        self.answers_lost = counter(
            "answers_lost",
            "Answers that will never be captured: SPOOL_FULL, TORN_RECORD, UNREADABLE_RECORD",
            "reason",
        )
        self.shipping_retries = counter("shipping_retries", "Waits for Kafka or the disk")
        self.spool_bytes = Gauge(f"{name}_spool_bytes", "Size of the spool", registry=registry)
        self.unshipped_bytes = Gauge(
            f"{name}_spool_unshipped_bytes", "Captured and not published yet", registry=registry
        )
        self.predicted_rows = counter("predicted_rows", "Rows predicted by entity", "model")
        self.fallback_rows = counter(
            "fallback_rows", "Values of features that were missing or too old", "model"
        )
        self.labels_accepted = counter("labels_accepted", "Labels stored", "model")
        self.loads = counter(
            "loads", "Loads ended; outcome: loaded, put_off, quarantined", "placement", "outcome"
        )
        self.load_seconds = Histogram(
            f"{name}_load_seconds",
            "Time from the beginning of a load to its last parity answer",
            ["placement"],
            registry=registry,
            buckets=(*DURATION_BUCKETS, 30.0, 60.0),
        )
        self.route_updates = counter(
            "route_updates", "Routing tables published; outcome: applied, refused", "outcome"
        )
        self.leases_expired = counter("leases_expired", "Canaries that were not renewed in time")
        self.shadow_rows = counter("shadow_rows", "Rows asked again", "model")
        self.shadow_failures = counter("shadow_failures", "Requests that could not be asked again")
