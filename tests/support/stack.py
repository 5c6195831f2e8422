"""The local stack for tests: real Kafka, Triton and Envoy, started once, by what `ciclo up` calls.

Nothing starts until a test asks for it. Import the fixtures into a `conftest.py`, or name this
module in `pytest_plugins`; then there is one stack a session.
"""

import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ciclo_local import processes
from ciclo_local import stack as local
from ciclo_local.ports import BLOCK, address
from ciclo_local.programs import service_environment
from ciclo_local.settings import Settings
from ciclo_local.supervisor import Supervisor

FIRST_BASE, LAST_BASE = 27600, 32000
"""Where test stacks lie: away from the default, and below the ephemeral ports."""


@dataclass(frozen=True)
class LocalStack:
    """A stack of its own for tests: its folder is temporary, its ports were free."""

    settings: Settings

    @property
    def state(self) -> Path:
        return self.settings.state

    def start(self, *names: str) -> None:
        """Returns when the named programs are ready; does nothing for those that are."""
        local.up(self.settings, names)

    def stop(self, *names: str) -> None:
        local.stop(self.settings, names)

    def pid(self, name: str) -> int:
        """Returns the pid of a program; 0 if it does not run."""
        return Supervisor(self.settings).states()[name].pid

    def kill(self, name: str) -> int:
        """Kills a program as the kernel would; supervisord starts it again. Returns its old pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def environment(self, service: str) -> dict[str, str]:
        """Returns what `ciclo up` would tell a service."""
        return service_environment(self.settings, service)


@contextmanager
def free_base() -> Iterator[int]:
    """Yields a base port whose whole block is free, and keeps it from other test runs meanwhile."""
    for base in range(FIRST_BASE, LAST_BASE, BLOCK):
        with (Path(tempfile.gettempdir()) / f"ciclo-test-{base}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if all(processes.port_is_free(port) for port in range(base, base + BLOCK)):
                yield base
                return
    pytest.fail(f"no {BLOCK} free ports between {FIRST_BASE} and {LAST_BASE}")


@contextmanager
def temporary_stack(state: Path) -> Iterator[LocalStack]:
    """Yields a stack in `state`, nothing started; takes it down in the end."""
    with free_base() as base:
        settings = Settings(state.resolve(), environment="test", base_port=base)
        try:
            yield LocalStack(settings)
        finally:
            local.down(settings)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with temporary_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


def _started(names: Iterable[str], where: Callable[[LocalStack], str]) -> Callable[..., str]:
    @pytest.fixture(scope="session")
    def fixture(stack: LocalStack) -> str:
        stack.start(*names)
        return where(stack)

    return fixture


kafka_bootstrap = _started(["kafka"], lambda s: address(s.settings.ports.kafka))
triton_serving = _started(["triton-serving"], lambda s: address(s.settings.ports.triton_serving))
triton_shadow = _started(["triton-shadow"], lambda s: address(s.settings.ports.triton_shadow))
envoy_address = _started(["triton-serving", "envoy"], lambda s: address(s.settings.ports.envoy))
