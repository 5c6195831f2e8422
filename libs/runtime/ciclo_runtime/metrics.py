"""The numbers that every service shows to Prometheus, and the server that shows them.

A service passes `ServiceMetrics.registry` to metrics of its own; nothing is registered globally.
"""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

if TYPE_CHECKING:
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from one SQLite transaction to a call that has used up its deadline."""


class ServiceMetrics:
    """One service's registry and the metrics that all services have.

    Args:
        service: The service's name; `feature-store` becomes `ciclo_feature_store_…`.
    """

    def __init__(self, service: str) -> None:
        self.prefix = f"ciclo_{service.replace('-', '_')}"
        self.registry = CollectorRegistry()

        self.events_handled = self._counter(
            "events_handled",
            "Events taken from Kafka; outcome: done, duplicate, skipped, retried, failed, rejected",
            "type",
            "outcome",
        )
        self.event_handling = self._histogram(
            "event_handling_seconds", "Time to handle an event, its transaction included", "type"
        )
        self.dead_letters = self._counter(
            "dead_letters", "Messages put on the dead-letter topic", "topic", "reason"
        )
        self.outbox_backlog = Gauge(
            f"{self.prefix}_outbox_backlog_messages",
            "Events committed but not yet acknowledged by Kafka",
            registry=self.registry,
        )
        self.consumer_lag = Gauge(
            f"{self.prefix}_consumer_lag_messages",
            "Messages of a topic that this service has yet to read",
            ["topic"],
            registry=self.registry,
        )
        self.grpc_requests = self._counter(
            "grpc_requests", "gRPC calls answered, by method and status code", "method", "code"
        )
        self.grpc_handling = self._histogram(
            "grpc_handling_seconds", "Time to answer a gRPC call", "method"
        )
        self.reconcile_steps = self._counter(
            "reconcile_steps",
            "Reconciliation steps; outcome: done, retried, failed",
            "name",
            "outcome",
        )

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"{self.prefix}_{name}_total", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, *labels: str) -> Histogram:
        return Histogram(
            f"{self.prefix}_{name}",
            help_text,
            labels,
            registry=self.registry,
            buckets=DURATION_BUCKETS,
        )


class MetricsServer:
    """A part that answers `GET /metrics` while the service lives.

    Args:
        metrics: What to show.
        address: `host:port`; port 0 takes any free one, see `port`.
    """

    def __init__(self, metrics: ServiceMetrics, address: str) -> None:
        self._registry = metrics.registry
        self._host, _, port = address.rpartition(":")
        self.port = int(port)
        self._running: tuple[WSGIServer, Thread] | None = None

    async def start(self) -> None:
        """Listens. Raises `OSError` if the port is taken."""
        server, thread = start_http_server(self.port, self._host, self._registry)
        self.port = server.server_port
        self._running = (server, thread)

    async def stop(self) -> None:
        """Closes the port."""
        if self._running:
            server, thread = self._running
            self._running = None
            server.shutdown()
            server.server_close()
            thread.join()
