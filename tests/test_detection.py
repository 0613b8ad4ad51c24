"""Detection curves against scikit-learn and a slow count."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from kws_imagebind.detection import detect


@pytest.mark.parametrize("seed", range(8))
def test_curve_and_area_equal_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(300) < 0.3
    scores = np.round(rng.normal(truth * 1.0, 1), 1 if seed % 2 else 6)  # with and without ties
    found = detect(scores, truth)
    false_alarms, accepted, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_alarms, false_alarms)
    np.testing.assert_allclose(found.accepted, accepted)
    np.testing.assert_allclose(found.thresholds, thresholds)
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores))
    expected = min(f for f, a in zip(false_alarms, accepted, strict=True) if a >= 0.95)
    assert found.false_alarms_at(0.95) == pytest.approx(expected)
    misses = 1 - accepted
    crossing = np.interp(0, false_alarms - misses, false_alarms)
    assert found.eer == pytest.approx(crossing, abs=1e-9)


def test_toys_can_be_worked_out_by_hand() -> None:
    perfect, useless = detect([3, 2, 1, 0], [1, 1, 0, 0]), detect([0, 0, 0, 0], [1, 0, 1, 0])
    assert (perfect.auroc, perfect.eer, perfect.false_alarms_at()) == (1, 0, 0)
    assert (useless.auroc, useless.eer, useless.false_alarms_at()) == (0.5, 0.5, 1)
    mixed = detect([4, 3, 2, 1], [1, 0, 1, 0])
    assert mixed.auroc == 0.75 and mixed.eer == 0.5 and (mixed.positives, mixed.negatives) == (2, 2)


def test_one_kind_alone_or_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="2 clips to accept, 0 to reject"):
        detect([1, 2], [1, 1])
    with pytest.raises(ValueError, match="1 scores that are nan"):
        detect([1, float("nan")], [1, 0])
