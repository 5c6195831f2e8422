"""Binary classification: what can be estimated of it, and scores and labels that are usable."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.blocks import finite_vector
from ciclo_drift.errors import DriftInputError
from ciclo_drift.losses import log_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Metric(StrEnum):
    """What is estimated of a binary classifier; means over rows."""

    LOG_LOSS = "log_loss"
    """Of the score as probability of the label 1, in nats."""
    BRIER = "brier"
    """Squared distance of score and label."""
    ERROR_RATE = "error_rate"
    """Share of rows on the wrong side of the decision threshold."""
    POSITIVE_RATE = "positive_rate"
    """Share of rows with the label 1."""
    ACCURACY = "accuracy"
    """1 - error rate."""


LOSSES = (Metric.LOG_LOSS, Metric.BRIER, Metric.ERROR_RATE, Metric.POSITIVE_RATE)
"""What is summed; accuracy follows from the error rate."""


def losses_of(
    scores: NDArray[np.float64], labels: NDArray[np.float64], threshold: float
) -> NDArray[np.float64]:
    """Each of `LOSSES` for labelled rows. Shape (4, n)."""
    wrong = (scores >= threshold) != (labels > 0.5)
    return np.stack([log_loss(scores, labels), (scores - labels) ** 2, wrong, labels])


def loss_number(metric: Metric) -> int:
    """Place of a metric, or of what it follows from, in `LOSSES`."""
    return LOSSES.index(Metric.ERROR_RATE if metric is Metric.ACCURACY else metric)


def as_scores(values: object) -> NDArray[np.float64]:
    """Scores as numbers. Shape (n,).

    Raises:
        DriftInputError: Not finite numbers in [0, 1].
    """
    scores = finite_vector("scores", values, least=0)
    bad = np.flatnonzero((scores < 0.0) | (scores > 1.0))
    if len(bad):
        found = f"{scores[bad[0]]:g} at position {bad[0]}"
        raise DriftInputError("scores", found, "probabilities in [0, 1]")
    return scores


def as_labels(values: object, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Labels as numbers. Shape (n,).

    Raises:
        DriftInputError: Not of `shape`, or neither 0 nor 1.
    """
    labels = finite_vector("labels", values, least=0)
    if labels.shape != shape:
        raise DriftInputError("labels", f"shape {labels.shape}", f"the shape of scores, {shape}")
    bad = np.flatnonzero((labels != 0.0) & (labels != 1.0))
    if len(bad):
        found = f"{labels[bad[0]]:g} at position {bad[0]}"
        raise DriftInputError("labels", found, "0 or 1: leave rows without a label out")
    return labels
