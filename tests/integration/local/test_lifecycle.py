"""Up, down, and everything that may die in between; by the code that `ciclo up` calls."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.integration.local.conftest import (
    INFRASTRUCTURE,
)
from tests.support.stack import LocalStack, temporary_stack

from ciclo_local import doctor, health, kafka_jars, processes
from ciclo_local import stack as local
from ciclo_local.errors import BadSetting, PortInUse, ProgramFailed, SettingsChanged, StackBusy
from ciclo_local.programs import catalogue
from ciclo_local.settings import Settings, load
from ciclo_local.supervisor import DAEMON, connect, socket_path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[LocalStack]:
    with temporary_stack(tmp_path / "state") as made:
        yield made


def alive(settings: Settings) -> list[psutil.Process]:
    """Every process that carries the stack's mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            mark = process.environ().get(processes.MARK)
            if mark == str(settings.state) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def assert_nothing_is_left(settings: Settings) -> None:
    assert alive(settings) == []
    assert not settings.run.exists()
    assert not socket_path(settings).exists()
    assert list(Path("/dev/shm").glob(f"ciclo_{settings.digest}_*")) == []
    for program in catalogue(settings).values():
        assert all(processes.port_is_free(port) for port in program.ports), program.name


def test_up_on_a_running_stack_changes_nothing(running: LocalStack) -> None:
    before = {name: running.pid(name) for name in INFRASTRUCTURE}

    running.start(*INFRASTRUCTURE)

    assert {name: running.pid(name) for name in INFRASTRUCTURE} == before


def test_the_fixtures_of_other_suites_name_where_the_stack_listens(
    stack: LocalStack,
    kafka_bootstrap: str,
    triton_serving: str,
    triton_shadow: str,
    envoy_address: str,
) -> None:
    told = stack.environment("gateway")

    assert kafka_bootstrap == told["CICLO_KAFKA_BOOTSTRAP"]
    assert triton_serving == told["CICLO_TRITON_SERVING_ADDRESS"]
    assert triton_shadow == told["CICLO_TRITON_SHADOW_ADDRESS"]
    assert envoy_address == told["CICLO_ENVOY_ADDRESS"]
    assert all(one.is_ready for one in health.status(stack.settings) if one.pid)


def test_every_running_program_says_how_it_is(running: LocalStack) -> None:
    found = {one.name: one for one in health.status(running.settings)}

    for name in INFRASTRUCTURE:
        assert found[name].is_ready, found[name]
        assert found[name].memory_bytes > 10 << 20
    assert found["monitor"].word == "STOPPED"


def test_doctor_finds_the_running_parts_well(running: LocalStack) -> None:
    found = {one.subject: one for one in doctor.examine(running.settings)}

    for subject in (*INFRASTRUCTURE, "python", "kafka jars", "triton", "ports"):
        assert found[subject].level is doctor.Level.OK, found[subject]


def test_a_running_stack_is_not_moved(running: LocalStack) -> None:
    moved = replace(running.settings, base_port=running.settings.base_port + 40)

    with pytest.raises(SettingsChanged, match="`ciclo down` first"):
        local.up(moved, ["kafka"])


def test_two_commands_at_once_are_kept_apart(running: LocalStack) -> None:
    errors: list[Exception] = []

    def begin() -> None:
        try:
            local.up(running.settings, INFRASTRUCTURE)
        except StackBusy as error:
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) == 1
    assert "wait for it" in str(errors[0])


async def topics(settings: Settings, create: str | None = None) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{settings.ports.kafka}")
    await admin.start()
    if create:
        await admin.create_topics([NewTopic(create, 1, 1)])
    names: list[str] = await admin.list_topics()
    await admin.close()
    return names


async def test_down_leaves_nothing_but_data_and_up_finds_them_again(fresh: LocalStack) -> None:
    fresh.start(*INFRASTRUCTURE)
    await topics(fresh.settings, create="kept")

    local.down(fresh.settings)

    assert_nothing_is_left(fresh.settings)
    local.down(fresh.settings)  # again, on a stack that is down
    fresh.start("kafka")
    assert "kept" in await topics(fresh.settings)
    local.down(fresh.settings, with_data=True)
    assert not fresh.state.exists()
    assert_nothing_is_left(fresh.settings)


def test_down_after_everything_was_killed_leaves_nothing(fresh: LocalStack) -> None:
    fresh.start("envoy", "triton-shadow")
    daemon = processes.recorded(fresh.settings, DAEMON)
    assert daemon
    os.kill(daemon.pid, signal.SIGKILL)  # first, or it would start them again
    for name in ("triton-shadow", "envoy"):
        last = processes.recorded(fresh.settings, name)
        assert last
        if name == "triton-shadow":
            os.kill(last.pid, signal.SIGKILL)

    local.down(fresh.settings)

    assert_nothing_is_left(fresh.settings)


def test_a_taken_port_is_named_with_its_holder(fresh: LocalStack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh.settings.ports.envoy_admin))
        taken.listen()
        with pytest.raises(PortInUse) as caught:
            fresh.start("envoy")
        found = [one for one in doctor.examine(fresh.settings) if one.subject == "port"]

    holder = f"(pid {os.getpid()})"
    for message in (str(caught.value), found[0].detail):
        assert str(fresh.settings.ports.envoy_admin) in message
        assert holder in message
    assert "--base-port" in str(caught.value)
    assert connect(fresh.settings) is None


def test_a_program_that_dies_at_start_is_shown_with_its_last_words(fresh: LocalStack) -> None:
    fresh.settings.triton("shadow").mkdir(parents=True)
    (fresh.settings.triton("shadow") / "models").write_text("where a folder should be")

    with pytest.raises(ProgramFailed) as caught:
        fresh.start("triton-shadow")

    assert "triton-shadow ends as soon as it is started" in str(caught.value)
    assert "FileExistsError" in str(caught.value)
    assert str(fresh.settings.log / "triton-shadow.log") in str(caught.value)
    assert fresh.pid("triton-shadow") == 0


def command_line(fresh: LocalStack, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ciclo_local.cli", *arguments],
        env={**os.environ, "CICLO_STATE_DIR": str(fresh.state), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A suite that runs in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_an_interrupted_up_leaves_nothing(fresh: LocalStack) -> None:
    base = str(fresh.settings.base_port)
    command = command_line(fresh, "up", "--base-port", base, "--only", "kafka,triton-shadow")
    deadline = time.monotonic() + 20
    while processes.recorded(fresh.settings, "kafka") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    command.send_signal(signal.SIGINT)
    said, _ = command.communicate(timeout=30)

    assert command.returncode == 130
    assert "Traceback" not in said
    assert_nothing_is_left(fresh.settings)


_SERVICE = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port("127.0.0.1:" + os.environ["CICLO_GRPC_PORT"])
    server.start()
    print("environment", os.environ["CICLO_ENV"], flush=True)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    print("stopped by a signal", flush=True)
"""


def test_a_service_runs_by_its_module_and_is_stopped_gently(
    fresh: LocalStack, tmp_path: Path
) -> None:
    package = tmp_path / "packages" / "ciclo_monitor"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(_SERVICE)
    flags = ["--base-port", str(fresh.settings.base_port), "--env", "trial", "--only", "monitor"]

    up = command_line(fresh, "up", *flags, PYTHONPATH=str(package.parent))
    assert up.wait(60) == 0, up.communicate()
    assert command_line(fresh, "status").wait(60) == 0
    assert command_line(fresh, "down").wait(60) == 0

    log = (fresh.settings.log / "monitor.log").read_text()
    assert "environment trial" in log
    assert "stopped by a signal" in log
    assert load(fresh.state).environment == "trial"  # the next `up` needs no flags
    assert_nothing_is_left(fresh.settings)


def test_only_a_folder_of_a_stack_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()

    with pytest.raises(BadSetting, match=r"no stack\.json"):
        local.down(Settings(tmp_path), with_data=True)

    assert (tmp_path / "precious").exists()


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")

    with pytest.raises(BadSetting, match=r"stack\.json is damaged"):
        load(tmp_path)


def test_the_installed_jars_are_those_of_the_table(running: LocalStack, tmp_path: Path) -> None:
    library = running.settings.stack_home / "kafka" / "lib"
    assert kafka_jars.differences(library) == []

    one, other = sorted(library.glob("*.jar"))[:2]
    (tmp_path / one.name).write_bytes(one.read_bytes() + b"x")
    (tmp_path / "stranger.jar").touch()

    found = "\n".join(kafka_jars.differences(tmp_path))
    assert f"{one.name} has SHA-256" in found
    assert f"{other.name} is missing" in found
    assert "stranger.jar is not expected" in found
