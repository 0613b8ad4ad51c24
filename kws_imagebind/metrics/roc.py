"""Accept or reject by a threshold: curves and numbers, from scores of what should be accepted and what should not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws_imagebind.metrics.intervals import Interval, proportion_limits, speakers_worth


@dataclass(frozen=True)
class Detection:
    """What every threshold would do; a score at or above the threshold is accepted.

    Attributes:
        thresholds: (k,) from above the highest score, where nothing is accepted, to the lowest, where everything is.
        accepted: (k,) share of the positives accepted: the true positive rate, rising from 0 to 1.
        false_alarms: (k,) share of the negatives accepted: the false positive rate, rising from 0 to 1.
        positives: how many should be accepted.
        negatives: how many should be rejected.
    """

    thresholds: NDArray[np.float64]
    accepted: NDArray[np.float64]
    false_alarms: NDArray[np.float64]
    positives: int
    negatives: int

    @property
    def auroc(self) -> float:
        """Area under the ROC curve: how often a positive scores above a negative, ties counting half."""
        return float((np.diff(self.false_alarms) * (self.accepted[1:] + self.accepted[:-1])).sum() / 2)

    @property
    def eer(self) -> float:
        """Equal error rate: where as many positives are rejected as negatives accepted, interpolated on the curve."""
        gap = self.accepted + self.false_alarms - 1  # rises from -1 to 1
        after = int(np.argmax(gap >= 0))
        share = -gap[after - 1] / (gap[after] - gap[after - 1])
        return float(self.false_alarms[after - 1] + share * (self.false_alarms[after] - self.false_alarms[after - 1]))

    def false_alarms_at(self, accepted: float = 0.95) -> float:
        """The fewest false alarms of a threshold that accepts at least this share of the positives."""
        return float(self.false_alarms[np.argmax(self.accepted >= accepted - 1e-12)])


def detect(scores: ArrayLike, positive: ArrayLike) -> Detection:
    """Every threshold on scores of positives and negatives.

    >>> found = detect([0.9, 0.8, 0.7, 0.1], [True, True, False, False])
    >>> found.auroc, found.eer, found.false_alarms_at(0.95)
    (1.0, 0.0, 0.0)

    Args:
        scores: (n,) the higher, the more a clip should be accepted.
        positive: (n,) true for those that should.

    Raises:
        ValueError: a score is nan, or there are no positives or no negatives.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives or np.isnan(values).any():
        raise ValueError(
            f"{positives} clips to accept, {negatives} to reject and {int(np.isnan(values).sum())} scores that "
            "are nan; expected some of the first two and none of the last"
        )
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # equal scores share a threshold
    hits = np.cumsum(truth[order])[ends]
    return Detection(
        thresholds=np.concatenate([[np.inf], values[order][ends]]),
        accepted=np.concatenate([[0.0], hits / positives]),
        false_alarms=np.concatenate([[0.0], (ends + 1 - hits) / negatives]),
        positives=positives,
        negatives=negatives,
    )


def auroc_interval(
    scores: ArrayLike,
    positive: ArrayLike,
    speakers: Sequence[Hashable | None] | None = None,
    confidence: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> Interval:
    """The area under the ROC curve with limits from a bootstrap over speakers, or over clips where one is unknown.

    The variance v of the area over the draws says how many independent clips it is worth, A (1 - A) / v, and the limits
    are Wilson's at that number, so that an area of 1 leaves doubt too. What to accept and what to reject may come from
    very different numbers of speakers (a hundred voices against six recordings of noise): Student's t and the mending
    of v go by the class whose clips are of fewer, counted as `cluster_bootstrap` counts them. A class of one speaker
    says nothing of others, and the limits are 0 and 1.

    >>> found = auroc_interval([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], [1, 1, 1, 0, 0, 0])
    >>> print(f"{found.estimate} [{found.low:.2f}, {found.high}]")
    1.0 [0.44, 1.0]

    Raises:
        ValueError: as `detect`.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    area, n = detect(values, truth).auroc, len(values)
    known = speakers is not None and None not in speakers and len(set(speakers)) > 1
    numbers: dict[Hashable, int] = {}
    who = list(speakers) if known and speakers is not None else list(range(n))
    code = np.array([numbers.setdefault(each, len(numbers)) for each in who])
    order = np.argsort(-values, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(values[order])) + 1)  # equal scores fall together
    rng, clusters, areas = np.random.default_rng(seed), len(numbers), []
    for _ in range(resamples):
        times = np.bincount(rng.integers(clusters, size=clusters), minlength=clusters)[code][order]
        hits = np.add.reduceat(times * truth[order], starts)
        alarms = np.add.reduceat(times * ~truth[order], starts)
        if hits.sum() and alarms.sum():
            above = np.cumsum(hits) - hits / 2
            areas.append(float((alarms * above).sum() / hits.sum() / alarms.sum()))
    worth = min(speakers_worth(np.bincount(code[kept]).astype(np.float64)) for kept in (truth, ~truth))
    variance = float(np.var(areas)) * worth / max(worth - 1, 1e-3)  # mended: drawn from themselves
    low, high = proportion_limits(area, area * (1 - area) / variance if variance else worth, worth, confidence)
    method = "speaker-bootstrap" if known else "clip-bootstrap"
    return Interval(area, low, high, n, method, confidence)
