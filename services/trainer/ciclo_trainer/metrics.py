"""Every metric that the trainer emits besides those that all services have."""

from prometheus_client import Counter, Gauge, Histogram

from ciclo_runtime.metrics import ServiceMetrics

RUN_BUCKETS = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0)
"""Seconds: from a small network to the largest run that a loop's `limits.time` allows here."""


class TrainerMetrics(ServiceMetrics):
    """The trainer's registry."""

    def __init__(self) -> None:
        super().__init__("trainer")
        self.runs = Counter(
            f"{self.prefix}_runs_total",
            "Runs that ended, by outcome: succeeded, failed",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.runs_under_way = Gauge(
            f"{self.prefix}_runs_under_way", "Runs that have not ended", registry=self.registry
        )
        self.run_duration = Histogram(
            f"{self.prefix}_run_seconds",
            "Time from the start of a run to its end, waiting included",
            ["model"],
            registry=self.registry,
            buckets=RUN_BUCKETS,
        )
        self.skips = Counter(
            f"{self.prefix}_skips_total",
            "Episodes that did not start a run, by reason",
            ["model", "reason"],
            registry=self.registry,
        )
