"""What is looked at in a vector: a map from rows to features, fitted on reference rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES = 32
"""Principal axes that are kept, at most."""

ROWS_PER_AXIS = 15
"""Rows that an axis needs: fewer whiten noise."""

LEAST_FIT_ROWS = 100
"""Rows without NaN or infinity that a map is fitted on, at least."""

FLAT = 1e-9
"""Share of the largest variance below which an axis counts as constant."""

LEAST_RATIO = 0.1
"""Share of an axis's length in the rows that chose it below which it is not taken for shorter: a
dimension that seldom moves may not do so in the others."""

WAVES = 128
"""Random Fourier features."""

WAVES_KEPT = 48
"""Their leading axes, which are whitened."""

WAVES_FLAT = 1e-3
"""Share of the largest variance below which such an axis is noise."""

BANDWIDTH = 0.7
"""Width of the kernel that they stand for, in median distances of two rows."""

LIMIT = 2.0
"""Standard deviations with which a coordinate counts in a witness, at most."""

CORE = 0.25
"""Share of rows within the radius to which longer ones are shortened. What is left is mostly
direction: with full lengths, heavy tails gave seven times the budget."""


MANY_AXES = 8
"""Axes from which on directions say enough: with fewer, lengths are kept, and squares and products
have no witness, since sums of a few are far from normal. With two axes that gave six times the
budget."""


class FeatureMap(NamedTuple):
    """A map from rows to features, fitted on reference rows; a tuple, as the compiler takes it.

    A row v becomes x = (v - centre) * scale, then c = axes x, then z = turn (c / deviations).

    Args:
        centre: Means. Shape (d,).
        scale: 1 / standard deviations; 0 for constant dimensions, which are left out. Shape (d,).
        axes: Principal axes of x. Shape (k, d).
        deviations: Standard deviations along them. Shape (k,).
        turn: Turns whitened coordinates back to the dimensions where there are at most `AXES`,
            so that the change of one pair is one feature; else identity. Shape (q, k).
        noise: Standard deviation of x along any other axis; 0 where none is left.
        core: Radius to which longer z are shortened.
        gain: Factor that gives the result unit variances.
        core_all: The same for the whitened row of d dimensions.
        gain_all: The same for it.
        waves: Frequencies of the Fourier features of c. Shape (WAVES, k).
        phases: Their phases. Shape (WAVES,).
        whiten: Their whitened leading axes. Shape (w, WAVES).

    Reference:
        A. Rahimi, B. Recht, "Random features for large-scale kernel machines", NIPS 2007;
        S. Visuri, V. Koivunen, H. Oja, "Sign and rank covariance matrices", Journal of
        Statistical Planning and Inference 91 (2000): directions instead of lengths.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]
    deviations: NDArray[np.float64]
    turn: NDArray[np.float64]
    noise: float
    core: float
    gain: float
    core_all: float
    gain_all: float
    waves: NDArray[np.float64]
    phases: NDArray[np.float64]
    whiten: NDArray[np.float64]


def fit_map(vectors: NDArray[np.float64], seed: int) -> tuple[FeatureMap, NDArray[np.float64]]:
    """Fits the map.

    Args:
        vectors: Reference rows; those with NaN or infinity are left out. Shape (m, d).
        seed: Seed of the Fourier features.

    Returns:
        The map, and the rows that did not choose its axes, on which to measure it. Shape (r, d).

    Raises:
        DriftInputError: Fewer than `LEAST_FIT_ROWS` rows are left, or fewer than two dimensions
            vary on their own.
    """
    rows = vectors[np.isfinite(vectors).all(axis=1)]
    centre, scale = _standards(rows)
    scaled = (rows - centre) * scale
    # Axes that are measured on the rows that chose them seem longer than they are.
    choosing, scaled = scaled[::2], scaled[1::2]
    variances, basis = np.linalg.eigh(choosing.T @ choosing / len(choosing))
    rank = int((variances > FLAT * variances[-1]).sum())
    if rank < 2:
        found = "1 that varies on its own"
        raise DriftInputError("dimensions", found, "two or more; watch one with a RankBank")
    kept = min(AXES, len(rows) // ROWS_PER_AXIS, rank)
    axes = np.ascontiguousarray(basis[:, : -kept - 1 : -1].T)
    along = scaled @ axes.T
    deviations = np.maximum(along.std(axis=0), LEAST_RATIO * np.sqrt(variances[: -kept - 1 : -1]))
    few = scaled.shape[1] <= AXES and kept == rank
    turn = np.ascontiguousarray(axes.T) if few else np.eye(kept)
    core, gain = _shortening(np.clip((along / deviations) @ turn.T, -LIMIT, LIMIT), kept)
    noise, core_all, gain_all = 0.0, 0.0, 0.0
    if kept < rank:
        left = float((scaled**2).sum() - (along**2).sum()) / len(scaled)
        noise = math.sqrt(left / (scaled.shape[1] - kept))
        whole = scaled / noise + (along / deviations - along / noise) @ axes
        core_all, gain_all = _shortening(whole, whole.shape[1])
    fitted = FeatureMap(
        centre, scale, axes, deviations, turn, noise, core, gain, core_all, gain_all,
        *_fit_waves(along, np.random.default_rng(seed)),
    )  # fmt: skip
    return fitted, np.ascontiguousarray(rows[1::2])


def _standards(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means, and 1 / standard deviations with 0 for constant dimensions. Shape (d,) each."""
    if len(rows) < LEAST_FIT_ROWS:
        found = f"{len(rows)} rows without NaN or infinity in one half"
        raise DriftInputError("vectors", found, f"at least {LEAST_FIT_ROWS} in each half")
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    varies = spread > FLAT * np.maximum(np.abs(centre), 1e-300)
    if not bool(varies.any()):
        raise DriftInputError("vectors", "the same value in all rows", "rows that vary")
    return centre, np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)


def _shortening(whitened: NDArray[np.float64], rank: int) -> tuple[float, float]:
    """Radius to which rows are shortened, and what gives the result `rank` unit variances."""
    radii = np.sqrt((whitened**2).sum(axis=1))
    core = float(np.quantile(radii, CORE if rank >= MANY_AXES else 1.0))
    return core, math.sqrt(rank / max(float((np.minimum(radii, core) ** 2).mean()), 1e-100))


def _fit_waves(
    along: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies, phases and whitening of the Fourier features; see `FeatureMap`."""
    first, second = rng.integers(0, len(along), (2, 2_000))
    apart = np.sqrt(((along[first] - along[second]) ** 2).sum(axis=1))
    width = BANDWIDTH * float(np.median(apart[first != second]))
    waves = rng.normal(size=(WAVES, along.shape[1])) / max(width, 1e-300)
    phases = rng.uniform(0.0, 2.0 * math.pi, WAVES)
    values = np.cos(along @ waves.T + phases)
    values -= values.mean(axis=0)
    variances, basis = np.linalg.eigh(values.T @ values / len(values))
    kept = min(WAVES_KEPT, int((variances > WAVES_FLAT * variances[-1]).sum()), len(along) // 10)
    whiten = basis[:, -kept:] / np.sqrt(variances[-kept:])
    return waves, phases, np.ascontiguousarray(whiten.T)
