"""A whole system: all nine programs, driven by commands as a user would, nothing reached into."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tests.support.stack import temporary_stack

from ciclo.cli.connection import Connection, connect


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
