"""Scores alone tell the performance of a classifier, as long as they mean what they meant."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from tests.unit.drift.quality.worlds import Rows, calibrated, days_of, give

from ciclo_drift import DriftInputError, expected_log_loss
from ciclo_drift.quality import CalibratedQuality, Metric

SCORES = np.linspace(0.0, 1.0, 400)
LABELS = np.tile([0.0, 1.0, 1.0, 0.0], 100)


def realised(metric: Metric, rows: Rows) -> float:
    scores, labels = rows.scores, rows.labels
    wrong = float(((scores >= 0.5) != (labels == 1.0)).mean())
    return {
        Metric.LOG_LOSS: float(-np.log(np.where(labels == 1.0, scores, 1.0 - scores)).mean()),
        Metric.BRIER: float(((scores - labels) ** 2).mean()),
        Metric.ERROR_RATE: wrong,
        Metric.ACCURACY: 1.0 - wrong,
        Metric.POSITIVE_RATE: float(labels.mean()),
    }[metric]


def test_every_metric_lies_in_its_interval_after_the_inputs_moved():
    inside = dict.fromkeys(Metric, 0)
    for seed in range(200):
        quality, rows = calibrated(days_of(seed)), days_of(1_000 + seed, 8, shift=0.8)
        give(quality, rows)
        for metric in Metric:
            found = quality.estimate(metric)
            inside[metric] += found.lower <= realised(metric, rows) <= found.upper

    assert min(inside.values()) >= 0.9 * 200


def test_scores_taken_at_their_word_would_have_been_wrong():
    estimated, at_their_word = [], []
    for seed in range(20):
        quality, rows = calibrated(days_of(seed)), days_of(100 + seed, 20, shift=0.8)
        give(quality, rows)
        estimated.append(abs(quality.estimate().value - rows.losses.mean()))
        at_their_word.append(abs(expected_log_loss(rows.scores).mean() - rows.losses.mean()))

    assert np.mean(at_their_word) > 3.0 * np.mean(estimated)


def test_a_shift_in_what_scores_do_not_say_is_shown_by_matured_labels():
    rng = np.random.default_rng(0)

    def rows(count: int, hidden: float) -> tuple[np.ndarray, np.ndarray]:
        x, z = rng.normal(size=(2, count))
        labels = (rng.random(count) < expit(x + 2.0 * (z + hidden))) + 0.0
        return expit(x), labels

    quality = CalibratedQuality.fit(*rows(4_000, 0.0))
    scores, labels = rows(2_000, 0.8)
    quality.update(scores)
    assert quality.estimate().valid
    for metric in (Metric.POSITIVE_RATE, Metric.LOG_LOSS):
        for part in quality.excess(scores, labels, metric).reshape(20, 100):
            quality.mature(float(part.sum()), 100, metric)

    found, truth = quality.estimate(Metric.POSITIVE_RATE), labels.mean()
    assert not found.lower <= truth <= found.upper
    assert not found.valid
    assert quality.estimate(Metric.LOG_LOSS).valid, "which this shift leaves as it was"


def test_accuracy_mirrors_the_error_rate():
    quality = calibrated(days_of(0))
    give(quality, days_of(1, 8))
    wrong, right = quality.estimate(Metric.ERROR_RATE), quality.estimate(Metric.ACCURACY)

    assert right.value == 1.0 - wrong.value
    assert (right.lower, right.upper) == (1.0 - wrong.upper, 1.0 - wrong.lower)
    assert quality.reconcile(right, right.value).inside


def test_a_useless_score_is_worth_the_base_rate():
    rng = np.random.default_rng(0)
    labels = (rng.random(4_000) < 0.3) + 0.0
    quality = CalibratedQuality.fit(rng.random(4_000), labels, threshold=1.0)
    quality.update(rng.random(1_000))

    assert quality.estimate(Metric.ERROR_RATE).value == pytest.approx(0.3, abs=0.02)


def test_scores_of_two_values_are_calibrated_too():
    rng = np.random.default_rng(0)
    scores = np.where(rng.random(4_000) < 0.5, 0.2, 0.7)
    labels = (rng.random(4_000) < np.where(scores > 0.5, 0.9, 0.1)) + 0.0
    quality = CalibratedQuality.fit(scores, labels)
    quality.update(np.full(500, 0.7))

    assert quality.estimate(Metric.ERROR_RATE).value == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ([0.1, np.nan], "nan at position 1"),
        ([np.inf, 0.2], "inf at position 0"),
        ([0.1, 1.5], "1.5 at position 1"),
        ([-0.1, 0.5], "-0.1 at position 0"),
        ([[0.1], [0.2]], r"shape \(2, 1\)"),
        (["high", "low"], "values that are not numbers"),
    ],
)
def test_scores_that_are_no_probabilities_are_refused_and_not_counted(scores, found: str):
    quality = CalibratedQuality.fit(SCORES, LABELS)

    with pytest.raises(DriftInputError, match=f"scores: {found}"):
        quality.update(scores)

    assert quality.estimate().rows == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(400), "labels: 0 in every row; expected labels that vary"),
        (np.ones(400), "labels: 1 in every row; expected labels that vary"),
        (np.full(400, np.nan), "labels: nan at position 0"),
        (np.full(400, 2.0), "labels: 2 at position 0; expected 0 or 1: leave rows without"),
        (np.zeros(3), r"labels: shape \(3,\); expected the shape of scores, \(400,\)"),
    ],
)
def test_labels_that_teach_nothing_are_refused(labels: np.ndarray, message: str):
    with pytest.raises(DriftInputError, match=message):
        CalibratedQuality.fit(SCORES, labels)


def test_a_constant_score_and_no_rows_are_refused():
    with pytest.raises(DriftInputError, match=r"scores: 0.5 in every row"):
        CalibratedQuality.fit(np.full(400, 0.5), LABELS)
    with pytest.raises(DriftInputError, match="reference: 0 rows; expected at least 200"):
        CalibratedQuality.fit(np.empty(0), np.empty(0))
