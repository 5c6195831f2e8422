"""Runs the trainer."""

from ciclo_runtime.lifecycle import run
from ciclo_trainer.app import build
from ciclo_trainer.settings import Settings

run(build, Settings)
