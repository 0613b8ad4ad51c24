"""What a confusion matrix says beyond accuracy: agreement over chance, and whether predictions collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MOST_PREDICTED = 3  # words named in the line on collapse


@dataclass(frozen=True)
class Agreement:
    """A classifier against guesses that follow the frequencies of its own predictions.

    Attributes:
        expected: the accuracy of guesses that are drawn from the predictions' own frequencies, whatever is spoken.
        kappa: Cohen's kappa (1960, Educational and Psychological Measurement 20:37-46): how much of the way from
            `expected` to 1 the accuracy goes; nan if `expected` is 1.
        most_predicted: the words predicted most and their shares, at most `MOST_PREDICTED`.
        effective_predicted: effective number of classes predicted, the exponential of the entropy of the predictions:
            all classes if each is predicted equally often, 1 if it is always the same one.
        effective_spoken: the same of the true words, which a perfect classifier would have.
    """

    expected: float
    kappa: float
    most_predicted: tuple[tuple[str, float], ...]
    effective_predicted: float
    effective_spoken: float

    @property
    def collapse(self) -> str:
        """How many classes the predictions really use, in a line of a report."""
        share = sum(each for _, each in self.most_predicted)
        names = ", ".join(f"{word} {100 * each:.1f} %" for word, each in self.most_predicted)
        return (
            f"effective number of classes {self.effective_predicted:.1f} (spoken: {self.effective_spoken:.1f}); "
            f"the {len(self.most_predicted)} most predicted take {100 * share:.1f} % ({names})"
        )


def agreement(confusion: ArrayLike, labels: Sequence[str]) -> Agreement:
    """Agreement and collapse of a confusion matrix.

    >>> found = agreement([[4, 0], [4, 0]], ["yes", "no"])  # always "yes"
    >>> found.expected, found.kappa, found.effective_predicted, found.effective_spoken
    (0.5, 0.0, 1.0, 2.0)

    Args:
        confusion: (classes, classes) counts, row = true, column = predicted.
        labels: names of the classes.

    Raises:
        ValueError: the matrix is not square, is empty, or has another size than there are labels.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.shape != (len(labels), len(labels)) or not counts.sum():
        raise ValueError(
            f"counts of shape {counts.shape} for {len(labels)} labels; expected a row for each, with clips"
        )
    spoken, predicted = counts.sum(1) / counts.sum(), counts.sum(0) / counts.sum()
    expected, observed = float(spoken @ predicted), float(np.trace(counts) / counts.sum())
    order = np.argsort(-predicted, kind="stable")[:MOST_PREDICTED]
    return Agreement(
        expected=expected,
        kappa=(observed - expected) / (1 - expected) if expected < 1 else float("nan"),
        most_predicted=tuple((labels[index], float(predicted[index])) for index in order if predicted[index]),
        effective_predicted=_effective(predicted),
        effective_spoken=_effective(spoken),
    )


def _effective(shares: np.ndarray) -> float:
    some = shares[shares > 0]
    return float(np.exp(-(some * np.log(some)).sum()))
