"""Starts the gateway: `python -m ciclo_gateway`."""

from ciclo_gateway.app import build
from ciclo_gateway.settings import Settings
from ciclo_runtime.lifecycle import run

if __name__ == "__main__":
    run(build, Settings)
