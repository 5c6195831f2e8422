"""What a user of Ciclo imports: the client and the recipe interface.

Names are imported when they are first used: `import ciclo` costs nothing, and torch
is loaded only where a recipe runs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ciclo.recipe import Batch, Data, Fit, Recipe, Spec

_HOMES = dict.fromkeys(("Batch", "Data", "Fit", "Recipe", "Spec"), "ciclo.recipe")

__all__ = ["Batch", "Data", "Fit", "Recipe", "Spec"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ciclo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
