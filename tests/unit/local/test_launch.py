"""What a program of the stack is told when it is started."""

import os
from pathlib import Path

import pytest

from ciclo_local import launch, processes
from ciclo_local.programs import Program


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Returns the environment of a program that was launched from `tmp_path`."""
    found: dict[str, str] = {}
    program = Program(
        "trainer", (), lambda: ["/bin/true"], lambda: "", environment={"CICLO_ENV": "test"}
    )
    monkeypatch.setattr(launch, "catalogue", lambda _: {"trainer": program})
    monkeypatch.setattr(processes, "end", lambda *_, **__: False)
    monkeypatch.setattr(processes, "record", lambda *_: None)
    monkeypatch.setattr(os, "execve", lambda _, __, environment: found.update(environment))
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": "/home/me/.cache", "PATH": "/bin"})
    launch.launch(tmp_path, "trainer")
    return found


@pytest.mark.parametrize("name", ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"])
def test_what_libraries_keep_is_kept_in_the_state_folder(
    name: str, told: dict[str, str], tmp_path: Path
) -> None:
    assert Path(told[name]).is_relative_to(tmp_path)


def test_all_else_is_passed_on(told: dict[str, str]) -> None:
    assert (told["PATH"], told["CICLO_ENV"]) == ("/bin", "test")
