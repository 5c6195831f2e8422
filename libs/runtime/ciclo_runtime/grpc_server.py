"""The gRPC side of a service: its servicers, health, reflection, errors and metrics on one port."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ciclo.errors import Fatal
from ciclo_runtime.clock import Clock
from ciclo_runtime.grpc_interceptor import ErrorInterceptor
from ciclo_runtime.metrics import ServiceMetrics

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Greatest request and response, unless a service says otherwise."""

GRACE = timedelta(seconds=10)
"""How long calls in flight may go on once the server stops."""

Servicing = tuple[Callable[[Any, Any], None], object]
"""A generated `add_…Servicer_to_server` and the servicer."""

_Health = health_pb2.HealthCheckResponse


class GrpcServer:
    """A part that answers RPCs. Health is NOT_SERVING until the whole service has started.

    Servicers raise Ciclo's errors; see `grpc_errors` for what callers get. A `Fatal` also stops
    the service.

    Args:
        address: `host:port`; port 0 takes any free one, see `port`.
        servicers: What is served.
        metrics: Counts calls.
        clock: Measures them.
        max_message_bytes: Greatest message, both ways.
    """

    def __init__(
        self,
        address: str,
        servicers: Sequence[Servicing],
        *,
        metrics: ServiceMetrics,
        clock: Clock,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.port = int(address.rpartition(":")[2])
        self._address = address
        self._servicers = servicers
        self._metrics = metrics
        self._clock = clock
        self._max_message_bytes = max_message_bytes
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []
        self._server: grpc.aio.Server | None = None
        self._fatal: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Listens.

        Raises:
            Fatal: The port is taken.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        server = grpc.aio.server(
            interceptors=[
                ErrorInterceptor(metrics=self._metrics, clock=self._clock, on_fatal=self._die)
            ],
            options=[
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", self._max_message_bytes),
                ("grpc.so_reuseport", 0),  # a second process on the port must fail, not share it
                # Clients of ours ping every 30 s; gRPC's default would take that for an attack.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        names = _Recorder(server)
        for add, servicer in self._servicers:
            add(servicer, names)
        self._names = ["", *names.services]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            [*names.services, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
        await self.set_serving(is_serving=False)
        try:
            self.port = server.add_insecure_port(self._address)
            await server.start()
        except RuntimeError as error:
            raise Fatal(f"gRPC cannot listen on {self._address}: {error}", reason="PORT") from error
        self._server = server

    async def stop(self) -> None:
        """Refuses new calls, waits up to `GRACE` for those in flight."""
        if self._server:
            await self._server.stop(GRACE.total_seconds())
            self._server = None

    async def wait(self) -> None:
        """Raises the `Fatal` that a servicer raised."""
        assert self._fatal, "wait() before start()"
        await asyncio.shield(self._fatal)

    async def set_serving(self, is_serving: bool) -> None:
        """Answers health checks of the server and of each of its services."""
        status = _Health.SERVING if is_serving else _Health.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    def _die(self, error: Fatal) -> None:
        if self._fatal and not self._fatal.done():
            self._fatal.set_exception(error)


class _Recorder:
    """Stands before the server while servicers are added, to learn their services' names."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.services: list[str] = []
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.ServiceRpcHandler]) -> None:
        self.services += [handler.service_name() for handler in handlers]
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service, handlers)
