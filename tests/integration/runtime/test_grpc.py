"""A server and a client of ours on loopback: errors, deadlines, retries, health, size."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ciclo.errors import CicloError, Conflict, Fatal, NotFound, Reject, Retry
from ciclo.training.v1 import training_service_pb2_grpc as training_grpc
from ciclo.training.v1.training_service_pb2 import GetRunRequest, GetRunResponse
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.grpc_client import connect
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Service
from ciclo_runtime.metrics import ServiceMetrics

NAME = "ciclo.training.v1.TrainingService"


class Runs(training_grpc.TrainingServiceServicer):
    """Answers by the id that is asked for."""

    def __init__(self) -> None:
        self.failures_left = 0

    async def GetRun(  # noqa: N802 -- gRPC's name
        self, request: GetRunRequest, context: Any
    ) -> GetRunResponse:
        match request.run_id:
            case "missing":
                raise NotFound("no run 'missing'", field="run_id", metadata={"known": "3"})
            case "taken":
                raise Conflict("it runs already", reason="RUNNING")
            case "bug":
                raise ZeroDivisionError("a secret of ours")
            case "slow":
                await asyncio.sleep(60)
            case "broken":
                raise Fatal("the disk is gone")
            case "flaky" if self.failures_left:
                self.failures_left -= 1
                raise Retry("a moment")
        return GetRunResponse()


def stub_of(channel: grpc.aio.Channel) -> Any:
    """The generated stub; its types know of blocking channels alone."""
    return cast("Any", training_grpc.TrainingServiceStub)(channel)


class Scene:
    def __init__(self) -> None:
        self.runs = Runs()  # type: ignore[abstract]  # the tests need one method
        self.metrics = ServiceMetrics("trainer")
        self.server = GrpcServer(
            "127.0.0.1:0",
            [(training_grpc.add_TrainingServiceServicer_to_server, self.runs)],
            metrics=self.metrics,
            clock=SystemClock(),
            max_message_bytes=10_000,
        )
        self.service = Service("trainer", [self.server])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    async with made.service:
        yield made


@pytest.fixture
async def stub(scene: Scene) -> AsyncIterator[Any]:
    async with connect(scene.address, idempotent=[f"{NAME}/GetRun"]) as channel:
        yield stub_of(channel)


@pytest.mark.parametrize(
    ("run_id", "kind", "reason", "field"),
    [
        ("missing", NotFound, "NOT_FOUND", "run_id"),
        ("taken", Conflict, "RUNNING", None),
        ("x" * 20_000, Retry, "RESOURCE_EXHAUSTED", None),
    ],
)
async def test_an_error_raised_there_is_raised_here(
    stub: Any,
    run_id: str,
    kind: type[CicloError],
    reason: str,
    field: str | None,
) -> None:
    with pytest.raises(kind) as caught:
        await stub.GetRun(GetRunRequest(run_id=run_id))

    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize("garbage", [b"\xff\xff", b"\x0a\x05ab"])
async def test_a_request_that_is_no_message_is_an_invalid_argument(
    scene: Scene, garbage: bytes
) -> None:
    async with grpc.aio.insecure_channel(scene.address) as channel:
        call = channel.unary_unary(f"/{NAME}/GetRun")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(garbage)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not the message of this call" in (caught.value.details() or "")


async def test_a_bug_stays_inside_and_is_counted(stub: Any, scene: Scene) -> None:
    with pytest.raises(Retry) as caught:
        await stub.GetRun(GetRunRequest(run_id="bug"))

    assert "secret" not in str(caught.value)
    assert caught.value.metadata["error_id"] in caught.value.message
    counted = scene.metrics.registry.get_sample_value(
        "ciclo_trainer_grpc_requests_total", {"method": f"/{NAME}/GetRun", "code": "INTERNAL"}
    )
    assert counted == 1


async def test_a_call_that_may_be_repeated_outlives_a_short_absence(
    stub: Any, scene: Scene
) -> None:
    scene.runs.failures_left = 2

    assert await stub.GetRun(GetRunRequest(run_id="flaky")) == GetRunResponse()


async def test_a_call_that_may_not_be_repeated_is_not(scene: Scene) -> None:
    scene.runs.failures_left = 1
    async with connect(scene.address) as channel:
        with pytest.raises(Retry, match="a moment"):
            await stub_of(channel).GetRun(GetRunRequest(run_id="flaky"))


async def test_a_call_without_a_deadline_gets_one(scene: Scene) -> None:
    async with connect(scene.address, deadline=timedelta(milliseconds=100)) as channel:
        with pytest.raises(Retry) as caught:
            await stub_of(channel).GetRun(GetRunRequest(run_id="slow"))

    assert caught.value.reason == "DEADLINE_EXCEEDED"


async def test_fatal_in_a_servicer_stops_the_service() -> None:
    scene = Scene()
    running = asyncio.create_task(scene.service.run(asyncio.Event()))
    async with asyncio.timeout(10):
        while not scene.server.port:  # noqa: ASYNC110 -- the port is known once it listens
            await asyncio.sleep(0.01)
        async with connect(scene.address) as channel:
            with pytest.raises(Retry):
                await stub_of(channel).GetRun(GetRunRequest(run_id="broken"))
        with pytest.raises(Fatal, match="disk is gone"):
            await running


async def test_health_says_serving_only_between_start_and_drain(scene: Scene) -> None:
    ask = health_pb2.HealthCheckRequest(service=NAME)
    async with connect(scene.address) as channel:
        health = cast("Any", health_pb2_grpc.HealthStub(channel))
        before = await health.Check(ask)
        await scene.server.set_serving(is_serving=False)
        after = await health.Check(ask)

    assert before.status == health_pb2.HealthCheckResponse.SERVING
    assert after.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_names_the_services(scene: Scene) -> None:
    async with connect(scene.address) as channel:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = cast("Any", reflection_pb2_grpc.ServerReflectionStub)(
            channel
        ).ServerReflectionInfo(iter([ask]))
        names = {one.name async for a in answers for one in a.list_services_response.service}

    assert {NAME, "grpc.health.v1.Health"} <= names


async def test_a_port_that_is_taken_is_fatal(scene: Scene) -> None:
    second = GrpcServer(scene.address, [], metrics=ServiceMetrics("b"), clock=SystemClock())

    with pytest.raises(Fatal, match="cannot listen"):
        await second.start()


async def test_what_the_table_does_not_know_is_the_callers_fault_or_not() -> None:
    async with connect("127.0.0.1:1", deadline=timedelta(seconds=2)) as channel:
        with pytest.raises(Retry) as caught:
            await stub_of(channel).GetRun(GetRunRequest())

    assert caught.value.reason == "UNAVAILABLE"
    assert not isinstance(caught.value, Reject)
