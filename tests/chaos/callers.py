"""Callers at work while programs are killed under them: by tensor, and by entity."""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc.aio
import numpy as np
import tritonclient.grpc.aio as triton
from tests.e2e.story import MODEL, START
from tritonclient.utils import InferenceServerException

from ciclo.cli.connection import Connection
from ciclo.client import Client

TENSOR_CALLERS, ENTITY_CALLERS = 4, 1
"""Each has one call in flight."""

PAUSE_S = 0.15
"""Between a caller's answer and its next question."""

HANDED_OVER_S = 0.1
"""An answer that a caller got so shortly before Envoy was killed may not have been written down."""

CHANNEL = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 200)]
"""Looks again soon: gRPC's own patience, seconds long, would be counted as Envoy's absence."""

TYPES = {"BYTES": np.object_, "FP32": np.float32, "INT64": np.int64}


@dataclass(frozen=True)
class Call:
    """One call: `id` is what the caller holds, empty without an answer; wall times in seconds."""

    caller: str
    id: str
    begun: float
    ended: float

    def is_in_flight(self, when: float) -> bool:
        return self.begun <= when <= self.ended + HANDED_OVER_S


@dataclass(frozen=True)
class Outage:
    """One caller's failures in a row, from the begin of the first to the next answer."""

    begun: float
    noticed: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


def outages(calls: Sequence[Call]) -> list[Outage]:
    """Returns every caller's outages; one that nothing ended lasts for ever."""
    found: list[Outage] = []
    for caller in {call.caller for call in calls}:
        first = None
        for call in (call for call in calls if call.caller == caller):
            if not call.id:
                first = first or call
            elif first:
                found.append(Outage(first.begun, first.ended, call.ended))
                first = None
        if first:
            found.append(Outage(first.begun, first.ended, math.inf))
    return found


def most_at_once(calls: Sequence[Call]) -> int:
    """Returns how many calls were in flight at one time."""
    steps = sorted([(c.begun, 1) for c in calls] + [(c.ended, -1) for c in calls])
    return int(np.max(np.cumsum([step for _, step in steps]), initial=0))


async def work(system: Connection, calls: list[Call]) -> None:
    """Asks until cancelled; every call that ended is in `calls`."""
    address = system.addresses["envoy"]
    async with (
        triton.InferenceServerClient(address, channel_args=CHANNEL) as by_tensor,
        Client(address) as by_entity,
    ):
        tensors = await _tensors(by_tensor)

        async def ask_by_tensor() -> str:
            own = str(uuid.uuid4())
            # In the time that the model lives in: before the first day that is played.
            headers = {"x-ciclo-event-time": START.isoformat()}
            await by_tensor.infer(
                MODEL, tensors, request_id=own, client_timeout=2.0, headers=headers
            )
            return own

        async def ask_by_entity() -> str:
            asked = {
                "renewal": [f"chaos-{uuid.uuid4()}"],
                "customer": ["c000"],
                "plan": ["free"],
                "price": [0.0],
            }
            time_us = int(START.timestamp()) * 1_000_000
            return (await by_entity.predict(MODEL, asked, event_time_us=time_us)).prediction_id

        async with asyncio.TaskGroup() as tasks:
            for number in range(TENSOR_CALLERS):
                tasks.create_task(_repeat(f"tensor {number}", ask_by_tensor, calls))
            for number in range(ENTITY_CALLERS):
                tasks.create_task(_repeat(f"entity {number}", ask_by_entity, calls))


async def _repeat(caller: str, ask: Callable[[], Awaitable[str]], calls: list[Call]) -> None:
    while True:
        begun = time.monotonic()
        try:
            held = await ask()
        except (InferenceServerException, grpc.aio.AioRpcError):
            held = ""
        calls.append(Call(caller, held, begun, time.monotonic()))
        await asyncio.sleep(PAUSE_S)


async def _tensors(client: triton.InferenceServerClient) -> list[triton.InferInput]:
    tensors = []
    for found in (await client.get_model_metadata(MODEL)).inputs:
        value = "x" if found.datatype == "BYTES" else 0
        asked = triton.InferInput(found.name, [1, 1], found.datatype)
        tensors.append(asked.set_data_from_numpy(np.full((1, 1), value, TYPES[found.datatype])))
    return tensors
