"""Becomes one program of the stack; supervisord runs `python -m ciclo_local.launch STATE NAME`.

What must be true before each start, restarts included, is made true here: leftovers of a
killed predecessor are ended, configuration is written, the process is recorded as ours.
"""

import os
import sys
from pathlib import Path

from ciclo.errors import CicloError
from ciclo_local import processes
from ciclo_local.processes import MARK
from ciclo_local.programs import catalogue
from ciclo_local.settings import load


def launch(state: Path, name: str) -> None:
    """Replaces this process by the program called `name`.

    Args:
        state: The stack's folder.
        name: A name of the catalogue.

    Raises:
        CicloError: It is not installed, or could not be prepared.
        OSError: It could not be executed.
    """
    settings = load(state)
    os.environ[MARK] = str(settings.state)  # before anything is started that could be left over
    program = catalogue(settings)[name]
    processes.end(settings, name, grace=0.0)
    processes.record(settings, name, os.getpid())
    command = program.command()
    program.prepare()
    environment = {**os.environ, **settings.homes, **program.environment}
    os.execve(command[0], command, environment)  # noqa: S606 -- no shell, by intent


if __name__ == "__main__":
    try:
        launch(Path(sys.argv[1]), sys.argv[2])
    except CicloError as error:
        sys.exit(f"{sys.argv[2]}: {error.message}")
