"""The usual transform of a table as a torch module, so that it is exported with the network."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Final, TypeAlias

import torch
from torch import Tensor, nn

from ciclo_trainer.training.request import DAY_US

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Columns: TypeAlias = dict[str, Tensor]
"""Inputs by name [n]: float32 or int64 numbers, int64 timestamps, int64 codes of strings."""

LIMIT: Final = 10.0
"""Deviations from the mean at which a number is clipped: past that a single broken sensor would
drive the logit wherever it likes."""

LARGEST_EMBEDDING: Final = 16
"""Most numbers in the vector of a category."""

HARMONICS: Final = 3
"""Waves per day that stand for the time of day: the third has a period of 8 hours."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """A number's place and spread in the training part; `deviation` > 0."""

    median: float
    mean: float
    deviation: float


class Tabular(nn.Module):
    """`Columns` in, float32 [n, width] out; finite for every input.

    Args:
        numbers: Scaling by numeric column.
        categories: Size of the vocabulary by string column; code 0 comes on top.
        timestamps: Names of timestamp columns.
        is_standardised: Whether numbers are scaled and clipped.
        is_flagged: Whether each number has a column that says that it was missing.
        parts: What is read from timestamps.

    Raises:
        ValueError: No column comes of these.
    """

    def __init__(
        self,
        numbers: Mapping[str, Scaling],
        categories: Mapping[str, int],
        timestamps: Sequence[str],
        *,
        is_standardised: bool,
        is_flagged: bool,
        parts: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.numbers = tuple(numbers)
        self.categories = tuple(categories)
        self.timestamps = tuple(timestamps) if parts else ()
        if not (self.numbers or self.categories or self.timestamps):
            raise ValueError("tabular: no column is left with these options")
        self.is_standardised = is_standardised
        self.is_flagged = is_flagged
        self.parts = parts
        scales = [(s.median, s.mean, s.deviation) for s in numbers.values()]
        self.register_buffer("scaling", torch.tensor(scales).reshape(-1, 3))
        self.embeddings = nn.ModuleList(
            nn.Embedding(size + 1, min(LARGEST_EMBEDDING, 1 + round(size**0.5)))
            for size in categories.values()
        )

    def forward(self, x: Columns) -> Tensor:
        """Return float32 [n, width]."""
        columns = self._scaled(x) if self.numbers else []
        columns += [
            embedding(x[name])
            for name, embedding in zip(self.categories, self.embeddings, strict=True)
        ]
        for name in self.timestamps:
            if "hour" in self.parts:
                columns.append(time_of_day(x[name]))
            if "weekday" in self.parts:
                columns.append(weekday(x[name]))
        return torch.cat(columns, dim=1)

    def _scaled(self, x: Columns) -> list[Tensor]:
        scaling = self.get_buffer("scaling")
        values = torch.stack([x[name].to(torch.float32) for name in self.numbers], dim=1)
        is_missing = torch.isnan(values)
        values = torch.where(is_missing, scaling[:, 0], values)
        if self.is_standardised:
            values = (values - scaling[:, 1]) / scaling[:, 2]
            values = values.clamp(-LIMIT, LIMIT)
        return [values, is_missing.to(torch.float32)] if self.is_flagged else [values]


class Network(nn.Module):
    """A recipe's transform followed by its network: what `fit` trains and what is exported."""

    def __init__(self, transform: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.transform = transform
        self.body = body

    def forward(self, x: Columns) -> Tensor:
        """Return what the network gives for `Batch.x`."""
        logit: Tensor = self.body(self.transform(x))
        return logit


def time_of_day(time_us: Tensor) -> Tensor:
    """Return float32 [n, 2 · HARMONICS] of an int64 [n] timestamp: waves with the period of a day.

    Example:
        >>> time_of_day(torch.tensor([21_600_000_000]))[0, :2].round(decimals=4).tolist()
        [1.0, -0.0]
    """
    # A whole remainder first: float32 cannot tell two microseconds of this century apart.
    share = torch.remainder(time_us, DAY_US).to(torch.float32) / DAY_US
    angles = [2 * pi * (wave + 1) * share for wave in range(HARMONICS)]
    return torch.stack([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def weekday(time_us: Tensor) -> Tensor:
    """Return float32 [n, 7] of an int64 [n] timestamp: a flag for each day, Monday first.

    Example:
        >>> weekday(torch.tensor([0])).argmax().item()  # 1 January 1970 was a Thursday
        3
    """
    days = torch.div(time_us - torch.remainder(time_us, DAY_US), DAY_US, rounding_mode="trunc")
    day = torch.remainder(days + 3, 7)
    return (day.unsqueeze(1) == torch.arange(7)).to(torch.float32)
