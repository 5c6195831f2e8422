"""Killed at named moments, the loop still closes: exactly one version a cycle, nobody left behind.

One played story; each moment comes from the recorded events, each kill is SIGKILL.
"""

import asyncio
import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tests.e2e.conftest import System
from tests.e2e.story import LEAST_DAYS, MODEL, MORE_DAYS, MOST_DAYS, is_under_way
from typer.testing import CliRunner

from ciclo.cli import app
from ciclo.events.v1.rollout_judged_pb2 import STAGE_CANARY
from ciclo.history import RecordedEvent, read_events
from ciclo.registry.v1 import registry_service_pb2 as registry
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

PAUSE_S = 4.0
"""Between two kills of one moment: a program has come back, the next is hit while it catches up."""

SHADOW_LIMIT = "at_most: 20d"
"""What the loop that `ciclo init` writes allows."""

DATA_PLANE = ("envoy", "triton-serving")
"""Without these nobody can answer by tensor; without anything else everybody can."""

LONGEST_OUTAGE_S = 5.0
"""By tensor, while Envoy or Triton itself is down."""


@dataclass
class Moment:
    """When what is killed."""

    name: str
    programs: tuple[str, ...]
    is_due: object
    is_over: bool = False


@dataclass
class Chaos:
    """What was killed, and what callers by tensor saw."""

    kills: list[tuple[float, str]] = field(default_factory=list)
    calls: list[tuple[float, bool]] = field(default_factory=list)
    events: list[RecordedEvent] = field(default_factory=list)
    player: str = ""

    def outages(self) -> list[tuple[float, float]]:
        """Returns the spans in which calls failed: first failure, next success."""
        spans, begun = [], None
        for when, answered in self.calls:
            if not answered and begun is None:
                begun = when
            elif answered and begun is not None:
                spans.append((begun, when))
                begun = None
        return spans


def kill(system: System, chaos: Chaos, program: str) -> None:
    pid = json.loads((system.state / "run" / f"{program}.json").read_text())["pid"]
    chaos.kills.append((time.monotonic(), program))
    os.kill(pid, signal.SIGKILL)


def named(events: list[RecordedEvent], name: str, test=lambda _: True) -> bool:
    return any(event.name == name and test(event.message) for event in events)


def in_second_epoch(system: System) -> bool:
    runs = system.state / "trainer" / "runs"
    # The first run is the bootstrap; a checkpoint of the second says that an epoch is over.
    return len(list(runs.glob("*/checkpoint.safetensors"))) >= 2


def moments(system: System) -> list[Moment]:
    return [
        Moment(
            "episode open",
            ("monitor", "feature-store"),
            lambda events: named(events, "PerformanceDegraded"),
        ),
        Moment("second epoch", ("trainer",), lambda _: in_second_epoch(system)),
        Moment(
            "registered, not loaded",
            ("registry", "gateway", "triton-shadow"),
            lambda events: named(events, "VersionRegistered", lambda m: m.version.version == 2),
        ),
        Moment(
            "in canary",
            ("kafka", "registry", "monitor", "gateway", "envoy", "triton-serving"),
            lambda events: named(events, "RolloutAdvanced", lambda m: m.to_stage == STAGE_CANARY),
        ),
    ]


async def strike(system: System, chaos: Chaos, plan: list[Moment]) -> None:
    connection = system.connection
    while not all(moment.is_over for moment in plan):
        await asyncio.sleep(0.3)
        try:
            events = await read_events(connection.addresses["kafka"], connection.env)
        except Exception:  # noqa: BLE001 -- Kafka itself was just killed
            continue
        mine = [event for event in events if event.envelope.subject == MODEL]
        for moment in plan:
            if not moment.is_over and moment.is_due(mine):
                moment.is_over = True
                for program in moment.programs:
                    kill(system, chaos, program)
                    await asyncio.sleep(PAUSE_S)


async def ask_by_tensor(system: System, chaos: Chaos) -> None:
    types = {"BYTES": np.object_, "FP32": np.float32, "INT64": np.int64}
    async with triton.InferenceServerClient(system.connection.addresses["envoy"]) as client:
        metadata = await client.get_model_metadata(MODEL)
        tensors = [
            triton.InferInput(found.name, [1, 1], found.datatype).set_data_from_numpy(
                np.zeros((1, 1), types[found.datatype]).astype(types[found.datatype])
                if found.datatype != "BYTES"
                else np.array([["x"]], np.object_)
            )
            for found in metadata.inputs
        ]
        while True:
            try:
                # In the time that the model lives in: before the first day that is played.
                headers = {"x-ciclo-event-time": "2024-01-01T00:00:00Z"}
                await client.infer(MODEL, tensors, client_timeout=2.0, headers=headers)
                answered = True
            except triton.InferenceServerException:
                answered = False
            chaos.calls.append((time.monotonic(), answered))
            await asyncio.sleep(0.1)


async def play(system: System, script: Path, first_day: int, days: int) -> str:
    """Plays on whatever fails: while services are down, callers by entity are refused."""
    process = await asyncio.create_subprocess_exec(
        *("python", str(script), "play", "--first-day", str(first_day), "--days", str(days)),
        *("--state", str(system.state)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"},
    )
    said, _ = await process.communicate()
    return said.decode()


def under_way(stub: RegistryServiceStub) -> bool:
    try:
        return is_under_way(stub)
    except grpc.RpcError:
        return True  # the registry itself was just killed


@pytest.fixture(scope="module")
async def chaos(system: System, tmp_path_factory) -> Chaos:
    folder = tmp_path_factory.mktemp("loops") / MODEL
    script, found = folder / "play.py", Chaos()
    assert CliRunner().invoke(app, ["init", str(folder)]).exit_code == 0
    # At a day a second an outage of seconds is many days: a policy in days must allow for it.
    loop = (folder / "loop.yaml").read_text()
    assert SHADOW_LIMIT in loop
    (folder / "loop.yaml").write_text(loop.replace(SHADOW_LIMIT, "at_most: 80d"))
    await asyncio.to_thread(system.ciclo, "apply", str(folder))
    await asyncio.to_thread(system.python, str(script), "history")
    await asyncio.to_thread(system.ciclo, "train", MODEL, "--as-of", "2024-01-01")
    found.player = await play(system, script, 0, 2)
    plan = moments(system)
    helpers = [
        asyncio.create_task(ask_by_tensor(system, found)),
        asyncio.create_task(strike(system, found, plan)),
    ]
    day = 2
    with system.channel("registry") as channel:
        stub = RegistryServiceStub(channel)
        while day < MOST_DAYS + 20:
            days = LEAST_DAYS - day if day < LEAST_DAYS else MORE_DAYS
            found.player += await play(system, script, day, days)
            day += days
            await asyncio.sleep(5.0)
            if helpers[1].done() and not under_way(stub):
                break
    for helper in helpers:
        helper.cancel()
    ended = await asyncio.gather(*helpers, return_exceptions=True)
    assert [e for e in ended if not isinstance(e, asyncio.CancelledError | None)] == []
    connection = system.connection
    events = await read_events(connection.addresses["kafka"], connection.env)
    found.events = [event for event in events if event.envelope.subject == MODEL]
    assert [m.name for m in plan if not m.is_over] == [], "these moments never came"
    return found


async def test_the_loop_closed_all_the_same(chaos: Chaos, system: System):
    with system.channel("registry") as channel:
        state = RegistryServiceStub(channel).GetModel(registry.GetModelRequest(model=MODEL)).state
    assert state.champion.version == 2
    assert named(chaos.events, "RolloutCompleted")


async def test_each_cycle_has_exactly_one_version(chaos: Chaos):
    registered = [e.envelope.correlation_id for e in chaos.events if e.name == "VersionRegistered"]
    assert len(registered) == len(set(registered)) == 2
    trained = [e.envelope.correlation_id for e in chaos.events if e.name == "TrainingCompleted"]
    assert sorted(trained) == sorted(registered)


async def test_no_event_was_told_twice(chaos: Chaos):
    for name in ("PerformanceDegraded", "TrainingStarted", "RolloutStarted", "ModelPromoted"):
        ids = [event.envelope.id for event in chaos.events if event.name == name]
        by_cycle = [event.envelope.correlation_id for event in chaos.events if event.name == name]
        assert len(set(by_cycle)) == len(set(ids)), name


async def test_by_tensor_fails_only_while_envoy_or_triton_is_down(chaos: Chaos):
    assert len(chaos.calls) > 200
    down = [when for when, program in chaos.kills if program in DATA_PLANE]
    for begun, ended in chaos.outages():
        assert any(when <= begun < when + LONGEST_OUTAGE_S for when in down), (begun, chaos.kills)
        assert ended - begun < LONGEST_OUTAGE_S


async def test_nothing_answered_is_unaccounted_for(chaos: Chaos):
    assert not named(chaos.events, "PredictionsLost")
    rows = [int(n) for n in re.findall(r"(\d+) rows answered", chaos.player)]
    assert sum(rows) > 0
