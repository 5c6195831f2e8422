"""How a service calls another: with a deadline, safe retries, and Ciclo's errors."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import grpc

from ciclo_runtime.grpc_errors import from_rpc_error
from ciclo_runtime.grpc_server import MAX_MESSAGE_BYTES

DEADLINE = timedelta(seconds=5)
"""Of a call with one answer that names none."""

_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def connect(
    address: str,
    *,
    deadline: timedelta = DEADLINE,
    idempotent: Sequence[str] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """Returns a channel for generated stubs; it connects with the first call. Close it at the end.

    Calls with one request and one answer raise `Retry`, `Reject`, `NotFound` or `Conflict`.
    Streams raise gRPC's own errors: use `grpc_errors.from_rpc_error`.

    Args:
        address: `host:port`.
        deadline: Of calls with one answer that name none, retries included.
        idempotent: `package.Service` or `package.Service/Method`: may be repeated if the callee was
            unavailable.
        max_message_bytes: Greatest message, both ways.
    """
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.service_config", _service_config(idempotent)),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # After a restart of the callee gRPC would wait up to two minutes before it reconnects.
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
        interceptors=[_Caller(deadline)],
    )


class _Caller(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, deadline: timedelta) -> None:
        self._seconds = deadline.total_seconds()

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        given = client_call_details
        details = grpc.aio.ClientCallDetails(
            method=given.method,
            timeout=self._seconds if given.timeout is None else given.timeout,
            metadata=given.metadata,
            credentials=given.credentials,
            wait_for_ready=given.wait_for_ready,
        )
        try:
            call = await continuation(details, request)
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


def _service_config(idempotent: Sequence[str]) -> str:
    names = []
    for name in idempotent:
        service, _, method = name.partition("/")
        names.append({"service": service, "method": method} if method else {"service": service})
    if not names:
        return "{}"
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRY_POLICY}]})
