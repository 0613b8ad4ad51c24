"""Accept or reject by a threshold: curves and numbers, from scores of what should be accepted and what should not."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws_imagebind.metrics.intervals import (
    BY_SPEAKER,
    DesignEffect,
    Interval,
    SpeakerSums,
    codes_of_clips,
    normal_quantile,
    wilson_at,
)

BY_CLIP = "wilson-by-clip"  # `Interval.method` where speakers are unknown
MOST_TIED = 4  # times: how far speakers who are on both sides may lower the variance of the area


@dataclass(frozen=True)
class RocCurve:
    """The receiver operating characteristic: what every threshold would do.

    A score at or above the threshold is accepted.

    Attributes:
        thresholds: (k,) from above the highest score, where nothing is accepted, to the lowest, where everything is.
        accepted: (k,) share of the positives accepted: the true positive rate, rising from 0 to 1.
        false_alarms: (k,) share of the negatives accepted: the false positive rate, rising from 0 to 1.
        positives: how many scores should be accepted.
        negatives: how many scores should be rejected.
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


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> RocCurve:
    """Every threshold on scores of positives and negatives.

    >>> found = roc_curve([0.9, 0.8, 0.7, 0.1], [True, True, False, False])
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
            "are nan; expected at least one clip of each kind and a number for each score"
        )
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # equal scores share a threshold
    hits = np.cumsum(truth[order])[ends]
    return RocCurve(
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
    level: float = 0.95,
) -> Interval:
    """The area under the ROC curve with limits by speaker, or by clip where a speaker is unknown.

    The area is the mean, over the positives, of the share of negatives below each, and just as well the mean over the
    negatives of the share of positives above each. So its variance is the sum of the variances of these two means, each
    over its speakers (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845; by clusters: Obuchowski 1997,
    Biometrics 53:567-578). Each of the two gets its `DesignEffect` as a proportion does, and the limits are Wilson's at
    the number of independent clips that the variance stands for, so that an area of 1 leaves doubt too, and no jump to
    it. What to accept and what to reject may come from very different numbers of speakers (a hundred voices against six
    recordings of noise): each side has its own. A side of one speaker says nothing of others, and the limits are 0
    and 1.

    >>> found = auroc_interval([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], [1, 1, 1, 0, 0, 0])
    >>> print(f"{found.estimate} [{found.low:.2f}, {found.high}]")
    1.0 [0.25, 1.0]

    Raises:
        ValueError: as `roc_curve`, or `level` is not between 0 and 1.
    """
    normal_quantile(level)
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    area, n = roc_curve(values, truth).auroc, len(values)
    code, known = codes_of_clips(speakers, n)
    count = int(code.max()) + 1
    beaten, beating = _shares_below(values[truth], values[~truth]), 1 - _shares_below(values[~truth], values[truth])
    sides = [_side(beaten, code[truth], count), _side(beating, code[~truth], count)]
    method = BY_SPEAKER if known else BY_CLIP
    if min(np.count_nonzero(side.shares) for side in sides) < 2:
        return Interval(area, 0.0, 1.0, n, method, level)
    effective, freedom = _effective(area, sides, (len(beaten), len(beating)))
    return Interval(area, *wilson_at(area, effective, freedom, level), n, method, level)


def _shares_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of `others` below each value, those that equal it counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2 / len(others)


def _side(shares_below: NDArray[np.float64], code: NDArray[np.int64], speakers: int) -> SpeakerSums:
    """The positives or the negatives, by speaker."""
    sums = np.bincount(code, shares_below - shares_below.mean(), speakers).astype(np.float64)
    return SpeakerSums(sums, np.bincount(code, minlength=speakers).astype(np.float64) / len(code))


def _effective(area: float, sides: Sequence[SpeakerSums], clips: tuple[int, int]) -> tuple[float, float]:
    """How many independent clips the variance of the area stands for, and its degrees of freedom."""
    found = [
        DesignEffect.shrunk(area, n, float(side.squares.sum()), side.shares, side.freedom, len(sides))
        for side, n in zip(sides, clips, strict=True)
    ]
    parts = [each.effect / n for each, n in zip(found, clips, strict=True)]
    freedom = sum(parts) ** 2 / sum(part**2 / each.freedom for part, each in zip(parts, found, strict=True))
    # A speaker on both sides ties the two; as the sides' own variances, this fades where no pair is inverted.
    both, few = 2 * float(sides[0].residuals @ sides[1].residuals) / (clips[0] * clips[1]), min(clips)
    tie = both * few / (1 + few * area * (1 - area))
    return 1 / max(sum(parts) + tie, sum(parts) / MOST_TIED), freedom
