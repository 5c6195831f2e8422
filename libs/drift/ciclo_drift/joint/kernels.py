"""Scores of vectors, row by row, compiled: the same whatever the batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import numba
import numpy as np

from ciclo_drift.joint.features import LIMIT
from ciclo_drift.joint.layout import PAIR_POWER, SCALE_JUMP, SCALE_ROWS, SCALE_START

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.joint.features import FeatureMap

Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(function: Function) -> Function:
    """Compiles on first call; sums may be taken in another order, always the same one."""
    may = {"reassoc", "contract", "nsz"}
    return cast("Function", numba.njit(cache=True, nogil=True, fastmath=may)(function))


@_compiled
def product(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix times vector, in an order that does not depend on who else is in the batch."""
    out = np.empty(matrix.shape[0])
    for i in range(matrix.shape[0]):
        row = matrix[i]
        total = 0.0
        for j in range(matrix.shape[1]):
            total += row[j] * vector[j]
        out[i] = total
    return out


@_compiled
def shortened(vector: NDArray[np.float64], core: float, gain: float) -> float:
    """Factor that shortens a vector to the core."""
    square = 0.0
    for i in range(vector.shape[0]):
        square += vector[i] * vector[i]
    return gain * min(1.0, core / math.sqrt(max(square, 1e-300)))


@_compiled
def features_of(
    row: NDArray[np.float64], fitted: FeatureMap, raw: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Features of a row, and its plain scores.

    Args:
        row: Shape (d,).
        fitted: The map.
        raw: Mahalanobis distance squared, residual square, components. Shape (2 + k,). Changed.

    Returns:
        z; products of its pairs; Fourier features; the whitened row where d > k.
    """
    x = (row - fitted.centre) * fitted.scale
    along = product(fitted.axes, x)
    white = along / fitted.deviations
    raw[0] = np.sum(white * white)
    raw[1] = np.sum(x * x) - np.sum(along * along)
    raw[2:] = white
    z = product(fitted.turn, white)
    for i in range(len(z)):
        z[i] = min(max(z[i], -LIMIT), LIMIT)
    z *= shortened(z, fitted.core, fitted.gain)
    q = len(z)
    waves = product(fitted.whiten, np.cos(product(fitted.waves, along) + fitted.phases))
    pairs_end = q + q * (q + 1) // 2
    waves_end = pairs_end + len(waves)
    out = np.empty(waves_end + (len(x) if fitted.noise > 0.0 else 0))
    out[:q] = z
    at = q
    for i in range(q):
        for j in range(i, q):
            out[at + j - i] = z[i] * z[j]
        at += q - i
    out[pairs_end:waves_end] = waves
    if fitted.noise > 0.0:
        x /= fitted.noise
        for i in range(len(along)):
            axis, pull = fitted.axes[i], white[i] - along[i] / fitted.noise
            for j in range(len(x)):
                x[j] += pull * axis[j]
        out[waves_end:] = x * shortened(x, fitted.core_all, fitted.gain_all)
    return out


@_compiled
def score(
    recent: NDArray[np.float64], usual: NDArray[np.float64], now: NDArray[np.float64], power: int
) -> float:
    """How far a row lies in the direction in which recent rows have moved."""
    along, square = 0.0, 0.0
    for i in range(now.shape[0]):
        weight = recent[i] - usual[i]
        if power == PAIR_POWER:
            weight *= abs(weight * weight * weight)
        along += weight * now[i]
        square += weight * weight
    return along / math.sqrt(square + 1e-300)


@_compiled
def is_usable(row: NDArray[np.float64], fitted: FeatureMap) -> bool:
    """Whether a row has a length: no NaN, no infinity, nothing whose square overflows."""
    square = 0.0
    for i in range(row.shape[0]):
        x = (row[i] - fitted.centre[i]) * fitted.scale[i]
        square += x * x
    return bool(np.isfinite(square))


@_compiled
def mean_features(vectors: NDArray[np.float64], fitted: FeatureMap) -> NDArray[np.float64]:
    """Mean of the features over the usable rows. Shape (L,)."""
    raw = np.empty(2 + len(fitted.deviations))
    total = 0.0 * features_of(fitted.centre, fitted, raw)
    rows = 0
    for t in range(len(vectors)):
        if is_usable(vectors[t], fitted):
            total += features_of(vectors[t], fitted, raw)
            rows += 1
    return total / rows


@_compiled
def run(
    vectors: NDArray[np.float64],
    fitted: FeatureMap,
    witnesses: NDArray[np.int64],
    memories: NDArray[np.float64],
    centre: NDArray[np.float64],
    recent: NDArray[np.float64],
    usual: NDArray[np.float64],
    squares: NDArray[np.float64],
    count: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Scores rows in order.

    Args:
        vectors: Shape (n, d). Rows that are not usable score NaN and change nothing.
        fitted: The map.
        witnesses: See `layout.Witness`. Shape (W, 4).
        memories: Rows over which what was seen fades. Shape (H,).
        centre: Mean of the features over the rows that the map was fitted on. Shape (L,).
        recent: Fading means of the features less `centre`. Shape (H, L). Changed.
        usual: Their mean over all rows scored. Shape (L,). Changed.
        squares: Mean square of each witness's scores. Shape (W,). Changed.
        count: Rows scored. Shape (1,). Changed.
        out: Plain scores, then those of the witnesses. Shape (n, 2 + k + W). Changed.
    """
    plain = 2 + len(fitted.deviations)
    for t in range(len(vectors)):
        if not is_usable(vectors[t], fitted):
            out[t] = np.nan
            continue
        now = features_of(vectors[t], fitted, out[t, :plain])
        now -= centre
        rate = 1.0 / min(SCALE_ROWS, SCALE_START + count[0])
        for i in range(len(witnesses)):
            start, end, memory, power = witnesses[i]
            found = score(recent[memory, start:end], usual[start:end], now[start:end], power)
            out[t, plain + i] = found / math.sqrt(squares[i])
            if count[0] >= memories[memory]:
                square = min(found * found, SCALE_JUMP * squares[i])
                squares[i] += rate * (square - squares[i])
        count[0] += 1
        for h in range(len(memories)):
            recent[h] += (now - recent[h]) / min(memories[h], count[0])
        usual += (now - usual) / count[0]
