"""The whole system once more, to be killed piece by piece."""

from tests.e2e.conftest import system

__all__ = ["system"]
