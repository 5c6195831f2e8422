"""Runs the monitor."""

from ciclo_monitor.app import build
from ciclo_monitor.settings import Settings
from ciclo_runtime.lifecycle import run

run(build, Settings)
