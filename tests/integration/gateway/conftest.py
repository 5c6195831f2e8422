"""One stack with Kafka, both Tritons and Envoy, and one gateway in it, for all tests here."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.gateway.world import Caller, Gateway, World
from tests.support.stack import LocalStack, stack  # noqa: F401 -- a fixture


@pytest_asyncio.fixture(scope="session")
async def world(
    stack: LocalStack,  # noqa: F811 -- the fixture above
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    stack.start("kafka", "triton-serving", "triton-shadow", "envoy")
    folder = tmp_path_factory.mktemp("gateway")
    gateway = Gateway(stack, folder / "gateway.log")
    await gateway.start()
    try:
        yield World(stack, folder, gateway)
    finally:
        gateway.stop()


@pytest_asyncio.fixture
async def caller(world: World) -> AsyncIterator[Caller]:
    caller = Caller(world.envoy)
    yield caller
    await caller.close()
