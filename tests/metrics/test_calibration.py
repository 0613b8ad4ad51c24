"""Calibration against torchmetrics, scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from kws_imagebind.metrics.calibration import calibration, fit_temperature, probabilities, reliability


def _scores(seed: int, classes: int = 7, n: int = 400, scale: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Cosines whose best temperature is near `scale`; class 0 is absent."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    shares = softmax(logits, axis=1)
    shares[:, 0] = 0
    shares /= shares.sum(1, keepdims=True)
    return logits * scale, np.array([rng.choice(classes, p=row) for row in shares])


@pytest.mark.parametrize("seed", range(5))
def test_error_and_brier_equal_torchmetrics_and_scikit_learns(seed: int) -> None:
    scores, targets = _scores(seed)
    found = calibration(scores, targets, 0.07)
    shares = softmax(scores / 0.07, axis=1)
    np.testing.assert_allclose(probabilities(scores, 0.07), shares)
    theirs = multiclass_calibration_error(
        torch.from_numpy(shares), torch.from_numpy(targets), num_classes=7, n_bins=15, norm="l1"
    )
    assert found.ece == pytest.approx(float(theirs), abs=1e-6)
    each = [brier_score_loss(targets == index, shares[:, index], pos_label=True) for index in range(7)]
    assert found.brier == pytest.approx(sum(each))
    assert sum(b.n for b in found.bins) == 400
    assert sum(b.hits for b in found.bins) == int((scores.argmax(1) == targets).sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_is_the_one_scipy_finds(seed: int) -> None:
    scores, targets = _scores(seed)

    def loss(logarithm: float) -> float:
        return -float(log_softmax(scores / np.exp(logarithm), axis=1)[np.arange(len(targets)), targets].mean())

    expected = np.exp(minimize_scalar(loss, bounds=(-6, 3), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature(scores, targets) == pytest.approx(expected, rel=1e-4)


def test_a_fitted_temperature_calibrates_other_clips() -> None:
    scores, targets = _scores(0, n=3_000)
    temperature = fit_temperature(scores[:1_500], targets[:1_500])
    fitted = calibration(scores[1_500:], targets[1_500:], temperature)
    assert fitted.ece < 0.05 and fitted.ece < calibration(scores[1_500:], targets[1_500:], temperature / 4).ece / 3


def test_extremes_end_at_the_bounds() -> None:
    assert fit_temperature(np.eye(3), [0, 1, 2]) < 1e-3
    assert fit_temperature(np.eye(3), [1, 2, 0]) > 1e3
    with pytest.raises(ValueError, match="temperature 0; expected a number above 0"):
        probabilities([[1.0]], 0)


def test_bounds_of_the_bins_are_kept() -> None:
    found = reliability([0.0, 1.0, 1 / 15], [0, 1, 0])
    assert [(each.n, each.hits) for each in found.bins] == [(2, 0), (1, 1)]
