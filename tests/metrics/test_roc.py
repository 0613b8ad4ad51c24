"""Detection curves against scikit-learn and a slow count."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from kws_imagebind.metrics.roc import auroc_interval, detect


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


def test_an_area_of_one_leaves_doubt_and_the_more_the_fewer_the_speakers() -> None:
    truth = np.arange(120) < 60
    few = [f"s{i % 60}" if i < 60 else f"n{i % 6}" for i in range(120)]  # sixty voices against six recordings
    many, from_few = auroc_interval(truth, truth), auroc_interval(truth, truth, few)
    assert many.estimate == many.high == from_few.high == 1 and 0.9 < many.low < 0.95
    assert from_few.low == pytest.approx(6 / (6 + 1.96**2), abs=1e-3)  # Wilson's limit of 6 out of 6


def test_one_recording_to_reject_says_nothing_of_others() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) < 60
    found = auroc_interval(rng.normal(truth, 1), truth, [f"s{i}" if i < 60 else "hum" for i in range(120)])
    assert found.low < 0.05 and found.high > 0.95


def test_the_limits_cover_the_truth_where_one_class_is_of_six_recordings() -> None:
    rng = np.random.default_rng(0)
    voices, each, recordings, crops = 60, 6, 6, 40
    truth = np.arange(voices * each + recordings * crops) < voices * each
    who = [f"s{i // each}" for i in range(voices * each)] + [f"n{i // crops}" for i in range(recordings * crops)]
    area = NormalDist().cdf(2 / (0.25 + 1 + 1 + 0.09) ** 0.5)
    held = 0
    for _ in range(150):
        inside = np.repeat(rng.normal(0, 0.5, voices), each) + rng.normal(0, 1, voices * each)
        outside = np.repeat(rng.normal(0, 1, recordings), crops) + rng.normal(0, 0.3, recordings * crops) - 2
        interval = auroc_interval(np.r_[inside, outside], truth, who, resamples=200)
        held += interval.low <= area <= interval.high
    assert 0.9 <= held / 150 <= 0.99  # pooled degrees of freedom held 76 %
