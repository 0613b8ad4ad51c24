"""Pair metrics against scikit-learn, a slow bootstrap and data whose rates are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks import coverage
from kws_imagebind.metrics.pairs import pair_metrics


def _table(seed: int, n: int = 200, keywords: int = 6, decimals: int = 8) -> tuple[np.ndarray, np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    targets, who = rng.integers(0, keywords, n), rng.integers(0, 12, n)
    scores = rng.normal(0, 1, (n, keywords)) + rng.normal(0, 0.5, 12)[who][:, None]
    scores[np.arange(n), targets] += 2
    return np.round(scores, decimals), targets, who.tolist()


def _eer(truth: np.ndarray, scores: np.ndarray) -> float:
    """The crossing of misses and false alarms, by root finding on scikit-learn's curve."""
    false_alarms, accepted, _ = roc_curve(truth, scores, drop_intermediate=False)
    return float(brentq(lambda x: 1 - x - np.interp(x, false_alarms, accepted), 0, 1))


@pytest.mark.parametrize("seed", range(6))
def test_pooled_rates_equal_scikit_learns(seed: int) -> None:
    scores, targets, who = _table(seed, decimals=1 if seed % 2 else 8)
    truth = np.eye(scores.shape[1], dtype=bool)[targets]
    found = pair_metrics(scores, targets, who)
    assert found.auc.estimate == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()))
    if seed % 2 == 0:  # without ties the curve rises step by step, so that the crossing is one point
        assert found.eer.estimate == pytest.approx(_eer(truth.ravel(), scores.ravel()), abs=1e-9)
    assert (found.curve.positives, found.curve.negatives) == (200, 1000)
    assert found.eer.low < found.eer.estimate < found.eer.high and found.auc.low < found.auc.estimate < found.auc.high
    assert (found.speakers, found.keywords, found.eer.n) == (12, 6, 200)


def test_the_spread_is_that_of_drawing_speakers_one_by_one() -> None:
    scores, targets, who = _table(1, n=3_000, keywords=4)
    codes = (np.array(who) * 17 + np.arange(3_000)) % 204  # many speakers, so that the prior says little
    clips = [np.flatnonzero(codes == speaker) for speaker in range(204)]
    truth = np.eye(4, dtype=bool)[targets]
    rng, rates, areas = np.random.default_rng(0), [], []
    for _ in range(200):
        kept = np.concatenate([clips[i] for i in rng.integers(204, size=204)])
        rates.append(_eer(truth[kept].ravel(), scores[kept].ravel()))
        areas.append(roc_auc_score(truth[kept].ravel(), scores[kept].ravel()))
    found = pair_metrics(scores, targets, codes.tolist())
    for interval, slow in ((found.eer, rates), (found.auc, areas)):
        assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * np.std(slow), rel=0.25)


def test_normal_scores_have_the_rates_that_the_normal_says() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(0, 1, (20_000, 10)), rng.integers(0, 10, 20_000)
    scores[np.arange(20_000), targets] += 3
    found = pair_metrics(scores, targets)
    assert found.eer.estimate == pytest.approx(norm.cdf(-1.5), abs=0.003)
    assert found.auc.estimate == pytest.approx(norm.cdf(3 / np.sqrt(2)), abs=0.002)
    assert found.eer.method == "clip-bootstrap" and found.speakers == 0


@pytest.mark.parametrize("eer", [0.1, 0.01])
def test_the_limits_cover_the_truth(eer: float) -> None:
    for share, _ in coverage.covered_pairs(12, eer, trials=60).values():
        assert share >= 0.88  # one standard error is 0.028


def test_perfect_scores_leave_doubt_and_chance_is_one_half() -> None:
    targets = np.arange(60) % 3
    perfect = pair_metrics(np.eye(3)[targets], targets, [i // 6 for i in range(60)])
    assert (perfect.eer.estimate, perfect.eer.low, perfect.auc.estimate, perfect.auc.high) == (0, 0, 1, 1)
    assert 0.02 < perfect.eer.high < 0.3 and 0.7 < perfect.auc.low < 0.98
    useless = pair_metrics(np.zeros((60, 3)), targets, [i // 6 for i in range(60)])
    assert useless.eer.estimate == useless.auc.estimate == 0.5


def test_order_of_clips_and_keywords_changes_no_estimate_and_a_seed_repeats() -> None:
    scores, targets, who = _table(2)
    found = pair_metrics(scores, targets, who)
    assert pair_metrics(scores, targets, who).as_dict() == found.as_dict()
    clips, words = np.random.default_rng(0).permutation(200), np.array([3, 1, 5, 0, 2, 4])
    again = pair_metrics(scores[clips][:, words], np.argsort(words)[targets[clips]], [who[i] for i in clips])
    assert again.eer.estimate == pytest.approx(found.eer.estimate)
    assert again.auc.estimate == pytest.approx(found.auc.estimate)
    assert again.eer.high == pytest.approx(found.eer.high, rel=0.1)  # other draws
    json.dumps(found.as_dict(), allow_nan=False)
    assert "200 clips x 6 keywords = 1,200 pairs" in str(found)


@pytest.mark.parametrize(
    ("scores", "targets", "speakers", "message"),
    [
        ([0.1, 0.2], [0, 1], None, r"scores of shape \(2,\); expected \(clips, keywords\)"),
        ([[0.1], [0.2]], [0, 0], None, "at least two keywords"),
        ([[0.1, 0.2]], [2], None, "targets from 2 to 2; expected indices of the 2 keywords"),
        ([[0.1, 0.2]], [0.0], None, "expected 1 whole numbers"),
        ([[0.1, 0.2], [0.3, 0.4]], [0, 1], ["a"], "1 speakers for 2 clips"),
        ([[0.1, float("nan")]], [0], None, "1 scores that are nan"),
    ],
)
def test_what_is_not_a_table_is_refused(scores: list, targets: list, speakers: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_metrics(scores, targets, speakers)
