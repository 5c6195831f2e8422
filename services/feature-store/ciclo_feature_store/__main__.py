"""Runs the feature store: `python -m ciclo_feature_store`."""

from ciclo_feature_store.app import build
from ciclo_feature_store.settings import Settings
from ciclo_runtime.lifecycle import run

if __name__ == "__main__":
    run(build, Settings)
