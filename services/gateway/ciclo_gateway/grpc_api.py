"""`PredictionService` over gRPC: decode, call, encode. Errors are mapped by the runtime."""

from typing import Any

from ciclo.serving.v1.prediction_service_pb2_grpc import PredictionServiceServicer
from ciclo_gateway.handlers import Handlers
from ciclo_gateway.wire import service


class PredictionServicer(PredictionServiceServicer):
    """Answers applications, behind Envoy.

    Args:
        handlers: The use cases.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def Predict(self, request: Any, context: Any) -> Any:
        """Predicts for rows named by their entities."""
        found = await self._handlers.predict(
            request.model,
            service.columns_of(request),
            service.event_time_us(request),
            request.client_id,
        )
        return service.predict_response(
            found.answered,
            fingerprint=found.fingerprint,
            fallback_rows=found.fallback_rows,
            client_id=request.client_id,
        )

    async def ReportLabels(self, request: Any, context: Any) -> Any:
        """Reports the truth about rows."""
        labels = service.truths_of(request)
        accepted = await self._handlers.report_labels(request.model, labels, request.request_id)
        return service.labels_response(accepted)
