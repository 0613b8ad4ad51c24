"""Metrics against scikit-learn and statsmodels, and the inputs that must not be guessed at."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor
from torchmetrics import Accuracy

from kws_imagebind.metrics.classification import MetricError, measure, ranking


def _random(n: int, classes: int, seed: int, absent: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Scores a little better than chance; classes in `absent` have no clips but are predicted."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (n,), generator=generator)
    for index in absent:
        targets[targets == index] = (index + 1) % classes
    scores = torch.randn(n, classes, generator=generator)
    scores[torch.arange(n), targets] += 1
    return scores, targets


CASES = [
    (300, 35, 0, ()),
    (300, 35, 1, (3, 17)),
    (64, 37, 2, (0, 1)),  # the seed notebook's size, silence and unknown without clips
    (40, 2, 3, ()),
    (50, 5, 4, (2,)),
    (9, 6, 5, ()),
    (1, 3, 6, ()),
]


@pytest.mark.parametrize(("n", "classes", "seed", "absent"), CASES)
def test_metrics_equal_scikit_learn(n: int, classes: int, seed: int, absent: tuple[int, ...]) -> None:
    scores, targets = _random(n, classes, seed, absent)
    metrics = measure(scores, targets)
    truth, guess, everything = targets.numpy(), scores.argmax(dim=1).numpy(), np.arange(classes)

    assert metrics.accuracy.estimate == np.mean(truth == guess)
    assert metrics.k == min(5, classes)
    if classes > 2 and metrics.k < classes:  # scikit-learn refuses a k that is always right
        top_k = top_k_accuracy_score(truth, scores.numpy(), k=metrics.k, labels=everything)
        assert metrics.top_k_accuracy.estimate == pytest.approx(top_k)
    else:
        assert metrics.top_k_accuracy.estimate == 1
    with warnings.catch_warnings():  # scikit-learn warns of predicted classes without clips
        warnings.simplefilter("ignore", UserWarning)
        macro = balanced_accuracy_score(truth, guess)
    assert metrics.macro_accuracy.estimate == pytest.approx(macro)
    assert np.array_equal(metrics.confusion.numpy(), confusion_matrix(truth, guess, labels=everything))
    recalls = recall_score(truth, guess, labels=everything, average=None, zero_division=np.nan)
    assert np.allclose([interval.estimate for interval in metrics.per_class], recalls, equal_nan=True)
    assert [interval.n for interval in metrics.per_class] == np.bincount(truth, minlength=classes).tolist()


def test_intervals_rest_on_whole_clips() -> None:
    scores, targets = _random(500, 12, 7)
    metrics = measure(scores, targets)
    hits = int((scores.argmax(dim=1) == targets).sum())
    for interval, successes, n in (
        (metrics.accuracy, hits, 500),
        (metrics.per_class[4], int(metrics.confusion[4, 4]), int(metrics.confusion[4].sum())),
    ):
        low, high = proportion_confint(successes, n, method="wilson")
        assert (interval.low, interval.high, interval.n) == (pytest.approx(low), pytest.approx(high), n)
    assert metrics.macro_accuracy.n == 500


def test_a_class_that_is_predicted_but_absent_does_not_pull_macro_down() -> None:
    scores, targets = torch.eye(3)[[0, 0, 2]], torch.tensor([0, 0, 0])  # class 2 is predicted once, class 1 never
    metrics = measure(scores, targets)
    assert metrics.macro_accuracy.estimate == pytest.approx(2 / 3)
    naive = Accuracy(task="multiclass", num_classes=3, average="macro", top_k=1)(scores, targets)
    assert float(naive) == pytest.approx(1 / 3)  # what torchmetrics' own macro makes of it


def test_a_class_that_is_never_predicted_counts_as_wrong() -> None:
    scores, targets = torch.eye(2)[[0, 0, 0]], torch.tensor([0, 1, 1])
    metrics = measure(scores, targets)
    assert [interval.estimate for interval in metrics.per_class] == [1, 0]
    assert metrics.macro_accuracy.estimate == 0.5


def test_ties_go_to_the_class_that_comes_first() -> None:
    scores = torch.zeros(7, 7)
    assert ranking(scores).tolist() == [list(range(7))] * 7
    metrics = measure(scores, torch.arange(7))
    assert metrics.confusion[:, 0].tolist() == [1] * 7
    assert metrics.accuracy.estimate == pytest.approx(1 / 7)
    assert metrics.top_k_accuracy.estimate == pytest.approx(5 / 7)  # classes 0 to 4


def test_only_the_order_of_scores_counts() -> None:
    scores, targets = _random(200, 10, 8)
    expected = measure(scores, targets)
    for other in (scores * 1e-4, scores.softmax(dim=1), scores.double() - 7, scores * 100):
        again = measure(other, targets)
        assert again.accuracy == expected.accuracy
        assert again.top_k_accuracy == expected.top_k_accuracy
        assert torch.equal(again.confusion, expected.confusion)


def test_class_permutation_permutes_per_class_and_keeps_the_rest() -> None:
    scores, targets = _random(200, 10, 9, absent=(4,))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    before, after = measure(scores, targets), measure(scores[:, order], order.argsort()[targets])
    assert after.accuracy == before.accuracy
    assert after.top_k_accuracy == before.top_k_accuracy
    assert after.macro_accuracy.estimate == pytest.approx(before.macro_accuracy.estimate)
    assert [str(i) for i in after.per_class] == [str(before.per_class[i]) for i in order]


def test_clip_order_changes_nothing() -> None:
    scores, targets = _random(200, 10, 10)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    before, after = measure(scores, targets), measure(scores[order], targets[order])
    assert after.per_class == before.per_class
    assert (after.accuracy, after.top_k_accuracy) == (before.accuracy, before.top_k_accuracy)


def test_the_seed_notebooks_reading_is_refused() -> None:
    """One softmax row against one one-hot row is what read 59.4 % there: torchmetrics compares 37 elements."""
    generator = torch.Generator().manual_seed(0)
    row, one_hot = torch.rand(37, generator=generator).softmax(dim=0), torch.eye(37, dtype=torch.int64)[5]
    with pytest.raises(MetricError, match=r"scores of shape \(37,\); expected a table"):
        measure(row, one_hot)


def test_the_seed_notebooks_reading_tells_how_peaked_the_softmax_is_and_nothing_of_the_argmax() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(64, 37, generator=generator), torch.randint(37, (64,), generator=generator)
    one_hot = torch.nn.functional.one_hot(targets, 37)
    readings, accuracies = [], []
    for scale in (6, 60):
        seed = torchmetrics.Accuracy(task="multiclass", num_classes=37)
        for row, target in zip((scale * logits).softmax(1), one_hot, strict=True):
            seed.update(row, target)
        readings.append(float(seed.compute()))
        accuracies.append(measure(scale * logits, targets).accuracy)
    assert readings[0] == 0 and 0.6 < readings[1] < 0.66
    assert accuracies[0] == accuracies[1] and accuracies[0].estimate == 2 / 64


GOOD = torch.tensor([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]])
BAD_INPUTS = [
    (GOOD, torch.eye(3, dtype=torch.int64)[:2], r"targets of shape \(2, 3\).*argmax"),
    (GOOD, torch.tensor([1.0, 0.0]), r"targets of type torch.float32; expected int64"),
    (GOOD, torch.tensor([True, False]), r"targets of type torch.bool"),
    (GOOD, torch.tensor([1, 3]), r"targets from 1 to 3; expected indices from 0 to 2"),
    (GOOD, torch.tensor([-1, 2]), r"targets from -1 to 2"),
    (GOOD, torch.tensor([1, 0, 2]), r"3 targets for the scores of 2 clips"),
    (GOOD.argmax(dim=1), torch.tensor([1, 0]), r"scores of shape \(2,\)"),
    (GOOD.long(), torch.tensor([1, 0]), r"scores of type torch.int64; expected floating point"),
    (torch.tensor([[0.1, float("nan")], [0.0, 1.0]]), torch.tensor([1, 0]), r"scores of 1 of 2 clips contain NaN"),
    (GOOD[:0], torch.tensor([], dtype=torch.int64), r"no clip was scored"),
    (GOOD[:, :1], torch.tensor([0, 0]), r"scores for 1 class; a choice needs at least two"),
    (GOOD[None], torch.tensor([1, 0]), r"scores of shape \(1, 2, 3\)"),
]


@pytest.mark.parametrize(("scores", "targets", "message"), BAD_INPUTS)
def test_what_is_not_scores_and_class_indices_is_refused(scores: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        measure(scores, targets)


def test_ranking_serves_a_single_keyword() -> None:
    assert ranking(torch.tensor([[0.3], [0.1]])).tolist() == [[0], [0]]
