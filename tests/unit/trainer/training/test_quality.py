"""Measures are the usual ones; intervals cover what they say although rows of a day go together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ciclo_trainer.training.quality import compare


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), ties=st.booleans())
def test_values_are_those_of_the_usual_definitions(seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    score = random.uniform(0.01, 0.99, 200).astype(np.float32)
    score = score.round(1).clip(0.1, 0.9).astype(np.float32) if ties else score
    label = (random.random(200) < score).astype(np.float32)
    label[:2] = 0, 1

    model = compare(label, random.integers(0, 7, 200), score).model

    assert model.auc.value == pytest.approx(roc_auc_score(label, score), abs=1e-9)
    assert model.log_loss.value == pytest.approx(log_loss(label, score), abs=1e-6)
    assert model.brier.value == pytest.approx(brier_score_loss(label, score), abs=1e-6)


@pytest.mark.parametrize("blocks", [5, 10, 30])
def test_intervals_cover_the_truth_although_rows_of_a_day_go_together(blocks: int) -> None:
    random = np.random.default_rng(blocks)
    score = np.full(blocks * 30, 0.3, np.float32)
    of_row = np.repeat(np.arange(blocks), 30)
    truth = -(0.35 * np.log(0.3) + 0.65 * np.log(0.7))  # labels are 1 at .15 … .55, on average .35

    hits = 0
    for _ in range(300):
        by_day = random.uniform(0.15, 0.55, blocks)
        label = (random.random(len(score)) < by_day[of_row]).astype(np.float32)
        found = compare(label, of_row, score).model.log_loss
        hits += found.low <= truth <= found.high

    assert 0.91 <= hits / 300 <= 0.985  # .95, give or take three standard errors


def test_two_equal_models_differ_by_nothing() -> None:
    random = np.random.default_rng(0)
    score = random.random(500).astype(np.float32)
    label = (random.random(500) < score).astype(np.float32)

    difference = compare(label, np.arange(500) // 50, score, score).difference

    assert difference.log_loss.low == difference.log_loss.high == 0
    assert difference.auc.value == 0


def test_a_worse_model_is_told_from_noise_in_pairs() -> None:
    random = np.random.default_rng(0)
    block = np.arange(6000) // 300
    score = random.uniform(0.1, 0.9, 6000).astype(np.float32)
    by_day = random.uniform(-0.15, 0.15, 20)[block]
    label = (random.random(6000) < score + by_day).astype(np.float32)
    worse = np.clip(score + random.choice([-0.06, 0.06], 6000), 0.01, 0.99).astype(np.float32)

    compared = compare(label, block, worse, score)

    assert compared.difference.log_loss.low > 0
    assert compared.difference.auc.high < 0
    assert compared.model.log_loss.low < compared.champion.log_loss.high


def test_what_cannot_be_told_is_none() -> None:
    score = np.array([0.2, 0.4], np.float32)

    model = compare(np.array([0, 0], np.float32), np.array([1, 1]), score).model

    assert model.auc.value is None
    assert model.log_loss.value is not None
    assert model.log_loss.low is None


def test_a_calibrated_score_has_a_small_error_and_a_shifted_one_its_shift() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.1, 0.7, 50_000).astype(np.float32)
    label = (random.random(50_000) < truth).astype(np.float32)
    block = np.arange(50_000) // 5_000

    assert compare(label, block, truth).model.calibration_error.value < 0.02
    shifted = compare(label, block, truth + np.float32(0.2)).model.calibration_error.value
    assert shifted == pytest.approx(0.2, abs=0.02)
