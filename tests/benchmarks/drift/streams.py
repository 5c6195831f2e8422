"""The streams that every method is fed: the same rows for all, from fixed seeds."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Reals = NDArray[np.float64]

SEED = 20_261_121

PREFIX_ROWS = 200
"""Rows before a change: a detector is caught in the middle of its work, its windows full."""

CHANGED_ROWS = 2_000
"""Rows after it. Who has not alarmed by then has missed it."""

NULL_LENGTHS = 4
"""Length of a stream without a change, in wanted run lengths."""

CLUSTER_SHARE, CLUSTER_MEAN = 0.05, 4.0


def seeded(*parts: object) -> np.random.Generator:
    """Returns a generator that depends on its arguments only."""
    return np.random.default_rng([SEED, *(zlib.crc32(str(part).encode()) for part in parts)])


@dataclass(frozen=True, slots=True)
class Change:
    """A change of standard normal numbers.

    Args:
        rows: Draws rows after it, of a shape.
        log_ratio: Log density after it less that before, at each value: what the clairvoyant knows.
    """

    rows: Callable[[np.random.Generator, tuple[int, ...]], Reals]
    log_ratio: Callable[[Reals], Reals]


def shift(size: float) -> Change:
    """The mean rises by `size` standard deviations."""
    return Change(
        lambda rng, shape: rng.normal(size, 1.0, shape), lambda x: size * x - size**2 / 2.0
    )


def widening(ratio: float) -> Change:
    """The standard deviation grows `ratio` times."""
    return Change(
        lambda rng, shape: rng.normal(0.0, ratio, shape),
        lambda x: x**2 * (1.0 - ratio**-2) / 2.0 - np.log(ratio),
    )


def cluster(share: float, mean: float) -> Change:
    """A share of the rows comes from N(mean, 1) instead."""
    return Change(
        lambda rng, shape: rng.normal(size=shape) + mean * (rng.random(shape) < share),
        lambda x: np.log1p(share * np.expm1(mean * x - mean**2 / 2.0)),
    )


CHANGES = {
    "mean +.25": shift(0.25),
    "mean +.5": shift(0.5),
    "mean +1": shift(1.0),
    "sd x1.5": widening(1.5),
    "5 % from N(4,1)": cluster(CLUSTER_SHARE, CLUSTER_MEAN),
}


def reference(rows: int, number: int) -> Reals:
    """Reference `number` of so many rows. Shape (rows,)."""
    return seeded("reference", rows, number).normal(size=rows)


def nulls(number: int, count: int, run_length: int) -> Reals:
    """Streams without a change that belong to a reference. Shape (count, rows)."""
    return seeded("null", number).normal(size=(count, NULL_LENGTHS * run_length))


def changed(name: str, number: int, count: int) -> Reals:
    """Streams that change after `PREFIX_ROWS`. Shape (count, PREFIX_ROWS + CHANGED_ROWS)."""
    drawn = []
    for stream in range(count):
        rng = seeded(name, number, stream)
        before = rng.normal(size=PREFIX_ROWS)
        drawn.append(np.concatenate([before, CHANGES[name].rows(rng, (CHANGED_ROWS,))]))
    return np.stack(drawn)


NIGHT_AND_DAY = ((-1.0, 0.7), (1.0, 1.2))
"""Mean and standard deviation of the two phases."""

PHASE_ROWS = 60
"""Rows of a night, and of a day."""

STAYS = ((1, 0.5), (2, 0.25), (4, 0.15), (8, 0.1))
"""Households: rows in a run that repeat one value, and how often a run is so long."""


def independent(rng: np.random.Generator, rows: int) -> Reals:
    """Standard normal numbers."""
    return rng.normal(size=rows)


def autoregressive(memory: float) -> Callable[[np.random.Generator, int], Reals]:
    """AR(1) of unit variance."""

    def draw(rng: np.random.Generator, rows: int) -> Reals:
        steps = rng.normal(0.0, np.sqrt(1.0 - memory**2), rows + 200)
        return np.asarray(lfilter([1.0], [1.0, -memory], steps))[200:]

    return draw


def households(rng: np.random.Generator, rows: int) -> Reals:
    """Every value is repeated in a run of one to eight rows."""
    lengths, shares = np.array(STAYS).T
    stays = rng.choice(lengths.astype(int), size=rows, p=shares)
    return np.repeat(rng.normal(size=rows), stays)[:rows]


def seasonal(rng: np.random.Generator, rows: int) -> Reals:
    """Nights and days in turns."""
    means, deviations = np.array(NIGHT_AND_DAY).T
    phase = np.arange(rows) // PHASE_ROWS % 2
    return means[phase] + deviations[phase] * rng.normal(size=rows)


def season(world: str, rows: int) -> NDArray[np.int64] | None:
    """Phase of each row, 0 at night, of a world that has phases. Shape (rows,)."""
    return np.arange(rows) // PHASE_ROWS % 2 if WORLDS[world] is seasonal else None


WORLDS: dict[str, Callable[[np.random.Generator, int], Reals]] = {
    "i.i.d.": independent,
    "households": households,
    "AR(.5)": autoregressive(0.5),
    "AR(.9)": autoregressive(0.9),
    "day and night": seasonal,
}
"""Streams without a change, for the false-alarm budget."""
