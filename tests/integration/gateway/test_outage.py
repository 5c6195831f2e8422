"""Triton dies while callers have calls in flight: who fails, for how long, and what is recorded."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest_asyncio
import tritonclient.grpc.aio as triton
from tests.integration.gateway.world import SOON, World, first_model
from tests.support.eventually import eventually
from tritonclient.utils import InferenceServerException

from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed

_log = logging.getLogger(__name__)

CALLERS = 6
IN_FLIGHT = 8
"""Calls that each of them has under way at any time."""

BACK_OFF_SECONDS = 0.25
"""Of a caller that failed: refused at once, it would otherwise take the processor that Triton needs
to come back."""

DOWN_AT_MOST_SECONDS = 5.0
"""With one model, on a machine of one's own; where others compete for it, by so much longer."""

NOTICED_WITHIN_SECONDS = 1.0
"""Of Triton's return: until no call fails any more."""

ANSWERS = 1_000
"""That callers must have before Triton is killed, and again after it came back."""


@dataclass
class Load:
    """Programs that know `tritonclient` alone and call as fast as they are answered.

    Attributes:
        ended: Of each call by its own id: when it ended, and what went wrong or None. Seconds.
    """

    address: str
    ended: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    is_over: bool = False

    async def run(self) -> None:
        """Calls until it is told to stop."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                tasks.create_task(self._caller(f"caller-{number}"))

    def answered(self, since: float = 0.0) -> int:
        return sum(error is None and at > since for at, error in self.ended.values())

    def failed(self) -> dict[str, float]:
        return {name: at for name, (at, error) in self.ended.items() if error is not None}

    async def _caller(self, name: str) -> None:
        async with (
            triton.InferenceServerClient(self.address) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for lane in range(IN_FLIGHT):
                tasks.create_task(self._lane(client, f"{name}-{lane}"))

    async def _lane(self, client: Any, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            error = None
            try:
                await client.infer(
                    "first", question(number), request_id=f"{name}-{number}", client_timeout=10.0
                )
            except InferenceServerException as failure:
                error = str(failure)
            self.ended[f"{name}-{number}"] = time.monotonic(), error
            if error is not None:
                await asyncio.sleep(BACK_OFF_SECONDS)


def question(number: int) -> list[Any]:
    columns = {
        "flight": ("BYTES", np.array([[f"F{number}"]], dtype=object)),
        "origin": ("BYTES", np.array([["EWR"]], dtype=object)),
        "distance": ("FP32", np.array([[number % 3000]], dtype=np.float32)),
        "temp": ("FP32", np.array([[20.0]], dtype=np.float32)),
    }
    tensors = []
    for name, (datatype, values) in columns.items():
        tensor = triton.InferInput(name, [1, 1], datatype)
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    return tensors


@pytest_asyncio.fixture
async def load(world: World) -> AsyncIterator[Load]:
    await first_model(world)
    await only_first(world)
    load = Load(world.envoy)
    task = asyncio.create_task(load.run())
    yield load
    load.is_over = True
    await task


async def held(world: World) -> set[str]:
    """Returns which models can be asked, as Triton itself says; a new connection each time."""
    port = world.stack.settings.ports.triton_serving
    async with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        try:
            index = await client.get_model_repository_index(client_timeout=2.0)
        except InferenceServerException as error:
            raise AssertionError(error.message()) from error
    return {model.name for model in index.models if model.state == "READY"}


async def only_first(world: World) -> None:
    """Takes away what other tests brought: Triton starts all that it held before it answers."""
    for model in set(world.generations) - {"first"}:
        await world.want(model, None, {})

    async def assertion() -> None:
        assert await held(world) == {"first"}

    await eventually(assertion, SOON)


async def back_at(world: World) -> float:
    """Returns when the model can be asked again. Seconds."""

    async def assertion() -> None:
        assert "first" in await held(world)

    await eventually(assertion, SOON)
    return time.monotonic()


async def recorded(world: World) -> dict[str, list[int]]:
    """Returns the gRPC status of each answer in the topic, by the caller's own id."""
    found: dict[str, list[int]] = {}
    for _, batch in await world.heard(PredictionsServed, "first"):
        if batch.purpose == PURPOSE_SERVED:
            for client_id, status in zip(batch.client_ids, batch.status_codes, strict=True):
                found.setdefault(client_id, []).append(status)
    return found


async def test_calls_fail_only_while_a_killed_triton_is_down_and_each_is_recorded(
    world: World, load: Load
) -> None:
    async def busy(since: float = 0.0) -> None:
        assert load.answered(since) >= ANSWERS

    await eventually(busy, SOON)
    killed_at = time.monotonic()
    world.stack.kill("triton-serving")

    async def failing() -> None:
        assert load.failed()

    await eventually(failing, timedelta(seconds=5))
    back = asyncio.create_task(back_at(world))
    await eventually(lambda: busy(max(load.failed().values())), SOON)
    load.is_over = True

    async def each_once() -> None:
        found = await recorded(world)
        # Few names rather than two dicts of thousands, of which a difference is shown for minutes.
        otherwise = [name for name in load.ended if len(found.get(name, ())) != 1]
        assert otherwise[:5] == []

    await eventually(each_once, SOON)
    found = await recorded(world)
    wrongly_recorded = {
        name: (error, found[name][0])
        for name, (_, error) in load.ended.items()
        if (error is None) != (found[name][0] == 0)
    }
    assert list(wrongly_recorded.items())[:5] == []
    failed_at = load.failed().values()
    first, last = min(failed_at) - killed_at, max(failed_at) - killed_at
    ready = await back - killed_at
    said = (
        f"{load.answered()} answered, {len(failed_at)} failed from {first:.2f} s to {last:.2f} s "
        f"after the kill, Triton was ready after {ready:.2f} s"
    )
    _log.info(said)
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert first >= 0, said
    assert last < ready + NOTICED_WITHIN_SECONDS * crowd, said
    assert last < DOWN_AT_MOST_SECONDS * crowd, said
