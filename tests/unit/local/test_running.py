"""What is said of a stack that runs where another should start."""

import json
import os
import re
from pathlib import Path

import pytest

from ciclo_local import processes, stack, supervisor
from ciclo_local.errors import PortInUse, StackRunning
from ciclo_local.processes import MARK, Holder, port_holder
from ciclo_local.settings import Settings
from ciclo_local.supervisor import DAEMON


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(tmp_path / "x")
    made.save()
    return made


@pytest.mark.parametrize("name", [DAEMON, "kafka"])
def test_what_runs_is_told_with_its_pid_its_start_and_what_ends_it(
    name: str, settings: Settings
) -> None:
    processes.record(settings, name, os.getpid())

    with pytest.raises(StackRunning) as caught:
        stack.require_down(settings)

    said = str(caught.value)
    assert f"in {settings.state} is running (pid {os.getpid()})" in said
    assert re.search(r"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said)
    assert f"`ciclo down --state {settings.state}` ends it" in said


def test_what_has_ended_does_not_run(settings: Settings) -> None:
    stack.require_down(settings)
    (settings.run).mkdir()
    (settings.run / "kafka.json").write_text(json.dumps({"pid": os.getpid(), "start_ticks": 1}))

    stack.require_down(settings)


def test_up_never_ends_a_supervisor_that_only_does_not_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(processes, "end", lambda _, name, **__: ended.append(name))
    monkeypatch.setattr(supervisor, "connect", lambda _: None)
    processes.record(settings, DAEMON, os.getpid())

    with pytest.raises(StackRunning, match="but its supervisor does not answer"):
        stack.up(settings)

    assert ended == []


def test_a_port_that_another_stack_holds_is_told_with_what_ends_that_one() -> None:
    holder = Holder("envoy", 7, Path("/x"))
    said = str(PortInUse(17600, "envoy", holder, holder.end))

    assert "in use by envoy (pid 7) of the Ciclo stack in /x" in said
    assert "`ciclo down --state /x` ends it" in said


class Listening:
    """A process of this name that listens on port 1, as psutil would tell of it."""

    pid = os.getpid()
    status = "LISTEN"
    laddr = ("127.0.0.1", 1)

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def name(self) -> str:
        return "envoy"

    def environ(self) -> dict[str, str]:
        return {MARK: str(self._mark)}


@pytest.fixture
def listening(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Listening:
    found = Listening(settings.state)
    monkeypatch.setattr("psutil.net_connections", lambda kind: [found])
    monkeypatch.setattr("psutil.Process", lambda _: found)
    return found


def test_a_port_is_held_by_the_stack_that_its_process_is_recorded_in(
    settings: Settings, listening: Listening
) -> None:
    settings.run.mkdir()
    note = {"pid": os.getpgid(listening.pid), "start_ticks": 1}
    (settings.run / "envoy.json").write_text(json.dumps(note))

    assert port_holder(1) == Holder("envoy", listening.pid, settings.state)


def test_a_program_that_merely_has_the_variable_belongs_to_no_stack(
    settings: Settings, listening: Listening
) -> None:
    settings.run.mkdir()
    note = {"pid": os.getpgid(listening.pid) + 1, "start_ticks": 1}
    (settings.run / "envoy.json").write_text(json.dumps(note))

    assert port_holder(1) == Holder("envoy", listening.pid, None)
