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
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from tests.chaos.callers import Call, most_at_once, outages, work
from tests.e2e.conftest import System
from tests.e2e.story import LEAST_DAYS, MODEL, MORE_DAYS, MOST_DAYS, is_under_way
from tests.support.captured import Captured, captured
from tests.support.eventually import eventually
from typer.testing import CliRunner

from ciclo.cli import app
from ciclo.cli.telling import told
from ciclo.events.v1.rollout_judged_pb2 import STAGE_CANARY
from ciclo.history import RecordedEvent, read_events
from ciclo.registry.v1 import registry_service_pb2 as registry
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub

PAUSE_S = 4.0
"""Between two kills of one moment: a program has come back, the next is hit while it catches up."""

LAST_DAY = MOST_DAYS + 50
"""At a day a second a cycle that is tried again takes weeks; without one nothing waits for this."""

SHADOW_LIMIT = "at_most: 20d"
"""What the loop that `ciclo init` writes allows."""

DATA_PLANE = ("envoy", "triton-serving")
"""Without these nobody can answer by tensor; without anything else everybody can."""

LONGEST_OUTAGE_S = 5.0
"""By tensor, while Envoy or Triton itself is down."""

SETBACKS = ("TrainingFailed", "GatesEvaluated", "RolloutRolledBack", "VersionQuarantined")
"""Where the reason is told."""

ROWS_A_REQUEST = 20
"""Of the player that `ciclo init` writes; it has one request in flight."""


@dataclass
class Moment:
    """When what is killed."""

    name: str
    programs: tuple[str, ...]
    is_due: object
    is_over: bool = False


@dataclass
class Chaos:
    """What was killed, what callers saw meanwhile, and what was recorded."""

    kills: list[tuple[float, str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    events: list[RecordedEvent] = field(default_factory=list)
    player: str = ""

    def killed(self, *programs: str) -> list[float]:
        """Returns when some programs were killed."""
        return [when for when, program in self.kills if program in programs]

    def by_tensor(self) -> list[Call]:
        return [call for call in self.calls if call.caller.startswith("tensor")]


def kill(system: System, chaos: Chaos, program: str) -> None:
    pid = json.loads((system.state / "run" / f"{program}.json").read_text())["pid"]
    chaos.kills.append((time.monotonic(), program))
    os.kill(pid, signal.SIGKILL)


def named(events: list[RecordedEvent], name: str, test=lambda _: True) -> bool:
    return any(event.name == name and test(event.message) for event in events)


def setbacks(chaos: Chaos) -> list[str]:
    """Returns why a cycle was tried again, or did not come to its end."""
    return [f"{e.name} {told(e.message)}" for e in chaos.events if e.name in SETBACKS]


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
        asyncio.create_task(work(system.connection, found.calls)),
        asyncio.create_task(strike(system, found, plan)),
    ]
    day = 2
    with system.channel("registry") as channel:
        stub = RegistryServiceStub(channel)
        while day < LAST_DAY:
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
    assert [m.name for m in plan if not m.is_over] == [], setbacks(found)
    return found


async def test_the_loop_closed_all_the_same(chaos: Chaos, system: System):
    with system.channel("registry") as channel:
        state = RegistryServiceStub(channel).GetModel(registry.GetModelRequest(model=MODEL)).state
    assert state.champion.version == 2, setbacks(chaos)
    assert named(chaos.events, "RolloutCompleted")


async def test_each_cycle_has_exactly_one_version(chaos: Chaos):
    registered = [e.envelope.correlation_id for e in chaos.events if e.name == "VersionRegistered"]
    assert len(registered) == len(set(registered)) == 2, setbacks(chaos)
    trained = {e.envelope.correlation_id for e in chaos.events if e.name == "TrainingCompleted"}
    assert trained == set(registered)


async def test_no_event_was_told_twice_but_in_the_same_words(chaos: Chaos):
    for name in ("PerformanceDegraded", "TrainingStarted", "RolloutStarted", "ModelPromoted"):
        said = [event for event in chaos.events if event.name == name]
        by_id = {event.envelope.id: event for event in said}
        # What was sent and not yet marked as sent is sent again: one id, the same bytes.
        assert all(by_id[e.envelope.id].message == e.message for e in said), name
        assert len({e.envelope.correlation_id for e in said}) == len(by_id) > 0, name


async def test_by_tensor_fails_only_while_envoy_or_triton_is_down(chaos: Chaos):
    calls = chaos.by_tensor()
    assert len(calls) > 1_000
    assert most_at_once(calls) > 1
    for outage in outages(calls):
        assert any(
            outage.begun - LONGEST_OUTAGE_S < when <= outage.noticed
            for when in chaos.killed(*DATA_PLANE)
        ), (outage, chaos.kills)
        assert outage.seconds < LONGEST_OUTAGE_S


@pytest.fixture(scope="module")
async def at_rest(chaos: Chaos, system: System) -> Captured:
    """What there is of all answers once nothing is on its way any more."""
    seen: list[Captured] = []

    async def is_quiet() -> None:
        seen.append(await captured(system.connection, MODEL))
        assert seen[-1].kafka.keys() == seen[-1].delta.keys(), "in Kafka and at rest differ"
        assert seen[-2:-1] == seen[-1:], "there is still something coming"

    await eventually(is_quiet, timedelta(seconds=60))
    return seen[-1]


async def test_every_answer_that_a_caller_holds_is_told_and_at_rest_once_or_counted_lost(
    chaos: Chaos, at_rest: Captured
):
    # Envoy writes an answer down as the call ends: what it was killed over may be in neither.
    in_flight = [c for c in chaos.calls if any(map(c.is_in_flight, chaos.killed("envoy")))]
    held = {call.id for call in chaos.calls if call.id} - {call.id for call in in_flight}
    unaccounted = [name for name in held if (at_rest.kafka[name], at_rest.delta[name]) != (1, 1)]
    assert at_rest.lost <= len(in_flight)
    assert len(unaccounted) <= at_rest.lost, unaccounted
    assert set(at_rest.kafka.values()) == {1}, "an answer was published twice"
    assert len(held) > 1_000


async def test_every_row_that_the_player_got_is_at_rest(chaos: Chaos, at_rest: Captured):
    got = sum(int(rows) for rows in re.findall(r"(\d+) rows answered, ", chaos.player))
    calls = {call.id for call in chaos.calls}
    rows = sum(n for name, n in at_rest.delta.items() if n == ROWS_A_REQUEST and name not in calls)
    assert got > 0
    assert got - rows <= ROWS_A_REQUEST * len(chaos.killed("envoy"))
