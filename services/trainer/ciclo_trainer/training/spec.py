"""What is learned of the inputs before training: vocabularies, medians, scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from ciclo_trainer.training.tabular import Columns, Scaling, Tabular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ciclo.recipe import Categorical, Missing, Numeric, TimestampPart
    from ciclo_bundle import Field

LEAST_ROWS: Final = 10
"""A category seen in fewer training rows is read as unseen: so the vector of unseen categories is
itself trained, and one row's name does not get into the bundle."""


class FittedSpec:
    """`ciclo.Spec`, fitted.

    Args:
        inputs: What the model takes.
        columns: The training part [n], as `snapshot.Rows.columns`.
    """

    def __init__(self, inputs: Sequence[Field], columns: Mapping[str, NDArray[Any]]) -> None:
        self._fields = tuple(field for field in inputs if field.role != "id")
        self._vocabularies = {
            field.name: _fit_vocabulary(columns[field.name])
            for field in self._fields
            if field.datatype == "string"
        }
        self._scaling = {
            field.name: _fit_scaling(columns[field.name])
            for field in self._fields
            if field.datatype in ("float32", "int64")
        }

    @property
    def fields(self) -> tuple[Field, ...]:
        """The inputs in their declared order, the business key left out."""
        return self._fields

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """Known categories by string input."""
        return dict(self._vocabularies)

    def vocabulary(self, name: str) -> tuple[str, ...]:
        """Return the known categories of a string input.

        Raises:
            KeyError: Not a string input.
        """
        return self._vocabularies[name]

    def tabular(
        self,
        *,
        numeric: Numeric = "standardise",
        missing: Missing = "median+flag",
        categorical: Categorical = "embed",
        timestamp: Sequence[TimestampPart] = (),
    ) -> Tabular:
        """Return the usual transform of a table; see `ciclo.Spec.tabular`.

        Raises:
            ValueError: An unknown option, or no column comes of it.
        """
        _require("numeric", numeric, ("standardise", "as-is"))
        _require("missing", missing, ("median+flag", "median"))
        _require("categorical", categorical, ("embed", "ignore"))
        for part in timestamp:
            _require("timestamp", part, ("hour", "weekday"))
        return Tabular(
            self._scaling,
            {name: len(known) for name, known in self._vocabularies.items()}
            if categorical == "embed"
            else {},
            [field.name for field in self._fields if field.datatype == "timestamp"],
            is_standardised=numeric == "standardise",
            is_flagged=missing == "median+flag",
            parts=tuple(timestamp),
        )

    def encode(self, columns: Mapping[str, NDArray[Any]]) -> Columns:
        """Return columns as `Batch.x` has them.

        Args:
            columns: Inputs by name [n], as `snapshot.Rows.columns`.
        """
        return {field.name: self._encode(field, columns[field.name]) for field in self._fields}

    def _encode(self, field: Field, column: NDArray[Any]) -> Tensor:
        if field.datatype != "string":
            return torch.from_numpy(np.ascontiguousarray(column))
        codes = {value: i + 1 for i, value in enumerate(self._vocabularies[field.name])}
        return torch.tensor([codes.get(value, 0) for value in column], dtype=torch.int64)


def _fit_vocabulary(column: NDArray[Any]) -> tuple[str, ...]:
    values, counts = np.unique(column.astype(str), return_counts=True)
    return tuple(str(v) for v in values[(counts >= LEAST_ROWS) & (values != "")])


def _fit_scaling(column: NDArray[Any]) -> Scaling:
    values = column.astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Scaling(0.0, 0.0, 1.0)
    deviation = float(values.std())
    return Scaling(float(np.median(values)), float(values.mean()), deviation or 1.0)


def _require(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"tabular({option}={given!r}): expected one of {list(known)}")
