"""What several suites of the gateway's unit tests share."""

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.unit.gateway.fakes import memory
from tests.unit.gateway.plane import Plane


@pytest_asyncio.fixture
async def plane() -> AsyncIterator[Plane]:
    database = memory()
    await database.start()
    yield Plane(database)
    await database.stop()
