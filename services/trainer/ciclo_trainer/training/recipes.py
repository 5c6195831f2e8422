"""Loads a user's recipe, and tries it on a few rows: mistakes show before the first epoch."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ciclo.recipe import Batch, Recipe
from ciclo_trainer.training.errors import NotFinite, RecipeFailed, TrainingFailed
from ciclo_trainer.training.tabular import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from ciclo_trainer.training.spec import FittedSpec


@contextmanager
def recipe_step(step: str) -> Iterator[None]:
    """Name the step in which the user's code runs: what it raises becomes `RecipeFailed`.

    Raises:
        RecipeFailed: The user's code raised, or called `sys.exit()`.
    """
    try:
        yield
    except TrainingFailed:
        raise
    except (Exception, SystemExit) as cause:
        raise RecipeFailed(step, cause) from cause


def load_recipe(reference: str) -> Recipe:
    """Import `path/of/file.py:Class` and return an instance; its folder becomes importable.

    Raises:
        RecipeFailed: No such file or class, not a recipe, or the import raised.
    """
    with recipe_step("load"):
        path, name = recipe_file(reference), reference.rpartition(":")[2]
        # A library of the same name stays what it is to those who import it.
        module_name = f"{path.stem}_recipe" if path.stem in sys.modules else path.stem
        spec = importlib.util.spec_from_file_location(module_name, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise FileNotFoundError(f"{reference!r}: expected file.py:Class")
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # dataclasses look up their annotations there
        spec.loader.exec_module(module)
        kind = getattr(module, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Recipe)):
            raise TypeError(f"{path.name} has no subclass of ciclo.Recipe named {name!r}")
        return kind()


def recipe_file(reference: str) -> Path:
    """Return the file of `path/of/file.py:Class`."""
    return Path(reference.rpartition(":")[0]).resolve()


def build_network(recipe: Recipe, spec: FittedSpec, sample: Batch) -> Network:
    """Return the recipe's transform and network; the width is found by asking the transform.

    Raises:
        RecipeFailed: The recipe raised, or the transform gave something else than [n, width].
    """
    with recipe_step("transform"):
        transform = recipe.transform(spec)
        transform.eval()
        with torch.no_grad():
            x = transform(sample.x)
        if not isinstance(x, torch.Tensor) or x.ndim != 2 or len(x) != len(sample.label):
            raise TypeError(f"gave {describe(x)}, expected a tensor [{len(sample.label)}, width]")
        transform.train()
    with recipe_step("build"):
        return Network(transform, recipe.build(x.shape[1]))


def rehearse(recipe: Recipe, net: nn.Module, sample: Batch, output: str) -> None:
    """Ask network, loss and output for a few rows and check what comes.

    Raises:
        RecipeFailed: One raised, or gave another shape or range than its interface says.
        NotFinite: The loss is not.
    """
    net.eval()
    with torch.no_grad():
        with recipe_step("build"):
            logit = net(sample.x)
        with recipe_step("loss"):
            loss = recipe.loss(logit, sample)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise TypeError(f"gave {describe(loss)}, expected a tensor of one number")
            if not torch.isfinite(loss).all():
                raise NotFinite("loss of the untrained network")
        with recipe_step("output"):
            served_output(recipe, logit, output, len(sample.label))
    net.train()


def served_output(recipe: Recipe, logit: Tensor, name: str, rows: int) -> Tensor:
    """Return one output as a tensor [rows, 1].

    Raises:
        KeyError: The recipe has no such output.
        TypeError: It is no tensor [rows] or [rows, 1].
        ValueError: A value is not in [0, 1].
    """
    outputs = recipe.output(logit)
    if name not in outputs:
        raise KeyError(f"output {name!r} is declared, the recipe gave {sorted(outputs)}")
    value = outputs[name]
    if not isinstance(value, torch.Tensor) or value.shape not in ((rows,), (rows, 1)):
        raise TypeError(f"{name} is {describe(value)}, expected a tensor [{rows}] or [{rows}, 1]")
    if not ((value >= 0) & (value <= 1)).all():
        low, high = value.min().item(), value.max().item()
        raise ValueError(f"{name} lies in [{low:.3g}, {high:.3g}], expected [0, 1]")
    return value.reshape(-1, 1)


def describe(value: object) -> str:
    """Return what a value is, for an error message."""
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    return type(value).__name__
