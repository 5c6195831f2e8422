"""What callers ask of the gateway itself: predictions by entity, and to take labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ciclo.errors import Reject
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain import event_times, questions
from ciclo_gateway.domain.labels import Truth, require_labels
from ciclo_gateway.domain.questions import Columns
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.serving import Answered, FeatureSource, Inference, LabelBook, Loops
from ciclo_runtime.clock import Clock

MICROSECONDS = 1_000_000
"""In a second."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a caller by entity gets.

    Attributes:
        answered: By the model.
        fingerprint: Digest of the features' values.
        fallback_rows: By feature: rows in which it was missing or too old.
    """

    answered: Answered
    fingerprint: str
    fallback_rows: Mapping[str, int]


class Handlers:
    """The use cases behind `PredictionService`.

    Args:
        catalog: Which models there are, and what they take.
        loops: What requests must carry.
        features: The feature-store.
        inference: The way to the models.
        labels: Where labels are stored.
        metrics: Counts.
        clock: Dates requests that have no event time, and refuses times far ahead.
    """

    def __init__(
        self,
        catalog: Catalog,
        loops: Loops,
        features: FeatureSource,
        inference: Inference,
        labels: LabelBook,
        *,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._loops = loops
        self._features = features
        self._inference = inference
        self._labels = labels
        self._metrics = metrics
        self._clock = clock

    async def predict(
        self, model: str, columns: Columns, event_time_us: int | None, client_id: str
    ) -> Prediction:
        """Looks the features of some rows up, and asks the model.

        Args:
            model: Its name.
            columns: What the loop declares as entities and request.
            event_time_us: Of the request; None: now.
            client_id: The caller's own.

        Raises:
            NotFound: The model, or a version that serves.
            BadColumns: A column is missing, unknown, of another type or length.
            FeaturesDiffer: The feature-store does not give what the model takes.
            Reject: The event time lies far ahead, or before 1970.
            Retry: Features or model are away.
        """
        desired = self._catalog.require_model(model)
        signature = self._catalog.require_signature(model)
        contract = await self._loops.contract(desired.loop_digest)
        rows = questions.require_columns(columns, contract)
        event_time_us = self._event_time_us(event_time_us)
        known = await self._features.features(
            contract.feature_service,
            {name: columns[name] for name in contract.entities},
            event_time_us - contract.knowledge_lag_us,
        )
        question = questions.ask(signature, columns, known, contract, event_time_us)
        answered = await self._inference.infer(
            model,
            question.values,
            client_id=client_id,
            key=questions.routing_key(columns, contract),
            event_time_us=event_time_us,
        )
        self._metrics.predicted_rows.labels(model).inc(rows)
        self._metrics.fallback_rows.labels(model).inc(sum(question.fallback_rows.values()))
        return Prediction(answered, question.fingerprint, question.fallback_rows)

    async def report_labels(self, model: str, labels: Sequence[Truth], request_id: str) -> int:
        """Stores labels before it returns; they are published from there.

        Returns:
            How many were stored, now or by an earlier report of the same id.

        Raises:
            NotFound: The model.
            BadLabel: With the first label that is wrong; none is stored.
            Retry: The database is away.
        """
        self._catalog.require_model(model)
        require_labels(labels, self._now_us())
        stored = await self._labels.store(model, request_id, labels)
        if stored.is_new:
            self._metrics.labels_accepted.labels(model).inc(stored.labels)
        return stored.labels

    def _event_time_us(self, given: int | None) -> int:
        """Returns a request's event time; now for one that has none."""
        now_us = self._now_us()
        problem = event_times.problem_of(given or 0, now_us)
        if problem:
            raise Reject(f"event_time {problem}", field="event_time")
        return now_us if given is None else given

    def _now_us(self) -> int:
        return int(self._clock.now().timestamp() * MICROSECONDS)
