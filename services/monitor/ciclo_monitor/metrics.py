"""Every metric that the monitor emits besides those that all services have."""

from prometheus_client import Counter, Gauge

from ciclo_runtime.metrics import ServiceMetrics


class MonitorMetrics(ServiceMetrics):
    """The monitor's registry."""

    def __init__(self) -> None:
        super().__init__("monitor")
        self.rows = self._rows("rows_folded", "Rows taken in, by kind: served, shadow, label")
        self.rejected = Counter(
            f"{self.prefix}_rows_rejected_total",
            "Rows of a message that were refused, by reason",
            ["model", "reason"],
            registry=self.registry,
        )
        self.evidence = self._gauge(
            "evidence_ratio", "Evidence over its threshold, by test: performance, drift", "test"
        )
        self.loss = self._gauge(
            "loss_nats", "Mean loss of the champion in the newest block that was tested", "version"
        )
        self.rows_kept = self._gauge("rows_kept", "Rows that wait for labels or challengers")
        self.captured = self._gauge("captured_ratio", "Share of the answers that was captured")
        self.episode_open = self._gauge("episode_open_bool", "1 while an episode is open")

    def _rows(self, name: str, help_text: str) -> Counter:
        return Counter(
            f"{self.prefix}_{name}_total", help_text, ["model", "kind"], registry=self.registry
        )

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"{self.prefix}_{name}", help_text, ["model", *labels], registry=self.registry)
