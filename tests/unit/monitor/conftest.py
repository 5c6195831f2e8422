"""Makes the champion of the tests once: its calibration takes a moment."""

import pytest
from tests.unit.monitor import worlds

from ciclo_drift import StreamSet


@pytest.fixture(autouse=True, scope="session")
def _one_champion():
    made = worlds.champion()
    original, reference = worlds.champion, made.streams.snapshot()
    worlds.champion = lambda version=worlds.V1: type(made)(
        version, made.held_out, StreamSet.restore(reference)
    )
    yield
    worlds.champion = original
