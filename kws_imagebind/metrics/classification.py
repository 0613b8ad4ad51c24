"""Scores and targets to accuracies: thin, explicit use of torchmetrics.

torchmetrics guesses what its inputs mean: given one softmax row and one one-hot row it compares them element by
element, and so counts how many elements of the softmax are exactly 0 or 1. Here the two shapes are fixed and everything
else is refused, task, averaging, classes and top-k are always stated, and only counts are asked of torchmetrics, so
that each accuracy is a proportion of whole clips with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_stat_scores

from kws_imagebind.metrics.intervals import Interval, by_speaker, mean_of_proportions, proportion_by_speaker, wilson

TOP_K = 5  # or all classes, where there are fewer


class MetricError(ValueError):
    """Scores or targets of the wrong kind; the message says what came and what was expected."""


@dataclass(frozen=True)
class Metrics:
    """What a table of scores is worth.

    Attributes:
        accuracy: share of clips whose best class is the true one.
        top_k_accuracy: share of clips whose true class is among the `k` best.
        k: 5, or the number of classes where there are fewer (then `top_k_accuracy` is 1 by definition).
        macro_accuracy: mean of the classes' accuracies, over the classes that have clips.
        per_class: accuracy (recall) of each class; n = 0 for a class without clips.
        confusion: (classes, classes) int64 counts; row = true class, column = predicted class.
    """

    accuracy: Interval
    top_k_accuracy: Interval
    k: int
    macro_accuracy: Interval
    per_class: tuple[Interval, ...]
    confusion: Tensor


def measure(
    scores: Tensor, targets: Tensor, level: float = 0.95, speakers: Sequence[str | None] | None = None
) -> Metrics:
    """Every metric of this project from one table of scores.

    Where classes tie, the one that comes first wins, in the prediction and in the top k alike. The intervals go by
    speaker where every clip's is known and there are at least two; elsewhere they are Wilson's.

    >>> scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.1], [0.5, 0.4, 0.1]])
    >>> metrics = measure(scores, torch.tensor([0, 1, 1]))
    >>> print(metrics.accuracy)
    66.7 % [20.8, 93.9], n = 3
    >>> metrics.macro_accuracy.estimate  # of classes 0 (1 of 1) and 1 (1 of 2); class 2 has no clips
    0.75

    Args:
        scores: (n, classes) floating point, the higher the better; any scale, since only the order counts.
        targets: (n,) int64, the index of each clip's true class.
        level: confidence level of the intervals.
        speakers: who spoke each clip; None, or None among them, where that is unknown.

    Raises:
        MetricError: shapes or types differ from these, a score is NaN, or a target is not one of the classes.
    """
    check_scores(scores)
    n, classes = scores.shape
    check_targets(targets, n, classes)
    if classes < 2:
        raise MetricError(f"scores for {classes} class; a choice needs at least two keywords")
    order, k = ranking(scores), min(TOP_K, classes)
    confusion = multiclass_confusion_matrix(order[:, 0], targets, num_classes=classes, normalize=None)
    if speakers is not None and None not in speakers and len(set(speakers)) > 1:
        if len(speakers) != n:
            raise MetricError(f"{len(speakers)} speakers for the scores of {n} clips; expected one for each clip")
        resampled = by_speaker((order[:, 0] == targets).numpy(), targets.numpy(), classes, speakers, level)
        within = (order[:, :k] == targets[:, None]).any(dim=1).numpy()
        return Metrics(
            accuracy=resampled.accuracy,
            top_k_accuracy=proportion_by_speaker(within, speakers, level),
            k=k,
            macro_accuracy=resampled.macro,
            per_class=resampled.per_class,
            confusion=confusion,
        )
    hits, totals = confusion.diagonal().tolist(), confusion.sum(dim=1).tolist()
    return Metrics(
        accuracy=wilson(sum(hits), n, level),
        top_k_accuracy=wilson(_hits_within(order, targets, k), n, level),
        k=k,
        macro_accuracy=mean_of_proportions(hits, totals, level),
        per_class=tuple(wilson(*counts, level) for counts in zip(hits, totals, strict=True)),
        confusion=confusion,
    )


def ranking(scores: Tensor) -> Tensor:
    """Each clip's classes from best to worst; of classes that tie, the one that comes first.

    `argmax` and `topk` leave ties to the device; a stable sort does not.

    >>> ranking(torch.tensor([[0.1, 0.7, 0.7]]))
    tensor([[1, 2, 0]])

    Args:
        scores: (n, classes) floating point.

    Returns:
        (n, classes) int64; column 0 is the prediction.
    """
    check_scores(scores)
    return scores.sort(dim=1, descending=True, stable=True).indices


def check_scores(scores: Tensor) -> None:
    """Refuses everything but an (n, classes) table of numbers with at least one clip."""
    shape = tuple(scores.shape)
    if scores.ndim != 2:
        raise MetricError(f"scores of shape {shape}; expected a table (clips, classes), even for one clip")
    if not scores.is_floating_point():
        raise MetricError(f"scores of type {scores.dtype}; expected floating point, the higher the better")
    if shape[0] == 0:
        raise MetricError("no clip was scored, so there is nothing to measure; expected at least one")
    if bool(scores.isnan().any()):
        rows = int(scores.isnan().any(dim=1).sum())
        raise MetricError(
            f"the scores of {rows} of {shape[0]} clips contain NaN; check the embeddings that they come from"
        )


def check_targets(targets: Tensor, n: int, classes: int) -> None:
    """Refuses everything but n class indices; one-hot rows above all."""
    shape = tuple(targets.shape)
    if targets.ndim != 1:
        raise MetricError(
            f"targets of shape {shape}; expected class indices ({n},), so of one-hot rows take argmax(dim=1)"
        )
    if targets.dtype != torch.int64:
        raise MetricError(f"targets of type {targets.dtype}; expected int64 class indices, not weights or one-hot rows")
    if shape[0] != n:
        raise MetricError(f"{shape[0]} targets for the scores of {n} clips; expected one for each clip")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= classes:
        raise MetricError(f"targets from {low} to {high}; expected indices from 0 to {classes - 1}, one of the classes")


def _hits_within(order: Tensor, targets: Tensor, k: int) -> int:
    """How many clips have their true class among the first k of their ranking."""
    # torchmetrics breaks ties as `topk` does, so it gets places instead of scores: no two are equal.
    places = torch.arange(order.shape[1], 0, -1, dtype=torch.float32, device=order.device)
    distinct = torch.empty(order.shape, device=order.device).scatter_(1, order, places.expand_as(order))
    counts = multiclass_stat_scores(
        distinct,
        targets,
        num_classes=order.shape[1],
        average="micro",
        top_k=k,
        multidim_average="global",
        ignore_index=None,
    )
    return int(counts[0])  # of (true positives, false positives, true negatives, false negatives, support)
