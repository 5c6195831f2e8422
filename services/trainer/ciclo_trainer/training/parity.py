"""Proves that the exported graph answers as the network does, on rows made up for the bundle."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from ciclo_trainer.training.errors import BOUND_OUTPUT, NotFinite, ParityFailed
from ciclo_trainer.training.export import Served
from ciclo_trainer.training.recipes import recipe_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import nn

    from ciclo.recipe import Recipe
    from ciclo_bundle import Field, Signature
    from ciclo_bundle.runtime import GraphScorer
    from ciclo_trainer.training.snapshot import Rows
    from ciclo_trainer.training.spec import FittedSpec

TOLERANCE: Final = 1e-5
"""Largest difference between two answers that is put down to rounding."""

VECTOR_ROWS: Final = 64
"""Rows of the parity vector."""

BATCHES: Final = (1, 3, VECTOR_ROWS)
"""Batch sizes that must give one answer: a graph that was traced with one size can hold it fast."""

UNSEEN: Final = "\u2047 unseen"
"""A category that no vocabulary has."""


def craft_columns(
    spec: FittedSpec, signature: Signature, rows: Rows, seed: int
) -> dict[str, NDArray[Any]]:
    """Make up rows [VECTOR_ROWS] whose columns are drawn apart from each other: nobody's row.

    Each column has values as in the training part, and then, in its first rows, the odd ones:
    missing, unseen, zero, the largest. Strings come from the vocabulary, so that each known
    category of a small one is there: a server that garbles strings cannot give these answers.

    Args:
        spec: Fitted on the training part.
        signature: What the graph takes.
        rows: The training part.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    return {
        field.name: _craft(spec, field, rows.columns[field.name], random)
        for field in signature.inputs
    }


def check_parity(
    recipe: Recipe,
    net: nn.Module,
    spec: FittedSpec,
    scorer: GraphScorer,
    columns: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[np.float32]]:
    """Compare network and graph and return the graph's answers [n] by output.

    Args:
        recipe: Gives the outputs.
        net: Trained, in evaluation mode.
        spec: Fitted on the training part.
        scorer: Of the exported graph.
        columns: Inputs by name [n].

    Raises:
        ParityFailed: An answer differs by more than `TOLERANCE`, or depends on the batch.
        NotFinite: An answer is not.
    """
    fields, outputs = spec.fields, [field.name for field in scorer.signature.outputs]
    x = spec.encode(columns)
    with recipe_step("output"), torch.no_grad():
        served = Served(recipe, net, fields, outputs)
        expected = served(*(x[field.name].reshape(-1, 1) for field in fields))
    answers = {}
    for batch in BATCHES:
        answers = scorer.score(columns, batch=batch)
        for name, tensor in zip(outputs, expected, strict=True):
            _compare(name, tensor.numpy()[:, 0], answers[name], batch)
    return answers


def encode_vector(
    columns: Mapping[str, NDArray[Any]], answers: Mapping[str, NDArray[np.float32]]
) -> bytes:
    """Return parity.npz: arrays `in.<input>` and `out.<output>` [n], readable without pickle."""
    arrays = {
        f"in.{name}": column.astype(np.str_) if column.dtype == object else column
        for name, column in columns.items()
    }
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays, **{f"out.{n}": a for n, a in answers.items()})
    return file.getvalue()


def _craft(
    spec: FittedSpec, field: Field, column: NDArray[Any], random: np.random.Generator
) -> NDArray[Any]:
    if field.role == "id":
        if field.datatype == "string":
            return np.array([f"row-{i}" for i in range(VECTOR_ROWS)], dtype=object)
        return np.arange(VECTOR_ROWS).astype(column.dtype)
    if field.datatype == "string":
        known = random.permutation(np.array(["", *spec.vocabulary(field.name)], dtype=object))
        crafted = np.resize(known, VECTOR_ROWS)
        odd: tuple[Any, ...] = ("", UNSEEN)
    elif field.datatype == "float32":
        crafted = random.choice(column, VECTOR_ROWS)
        largest = np.finfo(np.float32).max
        odd = (np.nan, 0.0, largest, -largest)
    else:
        crafted = random.choice(column, VECTOR_ROWS)
        odd = (0, 1, column.max() + 1, column.min() - 1)
    crafted[: len(odd)] = odd
    return crafted


def _compare(
    name: str, expected: NDArray[np.float32], found: NDArray[np.float32], batch: int
) -> None:
    if not np.isfinite(expected).all():
        raise NotFinite(f"output {name} of a made-up row", BOUND_OUTPUT)
    gap = np.abs(expected - found)
    row = int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))
    if not gap[row] <= TOLERANCE:
        raise ParityFailed(
            name,
            f"made-up row {row}, batches of {batch}: torch {expected[row]!r}, ONNX {found[row]!r},"
            f" expected a difference of at most {TOLERANCE}",
        )
