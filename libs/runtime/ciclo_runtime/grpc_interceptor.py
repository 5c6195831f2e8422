"""Around every RPC of a service: errors become status, calls are counted, bugs get an id."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import DecodeError

from ciclo.errors import CicloError, Fatal, Reject
from ciclo_runtime import grpc_errors
from ciclo_runtime.clock import Clock
from ciclo_runtime.metrics import ServiceMetrics

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    # Generic for the type checker alone.
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps methods that are coroutines (one answer) or async generators (a stream of answers).

    Args:
        metrics: Counts calls by method and status.
        clock: Measures them.
        on_fatal: Told of a `Fatal`, so that the service can stop.
    """

    def __init__(
        self, *, metrics: ServiceMetrics, clock: Clock, on_fatal: Callable[[Fatal], None]
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._on_fatal = on_fatal

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Called by gRPC for each call."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        # Health and reflection are gRPC's own; watching health is a call that lasts for ever.
        if handler is None or method.startswith("/grpc."):
            return handler
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behavior = self._streaming(method, handler.stream_stream or handler.unary_stream)
        else:
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            behavior = self._single(method, handler.stream_unary or handler.unary_unary)
        parse = _or_refusal(handler.request_deserializer)
        wrapped: Handler = make(behavior, parse, handler.response_serializer)
        return wrapped

    def _single(self, method: str, inner: Any) -> Any:
        async def answer(request: Any, context: "Context") -> Any:
            started = self._clock.monotonic()
            try:
                _require_readable(request)
                response = await inner(request, context)
            except Exception as error:  # noqa: BLE001 -- becomes a status, below
                await self._fail(method, started, error, context)
            else:
                self._count(method, started, context.code() or grpc.StatusCode.OK)
                return response

        return answer

    def _streaming(self, method: str, inner: Any) -> Any:
        async def answers(request: Any, context: "Context") -> AsyncIterator[Any]:
            started = self._clock.monotonic()
            try:
                _require_readable(request)
                async for response in inner(request, context):
                    yield response
            except Exception as error:  # noqa: BLE001 -- becomes a status, below
                await self._fail(method, started, error, context)
            else:
                self._count(method, started, context.code() or grpc.StatusCode.OK)

        return answers

    async def _fail(
        self, method: str, started: float, error: Exception, context: "Context"
    ) -> None:
        if isinstance(error, grpc.aio.AbortError):
            self._count(method, started, context.code())
            raise error
        if isinstance(error, CicloError):
            code, status = grpc_errors.status_code(error), grpc_errors.to_status(error)
            _log.info("rpc_refused", method=method, code=code.name, error=repr(error))
        else:
            error_id = str(uuid4())
            code, status = grpc.StatusCode.INTERNAL, grpc_errors.unexpected_status(error_id)
            _log.error("rpc_failed", method=method, error_id=error_id, exc_info=error)
        if isinstance(error, Fatal):
            self._on_fatal(error)
        self._count(method, started, code)
        details = ((grpc_errors.DETAILS_KEY, status.SerializeToString()),)
        await context.abort(code, status.message, details)

    def _count(self, method: str, started: float, code: Any) -> None:
        # A context tells a code that was set by hand as a number.
        name = code.name if isinstance(code, grpc.StatusCode) else _NAMES.get(code, str(code))
        self._metrics.grpc_requests.labels(method, name).inc()
        self._metrics.grpc_handling.labels(method).observe(self._clock.monotonic() - started)


_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def _or_refusal(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Returns a parser that hands out what is wrong: gRPC answers UNKNOWN where one raises."""

    def read(content: bytes) -> Any:
        try:
            return parse(content) if parse else content
        except DecodeError as error:
            return Reject(f"the request is not the message of this call: {error}", field="request")

    return read


def _require_readable(request: Any) -> None:
    if isinstance(request, Reject):
        raise request
