"""`python -m ciclo_local.install`, called by `make setup`: fetches what `ciclo up` starts."""

import os
import sys
from pathlib import Path

from ciclo.errors import CicloError
from ciclo_local import kafka_jars, triton_environment
from ciclo_local.settings import Settings, load
from ciclo_local.start import Say


def install(settings: Settings, say: Say) -> None:
    """Fetches and checks all parts; what is there and right is left alone.

    Args:
        settings: Only `stack_home` matters.
        say: Told of each step.

    Raises:
        InstallFailed: A part cannot be fetched or is not the one that was pinned.
    """
    settings.stack_home.mkdir(parents=True, exist_ok=True)
    triton_environment.install(settings, say)
    kafka_jars.install(settings, say)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    home = os.environ.get("CICLO_STACK_HOME")
    try:
        install(load(Path(".ciclo"), stack_home=Path(home) if home else None), _say)
    except CicloError as error:
        sys.exit(error.message)
