"""Trains the example's recipe with the trainer's own parts; leaves export and bundle out.

The weights equal those of a whole run with the same rows and seed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from flights import COLUMNS

from ciclo_bundle import Field
from ciclo_trainer.training.fit import FitRun, TrainingData, seed_everything
from ciclo_trainer.training.recipes import build_network, load_recipe
from ciclo_trainer.training.request import DAY_US
from ciclo_trainer.training.snapshot import read_rows, split_rows
from ciclo_trainer.training.spec import FittedSpec
from offline.examples import write_dataset

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ciclo.recipe import Recipe

RECIPE: Final = f"{Path(__file__).parents[1] / 'loop' / 'recipe.py'}:FlightDelay"
"""The recipe of the example."""

INPUTS: Final = (
    Field("flight", "string", "id"),
    Field("origin", "string", "entity"),
    Field("carrier", "string", "entity"),
    Field("dest", "string", "request"),
    Field("distance", "float32", "request"),
    Field("scheduled_departure", "timestamp", "request"),
    *(
        Field(name, "float32", "feature", view=view, view_digest="sha256:none")
        for view, names in COLUMNS.items()
        for name in names
    ),
)
"""What the model takes, in the order of its signature."""


@dataclass(frozen=True, slots=True)
class Version:
    """A trained version that can be asked.

    Attributes:
        first_unseen_us: Event time from which on no row was trained on: start of the held-out days.
    """

    recipe: Recipe
    spec: FittedSpec
    net: torch.nn.Module
    first_unseen_us: int

    def score(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Returns the probability of each row of `examples.Asked`, as float64 [n]."""
        encoded = self.spec.encode(_columns(rows))
        with torch.no_grad():
            late = self.recipe.output(self.net(encoded))["late"]
        return late.numpy().astype(np.float64)


def train(rows: pd.DataFrame, holdout_days: int, seed: int) -> Version:
    """Trains a version.

    Args:
        rows: Labelled rows in order of event time, the held-out days last.
        holdout_days: UTC days at the end that are not trained on.
        seed: Of the run.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(rows, Path(folder))
        split = split_rows(read_rows(dataset, INPUTS, (), DAY_US), holdout_days)
        recipe = load_recipe(RECIPE)
        spec = FittedSpec(INPUTS, split.train.columns)
        data, validation = (
            TrainingData(spec.encode(part.columns), torch.from_numpy(part.label), seed)
            for part in (split.train, split.validation)
        )
        sample = next(data.batches(8))
        seed_everything(seed, -1)
        net = build_network(recipe, spec, sample)
        checkpoint = Path(folder) / "checkpoint.safetensors"
        run = FitRun(
            recipe, net, validation, seed=seed, key="", path=checkpoint, report=lambda _: None
        )
        recipe.fit(net, data, run)
    first_unseen_us = int(split.holdout.event_time_us[0]) // DAY_US * DAY_US
    return Version(recipe, spec, net.eval(), first_unseen_us)


def _columns(rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
    kinds = {"string": object, "float32": np.float32, "timestamp": np.int64}
    return {field.name: rows[field.name].to_numpy(kinds[field.datatype]) for field in INPUTS}
