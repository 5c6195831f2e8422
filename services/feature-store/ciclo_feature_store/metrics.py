"""Every metric that only the feature store has, with unit and meaning."""

from prometheus_client import Counter, Gauge, Histogram

from ciclo_runtime.metrics import DURATION_BUCKETS, ServiceMetrics

VISIBILITY_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
"""Seconds: from a poll that was waiting to a topic that is read after an outage."""

TASK_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: from an audit of few rows to the largest dataset."""


class FeatureStoreMetrics:
    """Metrics of ingestion, tables and the offline process.

    Args:
        common: Gives registry and prefix.
    """

    def __init__(self, common: ServiceMetrics) -> None:
        self._common = common
        self.feature_rows = self._counter(
            "feature_rows",
            "Feature rows taken; outcome: new, or superseded by what is there",
            "view",
            "outcome",
        )
        self.visibility = self._histogram(
            "feature_visibility_seconds",
            "Wall time from Kafka's timestamp of a batch until it can be read online",
            VISIBILITY_BUCKETS,
        )
        self.watermark = self._gauge(
            "view_watermark_timestamp_seconds",
            "Event time up to which a view is known, in seconds since the epoch",
            "view",
        )
        self.history_rows = self._counter(
            "history_rows",
            "Rows committed to tables; table: features, predictions, labels, observations",
            "table",
        )
        self.duplicates = self._counter(
            "history_duplicates",
            "Batches and chunks not stored again",
            "table",
        )
        self.labels_refused = self._counter(
            "labels_refused", "Labels not finite, or of no possible row"
        )
        self.flush = self._histogram(
            "flush_seconds", "Time to commit what a stream brought", DURATION_BUCKETS, "stream"
        )
        self.unflushed = self._gauge("unflushed_rows", "Rows taken, not committed yet", "stream")
        self.offline_tasks = self._histogram(
            "offline_task_seconds",
            "Time of a task in the offline process, its waiting included",
            TASK_BUCKETS,
            "kind",
            "outcome",
        )

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        name = f"{self._common.prefix}_{name}_total"
        return Counter(name, words, labels, registry=self._common.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        name = f"{self._common.prefix}_{name}"
        return Gauge(name, words, labels, registry=self._common.registry)

    def _histogram(
        self, name: str, words: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        name = f"{self._common.prefix}_{name}"
        return Histogram(name, words, labels, registry=self._common.registry, buckets=buckets)
