"""What the gateway makes of a Triton that is late, says no, or knows nothing of a model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.integration.gateway import bundles
from tests.support.stack import LocalStack
from tritonclient.grpc import service_pb2_grpc

from ciclo.errors import Retry
from ciclo_gateway.adapters.triton import TritonServer
from ciclo_gateway.domain.desired import Placement
from ciclo_gateway.ports.control import ServerSlow


class Late(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Stands for a Triton that is at it for ever, and refuses to take anything away."""

    async def RepositoryModelLoad(self, request: Any, context: Any) -> None:  # noqa: N802
        await asyncio.Event().wait()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> None:  # noqa: N802
        await context.abort(grpc.StatusCode.INTERNAL, "it is busy")


@asynccontextmanager
async def connected(address: str, folder: Path) -> AsyncIterator[TritonServer]:
    server = TritonServer(
        Placement.SHADOW, address, folder, max_rows=100, load_timeout=timedelta(milliseconds=200)
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def late(tmp_path: Path) -> AsyncIterator[TritonServer]:
    grpc_server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Late(), grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    async with connected(f"127.0.0.1:{port}", tmp_path) as server:
        yield server
    await grpc_server.stop(0)


async def test_a_load_that_takes_too_long_is_not_a_failed_one(
    late: TritonServer, tmp_path: Path
) -> None:
    bundle = bundles.write(tmp_path / "bundle", 0.0)
    with pytest.raises(ServerSlow, match=r"load of m \[1\]"):
        await late.load("m", {1: bundle})


async def test_what_may_still_be_held_keeps_its_files(late: TritonServer, tmp_path: Path) -> None:
    graph = tmp_path / "models" / "m" / "1" / "model.onnx"
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"of a version that answers")
    with pytest.raises(Retry, match="unload of m: INTERNAL it is busy"):
        await late.unload("m")
    assert graph.exists()


async def test_a_model_that_triton_never_held_can_be_taken_away(
    stack: LocalStack, triton_shadow: str
) -> None:
    folder = stack.state / "triton" / "shadow"
    left = folder / "models" / "never-held" / "1"
    left.mkdir(parents=True)
    async with connected(triton_shadow, folder) as server:
        await server.unload("never-held")
    assert not left.exists()
