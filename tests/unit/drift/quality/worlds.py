"""Worlds in which the truth about a classifier is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from ciclo_drift import log_loss
from ciclo_drift.quality import CalibratedQuality, LossRegression, Metric, WeightedQuality

DAYS, PER_DAY = 40, 60


class Rows(NamedTuple):
    columns: dict[str, np.ndarray]
    scores: np.ndarray
    labels: np.ndarray
    days: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        return log_loss(self.scores, self.labels)


def days_of(
    seed: int, days: int = DAYS, *, shift: float = 0.0, concept: float = 0.0, day_sd: float = 0.3
) -> Rows:
    """Scores are monotone in the chance of the label 1, and far from it.

    `shift` moves the inputs; `concept` what they mean; `day_sd` is shared by all rows of a day.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(days * PER_DAY, 2)) + shift * np.array([0.7, 0.4])
    logit = 1.5 * x[:, 0] + x[:, 1] - 0.5
    day = np.repeat(np.arange(days), PER_DAY)
    moved = logit + concept + day_sd * rng.normal(size=days)[day]
    labels = (rng.random(len(day)) < expit(moved)) + 0.0
    scores = expit(0.6 * logit + 0.3)
    return Rows({"a": x[:, 0], "b": x[:, 1], "score": scores}, scores, labels, day)


def calibrated(rows: Rows, **settings) -> CalibratedQuality:
    return CalibratedQuality.fit(rows.scores, rows.labels, blocks=rows.days, **settings)


def regressed(rows: Rows, **settings) -> LossRegression:
    return LossRegression.fit(rows.columns, rows.losses, blocks=rows.days, **settings)


def weighted(rows: Rows, **settings) -> WeightedQuality:
    return WeightedQuality.fit(rows.columns, rows.losses, blocks=rows.days, **settings)


def give(quality, rows: Rows, part: slice = slice(None)) -> None:
    if isinstance(quality, CalibratedQuality):
        quality.update(rows.scores[part])
    else:
        quality.update({name: column[part] for name, column in rows.columns.items()})


def excess(quality, rows: Rows) -> np.ndarray:
    if isinstance(quality, CalibratedQuality):
        return quality.excess(rows.scores, rows.labels, Metric.LOG_LOSS)
    return quality.excess(rows.columns, rows.losses)


def mature(quality, rows: Rows) -> int | None:
    """Feeds matured days; returns the first, of every fifth, when estimates are not valid."""
    over = excess(quality, rows)
    for day in np.unique(rows.days):
        quality.mature(float(over[rows.days == day].sum()), PER_DAY)
        if day % 5 == 4 and not quality.estimate().valid:
            return int(day)
    return None
