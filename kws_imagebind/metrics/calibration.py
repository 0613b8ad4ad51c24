"""Scores to probabilities, and how well those agree with what happens.

A cosine is not a probability. Divided by a temperature and put through a softmax it becomes one; the temperature is
fitted on validation clips, never on those it is tested with (Guo, Pleiss, Sun and Weinberger 2017, arXiv:1706.04599).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15  # of the confidence from 0 to 1, as Guo et al. have them
_COLDEST, _HOTTEST = 1e-4, 1e4  # temperatures between which the best one is looked for


@dataclass(frozen=True)
class Bin:
    """The clips of one range of confidence: how sure the classifier was of them, and how often it was right."""

    n: int
    hits: int
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """How well probabilities agree with what happens.

    Attributes:
        ece: expected calibration error over `BINS` bins of equal width: the mean distance of confidence and accuracy.
        bins: those that hold clips, from the least sure to the surest.
        brier: mean squared distance of the probabilities from the truth over all classes, 0 to 2; None where only the
            confidence of the predictions is known.
        temperature: that the scores were divided by, where it is known.
    """

    ece: float
    bins: tuple[Bin, ...]
    brier: float | None = None
    temperature: float | None = None

    def as_dict(self) -> dict[str, Any]:
        bins = [{"n": each.n, "hits": each.hits, "confidence": each.confidence} for each in self.bins]
        return {"ece": self.ece, "brier": self.brier, "temperature": self.temperature, "bins": bins}


def probabilities(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """The softmax of scores (n, classes) over a temperature.

    >>> probabilities([[0.7, 0.7]], 0.1).tolist()
    [[0.5, 0.5]]

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}; expected a number above 0")
    logits = np.asarray(scores, dtype=np.float64) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def fit_temperature(scores: ArrayLike, targets: ArrayLike) -> float:
    """The temperature under which the true classes are likeliest; of validation clips only.

    The likelihood is concave in 1 / temperature: its slope, how far the true classes' scores exceed the expected
    ones, falls as 1 / temperature grows, so that halving the range finds where it crosses zero.

    Args:
        scores: (n, classes).
        targets: (n,) indices of the true classes.

    Returns:
        The temperature; the bound 1e-4 where every clip is right beyond doubt, 1e4 where scores say nothing.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.int64)
    true_scores = values[np.arange(len(truth)), truth].mean()
    cold, hot = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(60):
        middle = (cold + hot) / 2
        expected = (probabilities(values, math.exp(middle)) * values).sum(axis=1).mean()
        if expected > true_scores:  # too sure
            cold = middle
        else:
            hot = middle
    return math.exp((cold + hot) / 2)


def reliability(confidence: ArrayLike, hits: ArrayLike) -> Calibration:
    """Calibration from the confidence of the predictions alone.

    >>> reliability([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 0]).ece  # 90 % sure, 75 % right
    0.15

    Args:
        confidence: (n,) from 0 to 1.
        hits: (n,) true or 1 where the prediction is right.
    """
    sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(hits, dtype=bool)
    place = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)  # bins (a, b], as Guo et al. have them
    n = np.bincount(place, minlength=BINS)
    won, total = np.bincount(place, hit, BINS), np.bincount(place, sure, BINS)
    error = np.abs(won - total).sum() / len(sure)
    bins = tuple(Bin(int(n[i]), int(won[i]), float(total[i] / n[i])) for i in range(BINS) if n[i])
    return Calibration(round(float(error), 12), bins)


def calibration(scores: ArrayLike, targets: ArrayLike, temperature: float) -> Calibration:
    """Calibration of scores (n, classes) over a temperature that was fitted elsewhere."""
    shares, truth = probabilities(scores, temperature), np.asarray(targets, dtype=np.int64)
    # The first of equal scores wins, as in the predictions.
    found = reliability(shares.max(axis=1), np.asarray(scores).argmax(axis=1) == truth)
    one_hot = np.eye(shares.shape[1])[truth]
    brier = float(((shares - one_hot) ** 2).sum(axis=1).mean())
    return Calibration(found.ece, found.bins, brier, temperature)
