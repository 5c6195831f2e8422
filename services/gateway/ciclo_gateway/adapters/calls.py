"""What the gateway asks others: features of the feature-store, answers of a model through Envoy."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

import grpc
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2_grpc

from ciclo.errors import Retry
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub
from ciclo_gateway.domain.questions import MAX_KEY_BYTES, Columns, Features
from ciclo_gateway.ports.serving import Answered
from ciclo_gateway.wire import inference, service
from ciclo_runtime.grpc_client import connect
from ciclo_runtime.grpc_errors import from_rpc_error

DEADLINE: Final = timedelta(seconds=5)
"""Of each question; a caller by entity waits for two."""

_LOOKUP = "ciclo.features.v1.FeatureService/GetOnlineFeatures"
_PLAIN = "._:/@-|"  # of a key: what needs no escape


class FeatureStore:
    """Implements `ports.FeatureSource`.

    Args:
        address: gRPC, `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        """Connects with the first call."""
        self._channel = connect(self._address, deadline=DEADLINE, idempotent=[_LOOKUP])

    async def stop(self) -> None:
        """Closes the connection."""
        if self._channel:
            await self._channel.close()

    async def features(self, service_name: str, entities: Columns, as_of_us: int) -> Features:
        """Returns what was known at a time. Raises `NotFound`, `Reject`, `Retry`."""
        if self._channel is None:
            raise Retry("the feature-store is asked before start()")
        stub: Any = FeatureServiceStub(self._channel)
        request = service.features_request(service_name, entities, as_of_us)
        return service.features_of(await stub.GetOnlineFeatures(request))


class EnvoyInference:
    """Implements `ports.Inference`: the gateway calls as any caller by tensor does.

    Args:
        address: Envoy's client port, `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        """Connects with the first call."""
        # Not `connect`: what it returns has no metadata, and there Envoy names the version.
        options = [("grpc.max_reconnect_backoff_ms", 1_000)]
        self._channel = grpc.aio.insecure_channel(self._address, options=options)

    async def stop(self) -> None:
        """Closes the connection."""
        if self._channel:
            await self._channel.close()

    async def infer(
        self,
        model: str,
        values: Mapping[str, NDArray[Any]],
        *,
        client_id: str,
        key: str,
        event_time_us: int,
    ) -> Answered:
        """Asks whichever version is due. Raises `NotFound`, `Reject`, `Retry`."""
        if self._channel is None:
            raise Retry("Envoy is asked before start()")
        tensors = [inference.pack(name, column) for name, column in values.items()]
        request = inference.infer_request(model, None, tensors, client_id)
        metadata = [("x-ciclo-event-time", str(event_time_us))]
        if key:
            metadata.append(("x-ciclo-key", quote(key, safe=_PLAIN)[:MAX_KEY_BYTES]))
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        call = stub.ModelInfer(request, metadata=metadata, timeout=DEADLINE.total_seconds())
        try:
            said = {name: str(value) for name, value in await call.initial_metadata() or ()}
            answer = await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        outputs = inference.read_response(answer)
        return Answered(
            outputs={tensor.type.name: inference.unpack(tensor) for tensor in outputs},
            prediction_id=said.get("x-ciclo-id", ""),
            version=int(said.get("x-ciclo-version", "0")),
            variant=said.get("x-ciclo-variant", ""),
        )
