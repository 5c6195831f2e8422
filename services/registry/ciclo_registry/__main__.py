"""`python -m ciclo_registry`: runs the registry until it is told to stop."""

from ciclo_registry.app import build
from ciclo_registry.settings import Settings
from ciclo_runtime.lifecycle import run

if __name__ == "__main__":
    run(build, Settings)
