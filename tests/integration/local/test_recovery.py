"""What happens when parts of a running stack are killed."""

import os
import signal
import time

import psutil
import pytest
from tests.integration.local.conftest import (
    INFRASTRUCTURE,
    WIDTH,
    Client,
    canary,
    eventually_predicts,
    publish,
    records,
    spool_files,
)
from tests.support.stack import LocalStack

from ciclo_local import envoy, processes
from ciclo_local import stack as local
from ciclo_local.supervisor import DAEMON


@pytest.mark.parametrize("name", ["envoy", "triton-serving", "triton-shadow", "kafka"])
def test_a_killed_program_comes_back(name: str, running: LocalStack, client: Client) -> None:
    client.predict()
    spools = len(spool_files(running.settings))

    with eventually_predicts(client):
        old = running.kill(name)

    deadline = time.monotonic() + 30
    while running.pid(name) in (0, old):
        assert time.monotonic() < deadline, f"{name} was not started again"
        time.sleep(0.05)
    running.start(name)  # returns when its probe succeeds
    assert client.predict()[0] in (WIDTH + 1, WIDTH + 2)
    assert len(spool_files(running.settings)) == spools + (name == "envoy")


def test_what_was_answered_before_envoy_was_killed_is_in_the_spool(
    running: LocalStack, client: Client
) -> None:
    told = [client.predict()[1]["x-ciclo-id"] for _ in range(50)]
    with eventually_predicts(client):
        running.kill("envoy")

    assert set(told) <= set(records(running.settings))


def test_envoy_starts_again_with_the_routes_that_were_published_last(
    running: LocalStack, client: Client
) -> None:
    publish(running.settings, "only-2", canary(100))
    published = envoy.routes(running.settings).read_text()

    with eventually_predicts(client):
        running.kill("envoy")

    assert {client.predict()[1]["x-ciclo-version"] for _ in range(20)} == {"2"}
    assert envoy.routes(running.settings).read_text() == published


def test_predictions_survive_a_killed_supervisor_and_up_takes_over(
    running: LocalStack, client: Client
) -> None:
    daemon = processes.recorded(running.settings, DAEMON)
    assert daemon
    before = {name: running.pid(name) for name in INFRASTRUCTURE}
    os.kill(daemon.pid, signal.SIGKILL)

    assert [client.predict()[0] > WIDTH for _ in range(20)] == [True] * 20
    said: list[str] = []
    local.up(running.settings, INFRASTRUCTURE, said.append)

    assert client.predict()[0] > WIDTH
    assert sum("left over" in line for line in said) == len(INFRASTRUCTURE)
    after = {name: running.pid(name) for name in INFRASTRUCTURE}
    assert not set(before.values()) & set(after.values())
    assert not any(psutil.pid_exists(pid) for pid in before.values())
