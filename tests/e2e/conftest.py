"""A whole system: all nine programs, driven by commands as a user would, nothing reached into."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tests.e2e.story import LEAST_DAYS, MODEL, MORE_DAYS, MOST_DAYS, Told, is_under_way
from tests.support.captured import UNKNOWN_MODEL
from tests.support.stack import temporary_stack
from typer.testing import CliRunner

from ciclo.cli import app
from ciclo.cli.connection import Connection, connect
from ciclo.history import read_events
from ciclo.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from ciclo.topics import CONTROL_TOPICS, PREDICTIONS


@dataclass(frozen=True)
class System:
    """A running system in a folder of its own."""

    state: Path

    @property
    def connection(self) -> Connection:
        return connect(self.state)

    def channel(self, service: str) -> grpc.Channel:
        return grpc.insecure_channel(self.connection.addresses[service])

    def ciclo(self, *arguments: str) -> str:
        """Runs a command to its end and returns what it printed."""
        return self.python("-m", "ciclo.cli", *arguments)

    def python(self, *arguments: str, within_s: float = 240.0) -> str:
        """Runs a program on this system; it must end well."""
        ended = subprocess.run(
            [sys.executable, *arguments, "--state", str(self.state)],
            capture_output=True,
            text=True,
            timeout=within_s,
        )
        said = (
            f"{' '.join(arguments)} ended with {ended.returncode}: {ended.stderr or ended.stdout}"
        )
        assert ended.returncode == 0, said
        return ended.stdout

    def problems(self) -> list[str]:
        """Returns what services logged as errors of their own."""
        return [
            line
            for log in sorted((self.state / "log").glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if line.startswith("{") and _is_ours_and_wrong(json.loads(line))
        ]


def _is_ours_and_wrong(entry: dict[str, object]) -> bool:
    # Clients of Kafka log errors while its topics are being made, and try again.
    return entry.get("level") in ("error", "critical") and str(entry.get("logger")).startswith(
        "ciclo"
    )


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with temporary_stack(tmp_path_factory.mktemp("system")) as stack:
        stack.start()
        yield System(stack.state)


@pytest.fixture(scope="session")
def stub(system: System):
    with system.channel("registry") as channel:
        yield RegistryServiceStub(channel)


@pytest.fixture(scope="session")
async def told(system: System, stub: RegistryServiceStub, tmp_path_factory) -> Told:
    """Does what the loop's README says, word by word."""
    folder = tmp_path_factory.mktemp("loops") / MODEL
    play = str(folder / "play.py")
    assert CliRunner().invoke(app, ["init", str(folder)]).exit_code == 0
    await asyncio.to_thread(system.ciclo, "apply", str(folder))
    await asyncio.to_thread(system.python, play, "history")
    await asyncio.to_thread(system.ciclo, "train", MODEL, "--as-of", "2024-01-01")
    said = await asyncio.to_thread(_play, system, play, 0, LEAST_DAYS)
    days = LEAST_DAYS
    while days < MOST_DAYS and is_under_way(stub):
        said += await asyncio.to_thread(_play, system, play, days, MORE_DAYS)
        days += MORE_DAYS
    connection = system.connection
    topics = (*CONTROL_TOPICS, PREDICTIONS)
    events = await read_events(connection.addresses["kafka"], connection.env, topics)
    mine = [event for event in events if event.envelope.subject in (MODEL, UNKNOWN_MODEL)]
    return Told(said, days, mine)


def _play(system: System, play: str, first_day: int, days: int) -> str:
    return system.python(play, "play", "--first-day", str(first_day), "--days", str(days))
