"""Detection curves against scikit-learn and a slow count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearns_roc_curve

from benchmarks import coverage
from kws_imagebind.metrics.roc import auroc_interval, roc_curve


@pytest.mark.parametrize("seed", range(8))
def test_curve_and_area_equal_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(300) < 0.3
    scores = np.round(rng.normal(truth * 1.0, 1), 1 if seed % 2 else 6)  # with and without ties
    found = roc_curve(scores, truth)
    false_alarms, accepted, thresholds = sklearns_roc_curve(truth, scores, drop_intermediate=False)
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
    perfect, useless = roc_curve([3, 2, 1, 0], [1, 1, 0, 0]), roc_curve([0, 0, 0, 0], [1, 0, 1, 0])
    assert (perfect.auroc, perfect.eer, perfect.false_alarms_at()) == (1, 0, 0)
    assert (useless.auroc, useless.eer, useless.false_alarms_at()) == (0.5, 0.5, 1)
    mixed = roc_curve([4, 3, 2, 1], [1, 0, 1, 0])
    assert mixed.auroc == 0.75 and mixed.eer == 0.5 and (mixed.positives, mixed.negatives) == (2, 2)


def test_one_kind_alone_or_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="2 clips to accept, 0 to reject"):
        roc_curve([1, 2], [1, 1])
    with pytest.raises(ValueError, match="1 scores that are nan"):
        roc_curve([1, float("nan")], [1, 0])


def test_an_area_of_one_leaves_doubt_and_the_more_the_fewer_the_speakers() -> None:
    truth = np.arange(120) < 60
    few = [f"s{i % 60}" if i < 60 else f"n{i % 6}" for i in range(120)]  # sixty voices against six recordings
    many, from_few = auroc_interval(truth, truth), auroc_interval(truth, truth, few)
    assert many.estimate == many.high == from_few.high == 1 and 0.8 < from_few.low < many.low < 0.95


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 20), st.integers(1, 20), st.data())
def test_one_inverted_pair_moves_the_limits_by_what_it_is_worth(
    voices: int, recordings: int, clips: int, crops: int, data: st.DataObject
) -> None:
    """An area of 1.0 read [0.61, 1] once, and with one inverted pair [0.9987, 1]."""
    inside, outside = voices * clips, recordings * crops
    truth = np.arange(inside + outside) < inside
    who = [i // clips if i < inside else -1 - (i - inside) // crops for i in range(inside + outside)]
    scores = truth.astype(float)
    lost, heard = data.draw(st.integers(0, inside - 1)), data.draw(st.integers(inside, inside + outside - 1))
    perfect = auroc_interval(scores, truth, who)
    scores[lost], scores[heard] = 0.4, 0.5
    inverted = auroc_interval(scores, truth, who)
    assert inverted.estimate == pytest.approx(1 - 1 / inside / outside)
    assert inverted.low <= perfect.low + 1e-12 and inverted.high <= perfect.high == 1
    assert perfect.low - inverted.low < 10 / (inside * outside)


@pytest.mark.parametrize("seed", range(3))
def test_the_variance_of_the_area_is_that_of_drawing_speakers(seed: int) -> None:
    """Voices on both sides, so that a loud speaker ties the keywords' scores to the other words'."""
    rng = np.random.default_rng(seed)
    who, truth = np.repeat(np.arange(150), 8), np.tile([1, 1, 1, 1, 0, 0, 0, 0], 150).astype(bool)
    scores = rng.normal(0, 0.7, 150)[who] + rng.normal(truth * 1.2, 1)
    clips = [np.flatnonzero(who == speaker) for speaker in range(150)]
    areas = []
    for _ in range(400):
        kept = np.concatenate([clips[i] for i in rng.integers(150, size=150)])
        areas.append(roc_auc_score(truth[kept], scores[kept]))
    found = auroc_interval(scores, truth, who.tolist())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(areas), rel=0.2)


def test_one_recording_to_reject_says_nothing_of_others() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) < 60
    found = auroc_interval(rng.normal(truth, 1), truth, [f"s{i}" if i < 60 else "hum" for i in range(120)])
    assert found.low < 0.05 and found.high > 0.95


def test_the_limits_cover_the_truth_where_one_class_is_of_six_recordings() -> None:
    for area in (0.9, 0.97):
        share, _ = coverage.covered_auroc(6, area, 0.9, trials=150)
        assert share >= 0.91  # one standard error is 0.018; pooled degrees of freedom held 76 %
