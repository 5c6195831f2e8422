"""The commands' flags, output and exit codes; the work itself is replaced."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ciclo_local import doctor, health, stack
from ciclo_local.cli import app
from ciclo_local.doctor import Finding, Level
from ciclo_local.errors import PortInUse
from ciclo_local.health import Health
from ciclo_local.settings import Settings

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CICLO_STATE_DIR", "CICLO_ENV", "CICLO_BASE_PORT", "CICLO_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(stack, "up", lambda settings, only, say: calls.append((settings, only)))
    return calls


def test_up_takes_what_flags_say(started: list[Any]) -> None:
    flags = ["--state", "/nowhere/s", "--env", "trial", "--base-port", "20000"]
    result = RUNNER.invoke(app, ["up", *flags, "--only", "kafka, envoy"])

    [(settings, only)] = started
    assert result.exit_code == 0
    assert (settings.state, settings.environment) == (Path("/nowhere/s"), "trial")
    assert (settings.base_port, only) == (20000, ["kafka", "envoy"])
    assert "127.0.0.1:20000" in result.stdout


def test_up_takes_what_variables_say(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CICLO_STATE_DIR", "/nowhere/t")
    monkeypatch.setenv("CICLO_ENV", "other")
    monkeypatch.setenv("CICLO_BASE_PORT", "21000")

    RUNNER.invoke(app, ["up"])

    [(settings, only)] = started
    assert (settings.state, settings.environment) == (Path("/nowhere/t"), "other")
    assert (settings.base_port, only) == (21000, [])


def test_an_expected_error_is_a_message_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PortInUse(17602, "kafka", "java (pid 7)")

    monkeypatch.setattr(stack, "up", fail)
    result = RUNNER.invoke(app, ["up", "--state", "/nowhere/s"])

    assert result.exit_code == 1
    assert "Port 17602, which kafka needs, is in use by java (pid 7)" in result.stderr
    assert "--base-port" in result.stderr
    assert "Traceback" not in result.output


def test_an_interrupted_up_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stack, "up", interrupt)

    assert RUNNER.invoke(app, ["up", "--state", "/nowhere/s"]).exit_code == 130


def program(word: str, *, is_ready: bool) -> Health:
    return Health("kafka", word, 7, "127.0.0.1:17602", is_ready, "Kafka 4.1.1", 1.5, 1 << 28)


@pytest.mark.parametrize(
    ("word", "is_ready", "code"),
    [("RUNNING", True, 0), ("RUNNING", False, 1), ("FATAL", False, 1), ("STOPPED", False, 0)],
)
def test_status_fails_if_what_should_run_is_not_ready(
    word: str, is_ready: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "status", lambda _: [program(word, is_ready=is_ready)])

    assert RUNNER.invoke(app, ["status", "--state", "/nowhere/s"]).exit_code == code
    as_json = RUNNER.invoke(app, ["status", "--state", "/nowhere/s", "--json"])
    assert json.loads(as_json.stdout)[0]["is_ready"] is is_ready


@pytest.mark.parametrize(("level", "code"), [(Level.OK, 0), (Level.WARN, 0), (Level.FAIL, 1)])
def test_doctor_fails_on_fail_alone_and_names_the_remedy(
    level: Level, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: [Finding(level, "disk", "full", "Free it.")])

    result = RUNNER.invoke(app, ["doctor", "--state", "/nowhere/s"])
    as_json = RUNNER.invoke(app, ["doctor", "--state", "/nowhere/s", "--json"])

    assert (result.exit_code, as_json.exit_code) == (code, code)
    assert "Free it." in result.stdout
    assert json.loads(as_json.stdout)[0]["level"] == level


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_folder_from_which_no_stack_was_started_is_named_in_full(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "status", lambda _: [])
    monkeypatch.chdir(tmp_path)

    said = RUNNER.invoke(app, [command])

    assert said.exit_code == 0
    assert f"No stack was started from {tmp_path}/.ciclo, as it holds no stack.json" in said.stderr
    assert "--state or CICLO_STATE_DIR" in said.stderr

    Settings(tmp_path / ".ciclo").save()
    assert "No stack" not in RUNNER.invoke(app, [command]).stderr
