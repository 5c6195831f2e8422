"""The example's modules lie beside each other, in no distribution: tests name their folder."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "flights"))

from flights import World, read_world
from records import read_flights


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    return read_flights()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def world(cache: Path) -> World:
    return read_world(cache)
