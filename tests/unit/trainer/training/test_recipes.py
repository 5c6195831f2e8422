"""A recipe that fails says where, before time is spent on it where that can be."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ciclo_trainer.training import NotFinite, RecipeFailed, Request
from ciclo_trainer.training.recipes import load_recipe
from ciclo_trainer.training.run import train

from .conftest import RECIPE, ignore

Requests = Callable[..., Request]


def changed(old: str, new: str) -> str:
    assert old in RECIPE
    return RECIPE.replace(old, new)


@pytest.mark.parametrize(
    ("step", "old", "new", "message"),
    [
        ("load", "import torch", "import no_such_package", "no_such_package"),
        ("load", "class Late(Recipe)", "class Other(Recipe)", "Late"),
        ("load", "class Late(Recipe)", "class Late", "Late"),
        ("transform", 'timestamp=["hour", "weekday"]', 'timestamp=["moon"]', "moon"),
        ("transform", "spec.tabular(", "(lambda **_: torch.nn.Flatten())(", "AttributeError"),
        ("build", "Linear(width, 16)", "Linear(width + 1, 16)", "shapes"),
        ("loss", "(logit[:, 0], batch.label)", "(logit, batch.label)", "size"),
        ("output", "torch.sigmoid(logit[:, 0])", "torch.sigmoid(logit[:, 0]).mean()", "shape"),
        ("output", "torch.sigmoid(logit[:, 0])", "logit[:, 0] * 0 + 2", "expected"),
        ("output", '{"late"', '{"delay"', "delay"),
        ("fit", "checkpoint=(net, optim, rate)", "checkpoint=(optim, rate)", "lacks the network"),
        ("fit", "data.batches(128", "data.batches(0", "at least 1"),
        ("fit", "rate.step()", "list(run.epochs(1, checkpoint=(net,)))", "twice"),
        ("fit", "rate.step()", "raise MemoryError('too large')", "too large"),
        ("fit", "rate.step()", "raise SystemExit(3)", "called sys.exit(3)"),
        ("load", "import torch", "raise SystemExit", "called sys.exit(None)"),
    ],
)
def test_what_a_recipe_does_wrong_is_named_with_its_step(
    request_of: Requests, step: str, old: str, new: str, message: str
) -> None:
    request = request_of(changed(old, new))

    with pytest.raises(RecipeFailed) as error:
        train(request, ignore)

    assert error.value.step == step
    if message not in ("size", "shape", "shapes", "expected"):
        assert message in error.value.message
    assert not (request.out / "bundle").exists()


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("(logit[:, 0], batch.label)", "(logit[:, 0] * float('nan'), batch.label)", "loss"),
        ("run.log(train=loss", "run.log(train=loss * float('inf')", "train in epoch 1"),
        ("lr=3e-3", "lr=float('inf')", "epoch 1"),
        ("rate.step()", "net.body[0].bias.data[0] = float('nan')", "epoch 1"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_run(
    request_of: Requests, old: str, new: str, where: str
) -> None:
    request = request_of(changed(old, new))

    with pytest.raises(NotFinite) as error:
        train(request, ignore)

    assert where in error.value.where
    assert not (request.out / "bundle").exists()


def test_weights_that_become_nan_are_found_though_nothing_is_logged(request_of: Requests) -> None:
    source = changed("run.log(train=loss, valid=run.evaluate(net))", "pass")
    source = source.replace("rate.step()", "net.body[0].bias.data[0] = float('nan')")

    with pytest.raises(NotFinite, match=r"weight body\.0\.bias after epoch 1"):
        train(request_of(source), ignore)


def test_a_state_that_would_need_pickle_is_refused(request_of: Requests) -> None:
    source = changed("checkpoint=(net, optim, rate)", "checkpoint=(net, optim, Odd())") + (
        "\n\nclass Odd:\n"
        "    def state_dict(self):\n        return {'odd': object()}\n\n"
        "    def load_state_dict(self, state):\n        pass\n"
    )

    with pytest.raises(RecipeFailed, match="a state holds object"):
        train(request_of(source), ignore)


def test_a_file_that_is_not_there_is_named(request_of: Requests) -> None:
    with pytest.raises(RecipeFailed, match=r"nowhere\.py"):
        train(request_of(recipe="/tmp/nowhere.py:Late"), ignore)


def test_a_recipe_may_hold_dataclasses_whose_annotations_are_text(request_of: Requests) -> None:
    source = f"""
from __future__ import annotations
from dataclasses import KW_ONLY, dataclass


@dataclass
class Settings:
    rate: float
    _: KW_ONLY
    epochs: int = 4

{RECIPE}"""

    result = train(request_of(source), ignore)

    assert result.metrics["model"]["auc"]["value"] > 0.6


def test_a_recipe_named_like_a_library_does_not_take_its_place(request_of: Requests) -> None:
    request = request_of()
    named_json = Path(request.recipe.rpartition(":")[0]).rename(request.out.parent / "json.py")

    recipe = load_recipe(f"{named_json}:Late")

    assert recipe.seed == 7
    assert sys.modules["json"] is json


def test_a_transform_of_ones_own_is_exported_like_the_usual_one(request_of: Requests) -> None:
    source = changed(
        'spec.tabular(timestamp=["hour", "weekday"])', "Own(len(spec.vocabulary('dest')))"
    )
    source += """

class Own(torch.nn.Module):
    def __init__(self, known):
        super().__init__()
        self.bias = torch.nn.Embedding(known + 1, 2)

    def forward(self, x):
        return torch.cat([torch.nan_to_num(x["temp"]).unsqueeze(1) / 10, self.bias(x["dest"])], 1)
"""

    result = train(request_of(source), ignore)

    assert result.metrics["model"]["auc"]["value"] > 0.6
