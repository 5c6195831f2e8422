"""The command line: help at once, errors in one line."""

import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from ciclo.cli import COMMANDS, app

HEAVY = ("torch", "feast", "pandas", "numpy", "grpc", "rich")


def test_help_imports_nothing_heavy():
    code = f"import sys, ciclo.cli; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_help_costs_little_more_than_python_itself():
    def seconds(*arguments):
        start = time.process_time_ns(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - start[1]

    help_ = min(seconds("-m", "ciclo.cli", "--help") for _ in range(5))
    bare = min(seconds("-c", "pass") for _ in range(5))
    assert help_ - bare < 0.4, "200 ms on an idle machine; twice that where others work too"


def test_help_lists_every_command():
    text = CliRunner().invoke(app, ["--help"]).output
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


def test_an_unknown_command_is_refused():
    result = CliRunner().invoke(app, ["fly"])
    assert result.exit_code == 2
    assert "fly" in result.output


def test_a_command_without_a_running_system_says_how_to_start_one(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "ciclo.cli", "models", "--state", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert (
        run.stderr
        == f"ciclo: no system was started from {tmp_path}, as it holds no stack.json: name the "
        "state folder of one with --state or CICLO_STATE_DIR, or start one with "
        f"`ciclo up --state {tmp_path}`\n"
    )


def test_a_state_folder_that_is_not_there_is_named_in_full(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "CICLO_STATE_DIR"}
    command = [sys.executable, "-m", "ciclo.cli", "models"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert run.stderr.startswith(f"ciclo: no system was started from {tmp_path}/.ciclo,")
