"""The loss of a probability and the loss it expects of itself, for a promise and for its test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_PROBABILITY = 1e-7
"""Probabilities are kept this far from 0 and 1: the resolution of a float32 near 1. Without it one
certain and wrong answer would be an infinite loss."""


def log_loss(scores: NDArray[np.floating], labels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the loss of each row [n], in nats; NaN where the label is unknown.

    Args:
        scores: Probabilities of the label 1 [n].
        labels: 0 or 1 [n]; NaN: unknown.

    Example:
        >>> log_loss(np.array([0.5, 0.9]), np.array([1.0, 1.0])).round(3)
        array([0.693, 0.105])
    """
    p = _kept_apart(scores)
    known = labels.astype(np.float64)
    return np.asarray(-(known * np.log(p) + (1 - known) * np.log1p(-p)))


def expected_log_loss(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the loss that a calibrated model expects of each row [n]: its entropy, in nats."""
    p = _kept_apart(scores)
    return np.asarray(-(p * np.log(p) + (1 - p) * np.log1p(-p)))


def _kept_apart(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.clip(scores.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
