"""Makes the champion of the tests once: its calibration takes a moment."""

import pytest
from tests.unit.monitor import worlds


@pytest.fixture(autouse=True, scope="session")
def _one_champion():
    made = worlds.champion()
    original = worlds.champion
    worlds.champion = lambda version=worlds.V1: type(made)(version, made.held_out, made.streams)
    yield
    worlds.champion = original
