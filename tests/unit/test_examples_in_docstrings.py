"""Every example in a docstring holds."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULES = sorted(
    ".".join(path.relative_to(distribution).with_suffix("").parts)
    for distribution in (*ROOT.glob("libs/*"), *ROOT.glob("services/*"), ROOT / "deploy" / "local")
    for path in distribution.glob("ciclo*/**/*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_hold(module: str) -> None:
    found = doctest.testmod(import_module(module))
    assert found.attempted > 0
    assert found.failed == 0
