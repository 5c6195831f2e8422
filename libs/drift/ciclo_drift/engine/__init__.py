"""Which inner loops run: compiled ones where numba is installed, else those in NumPy."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from ciclo_drift.engine import rowwise

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Engine(Protocol):
    """What `kernels` and `rowwise` both hold; see `kernels` for the arguments."""

    def cells_of(self, values: NDArray[Any], edges: NDArray[Any], /) -> NDArray[Any]:
        """Cells of numbers. Shape (F, n)."""

    def run_numeric(self, *state: Any) -> None:
        """Feeds rows to numeric streams."""

    def run_categorical(self, *state: Any) -> None:
        """Feeds rows to categorical streams."""


def best_engine() -> Engine:
    """Returns the fastest engine that can run here."""
    if find_spec("numba") is None:
        return cast("Engine", rowwise)
    from ciclo_drift.engine import kernels

    return cast("Engine", kernels)
