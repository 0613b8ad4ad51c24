"""Measures of rankings against torchmetrics, scikit-learn, and all orders of tied documents."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_recall,
)

from kws_imagebind.metrics.intervals import Interval, proportion_by_speaker
from kws_imagebind.metrics.retrieval import by_document_group, by_group, retrieval


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchmetrics_and_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, graded = rng.normal(size=(7, 40)), rng.choice([0, 0, 0, 1, 2, 3], size=(7, 40))
    graded[3] = 0  # a query without a relevant document
    found = retrieval(scores, graded)
    assert found.left_out == 1 and found.queries.tolist() == [0, 1, 2, 4, 5, 6]
    for row, query in enumerate(found.queries.tolist()):
        values = dict(zip(found.names, found.values[row], strict=True))
        own = torch.tensor(scores[query] + 10)  # torchmetrics passes over documents whose score is negative
        gain = torch.tensor(graded[query])
        for k in (1, 5, 10):
            assert values[f"recall@{k}"] == pytest.approx(float(retrieval_recall(own, gain > 0, k)))
            assert values[f"hit_rate@{k}"] == pytest.approx(float(retrieval_hit_rate(own, gain > 0, k)))
        assert values["map"] == pytest.approx(float(retrieval_average_precision(own, gain > 0)), abs=1e-6)
        assert values["map"] == pytest.approx(average_precision_score(graded[query] > 0, scores[query]))
        assert values["ndcg@30"] == pytest.approx(float(retrieval_normalized_dcg(own, gain, 30)), abs=1e-6)
        assert values["ndcg@30"] == pytest.approx(ndcg_score([graded[query]], [scores[query]], k=30))


def test_ndcg_of_ties_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    scores, graded = rng.integers(0, 4, size=(20, 15)), rng.integers(0, 3, size=(20, 15))
    found = retrieval(scores, graded, ndcg_at=6)
    assert found.means()["ndcg@6"] == pytest.approx(ndcg_score(graded, scores, k=6))


@pytest.mark.parametrize("seed", range(4))
def test_ties_are_the_mean_over_all_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, graded = rng.integers(0, 3, size=6).astype(float), rng.integers(0, 3, size=6)
    graded[0] = max(graded[0], 1)
    every = []
    for order in permutations(range(6)):  # a tiny difference in each order breaks the ties
        broken = scores + 1e-6 * np.array(order)
        every.append(retrieval([broken], [graded], cutoffs=(1, 2, 4), ndcg_at=3).values[0])
    found = retrieval([scores], [graded], cutoffs=(1, 2, 4), ndcg_at=3).values[0]
    np.testing.assert_allclose(found, np.mean(every, axis=0), atol=1e-9)


def test_chance_is_that_of_random_orders_and_of_the_formulas() -> None:
    rng = np.random.default_rng(1)
    relevance = np.zeros((1, 50))
    relevance[0, :4] = 1
    found = retrieval(rng.normal(size=(1, 50)), relevance)
    chance = found.mean_chance()
    for k in (1, 5, 10):
        assert chance[f"recall@{k}"] == pytest.approx(k / 50)
        assert chance[f"hit_rate@{k}"] == pytest.approx(1 - comb(46, k) / comb(50, k))
    harmonic = sum(1 / i for i in range(1, 51))
    assert chance["map"] == pytest.approx((3 / 49 * (50 - harmonic) + harmonic) / 50)
    drawn = retrieval(rng.normal(size=(4000, 50)), np.repeat(relevance, 4000, 0))
    for name, mean in drawn.means().items():
        spread = drawn.values[:, drawn.names.index(name)].std() / np.sqrt(4000)
        assert chance[name] == pytest.approx(mean, abs=4 * spread)


def test_documents_that_are_left_out_do_not_count() -> None:
    rng = np.random.default_rng(2)
    scores, relevance, allowed = rng.normal(size=(6, 9)), rng.integers(0, 2, size=(6, 9)), rng.random((6, 9)) < 0.7
    relevance[:, 0], allowed[:, 0] = 1, True
    found = retrieval(scores, relevance, allowed)
    for row in range(6):
        alone = retrieval(scores[row : row + 1, allowed[row]], relevance[row : row + 1, allowed[row]])
        np.testing.assert_array_equal(found.values[row], alone.values[0])
        np.testing.assert_array_equal(found.chance[row], alone.chance[0])


def test_order_of_documents_and_monotone_scores_change_nothing() -> None:
    rng = np.random.default_rng(3)
    scores, relevance = rng.normal(size=(5, 20)), rng.integers(0, 2, size=(5, 20))
    order = rng.permutation(20)
    before = retrieval(scores, relevance).values
    np.testing.assert_array_equal(before, retrieval(scores[:, order], relevance[:, order]).values)
    np.testing.assert_array_equal(before, retrieval(np.exp(scores), relevance).values)


def test_perfect_and_hopeless_rankings() -> None:
    relevance = np.array([[1, 1, 0, 0]])
    best = retrieval([[4, 3, 2, 1]], relevance, cutoffs=(2,)).means()
    worst = retrieval([[1, 2, 3, 4]], relevance, cutoffs=(2,)).means()
    assert best == {"recall@2": 1, "hit_rate@2": 1, "map": 1, "ndcg@30": 1}
    assert (worst["recall@2"], worst["hit_rate@2"]) == (0, 0) and worst["map"] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_intervals_of_hits_are_those_by_speaker() -> None:
    rng = np.random.default_rng(4)
    speakers = rng.integers(0, 12, size=80).tolist()
    scores, relevance = rng.normal(size=(80, 5)), np.eye(5)[rng.integers(0, 5, size=80)]
    found = retrieval(scores, relevance)
    mine = by_group(found, speakers)["recall@1"]
    theirs = proportion_by_speaker(found.values[:, 0], speakers)
    assert (mine.low, mine.high, mine.n) == pytest.approx((theirs.low, theirs.high, 80))


def simulate(trial: int, documents: bool) -> Interval:
    """Speakers are of different quality; the truth is the mean over many of them."""
    rng = np.random.default_rng(trial)
    speakers = 25
    quality = np.repeat(rng.normal(1.0, 0.7, size=speakers), 8)
    label = np.tile(np.arange(4), speakers * 2)
    cosines = rng.normal(size=(4, len(label)))
    cosines[label, np.arange(len(label))] += quality
    who = np.repeat(np.arange(speakers), 8).tolist()
    relevance = np.arange(4)[:, None] == label
    if documents:
        return by_document_group(cosines, relevance, who, resamples=60)["map"]
    return by_group(retrieval(cosines.T, relevance.T), who)["map"]


@pytest.mark.parametrize("documents", [False, True])
def test_limits_hold_the_truth(documents: bool) -> None:
    trials = [simulate(trial, documents) for trial in range(120)]
    truth = np.mean([each.estimate for each in trials])
    inside = np.mean([each.low <= truth <= each.high for each in trials])
    assert inside >= 0.88
    widths = np.mean([each.high - each.low for each in trials])
    assert widths < 6 * np.std([each.estimate for each in trials])  # and are not merely wide


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="no query has a relevant document"):
        retrieval([[1.0, 2.0]], [[0, 0]])
    with pytest.raises(ValueError, match="expected one shape"):
        retrieval([[1.0, 2.0]], [[1, 0, 0]])
    with pytest.raises(ValueError, match="not a finite number"):
        retrieval([[1.0, np.nan]], [[1, 0]])
    with pytest.raises(ValueError, match="ranks from 1"):
        retrieval([[1.0, 2.0]], [[1, 0]], cutoffs=(0,))
    found = retrieval([[1.0, 2.0]], [[1, 0]])
    with pytest.raises(ValueError, match="1 speaker; limits by speaker need at least two"):
        by_group(found, "a")
    with pytest.raises(ValueError, match="2 groups for 1 queries"):
        by_group(found, "ab")
    with pytest.raises(ValueError, match="2 groups, 1 of them different"):
        by_document_group([[1.0, 2.0]], [[1, 0]], "aa")
