"""Scores of vectors without a compiler, row by row; decides as `kernels`, rounded otherwise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.joint.features import LIMIT
from ciclo_drift.joint.layout import SCALE_JUMP, SCALE_ROWS, SCALE_START

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_drift.joint.features import FeatureMap


def shortened(vector: NDArray[np.float64], core: float, gain: float) -> NDArray[np.float64]:
    """A vector, shortened to the core."""
    return vector * (gain * min(1.0, core / max(float(np.linalg.norm(vector)), 1e-150)))


def features_of(
    row: NDArray[np.float64], fitted: FeatureMap, raw: NDArray[np.float64]
) -> NDArray[np.float64]:
    """See `kernels.features_of`."""
    x = (row - fitted.centre) * fitted.scale
    along = fitted.axes @ x
    white = along / fitted.deviations
    raw[0], raw[1], raw[2:] = white @ white, x @ x - along @ along, white
    z = shortened(np.clip(fitted.turn @ white, -LIMIT, LIMIT), fitted.core, fitted.gain)
    pairs = np.outer(z, z)[np.triu_indices(len(z))]
    parts = [z, pairs, fitted.whiten @ np.cos(fitted.waves @ along + fitted.phases)]
    if fitted.noise > 0.0:
        whole = x / fitted.noise + (white - along / fitted.noise) @ fitted.axes
        parts.append(shortened(whole, fitted.core_all, fitted.gain_all))
    return np.concatenate(parts)


def is_usable(row: NDArray[np.float64], fitted: FeatureMap) -> bool:
    """See `kernels.is_usable`."""
    with np.errstate(over="ignore", invalid="ignore"):
        x = (row - fitted.centre) * fitted.scale
        return bool(np.isfinite(x @ x))


def mean_features(vectors: NDArray[np.float64], fitted: FeatureMap) -> NDArray[np.float64]:
    """See `kernels.mean_features`."""
    raw = np.empty(2 + len(fitted.deviations))
    rows = [row for row in vectors if is_usable(row, fitted)]
    return np.asarray(sum(features_of(row, fitted, raw) for row in rows) / len(rows))


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
    """See `kernels.run`."""
    plain = 2 + len(fitted.deviations)
    for t, row in enumerate(vectors):
        if not is_usable(row, fitted):
            out[t] = np.nan
            continue
        now = features_of(row, fitted, out[t, :plain]) - centre
        rate = 1.0 / min(SCALE_ROWS, SCALE_START + int(count[0]))
        for i, (start, end, memory, power) in enumerate(witnesses):
            seen = recent[memory, start:end] - usual[start:end]
            weights = seen * np.abs(seen) ** (power - 1)
            found = weights @ now[start:end] / math.sqrt(weights @ weights + 1e-300)
            out[t, plain + i] = found / math.sqrt(squares[i])
            if count[0] >= memories[memory]:
                square = min(found * found, SCALE_JUMP * squares[i])
                squares[i] += rate * (square - squares[i])
        count[0] += 1
        recent += (now - recent) / np.minimum(memories, count[0])[:, None]
        usual += (now - usual) / count[0]
