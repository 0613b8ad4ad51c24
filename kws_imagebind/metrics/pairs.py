"""Every clip against every keyword: the figures that text-enrolled keyword spotting reports.

A pair of a clip and a keyword is positive when the clip says the keyword. All pairs are pooled, so one threshold serves
all keywords, and the equal error rate and the area under the ROC curve are taken of the pool, as PhonMatchNet's loader
does on Speech Commands (Lee and Cho 2023, arXiv:2308.16511).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws_imagebind.metrics.intervals import DesignEffect, Interval, codes_of_clips, speaker_freedom, wilson_at
from kws_imagebind.metrics.roc import RocCurve, roc_curve

RESAMPLES = 1_000  # draws of the speakers; the limits then move by about 2 % of their distance
THRESHOLDS = 200  # quantiles of the positives, and as many of the negatives, at which the draws are counted
BOOTSTRAP = "speaker-bootstrap"  # `Interval.method`
CLIP_BOOTSTRAP = "clip-bootstrap"  # the same where speakers are unknown


@dataclass(frozen=True)
class PairMetrics:
    """How well one threshold tells the pairs of a clip and its keyword from all other pairs.

    Attributes:
        eer: equal error rate, interpolated on the curve; chance is 0.5.
        auc: area under the ROC curve; chance is 0.5.
        curve: what every threshold would do, over all pairs.
        keywords: how many keywords each clip was held against.
        speakers: how many spoke; 0 where that is unknown.
    """

    eer: Interval
    auc: Interval
    curve: RocCurve
    keywords: int
    speakers: int

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        return {
            "eer": self.eer.as_dict(),
            "auc": self.auc.as_dict(),
            "chance": 0.5,
            "clips": self.eer.n,
            "keywords": self.keywords,
            "positive_pairs": self.curve.positives,
            "negative_pairs": self.curve.negatives,
            "speakers": self.speakers or None,
        }

    def __str__(self) -> str:
        eer, auc = (
            f"{100 * each.estimate:.1f} % [{100 * each.low:.1f}, {100 * each.high:.1f}]"
            for each in (self.eer, self.auc)
        )
        pairs = self.curve.positives + self.curve.negatives
        return f"pair EER {eer}, AUC {auc}, n = {self.eer.n:,} clips x {self.keywords:,} keywords = {pairs:,} pairs"


def pair_metrics(
    scores: ArrayLike,
    targets: ArrayLike,
    speakers: Sequence[Hashable | None] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairMetrics:
    """Equal error rate and area under the ROC curve of every clip against every keyword, all pairs pooled.

    Speakers are drawn with replacement, each with all pairs of all their clips. The variance over the draws gets its
    `DesignEffect` with the clips as the unit, and the limits are Wilson's at the number of independent clips that it
    stands for, so that a rate of 0 leaves doubt too. Without speakers, clips are drawn.

    >>> print(pair_metrics([[0.9, 0.2], [0.1, 0.8], [0.7, 0.3], [0.4, 0.6]], [0, 1, 0, 1], "aabb"))
    pair EER 0.0 % [0.0, 59.4], AUC 100.0 % [40.6, 100.0], n = 4 clips x 2 keywords = 8 pairs

    Args:
        scores: (n, keywords) of each clip with each keyword, the higher the likelier; one scale for all keywords.
        targets: (n,) the index of the keyword that each clip says.
        speakers: who spoke each clip; None, or None among them, where that is unknown.
        level: confidence level of the limits.
        resamples: how many times the speakers are drawn.
        seed: of the draws; the same seed gives the same limits.

    Raises:
        ValueError: the scores are not a table of numbers for at least two keywords, or a target or a speaker is missing
            or out of range.
    """
    values, truth = _checked(scores, targets)
    n, keywords = values.shape
    positive = np.arange(keywords) == truth[:, None]
    curve = roc_curve(values.ravel(), positive.ravel())
    code, known = codes_of_clips(speakers, n)
    if n < 2:
        limits = [(0.0, 1.0), (0.0, 1.0)]
    else:
        drawn = _drawn(values, positive, code, resamples, seed)
        limits = [_limits(p, each, code, level) for p, each in zip((curve.eer, curve.auroc), drawn, strict=True)]
    method = BOOTSTRAP if known else CLIP_BOOTSTRAP
    return PairMetrics(
        eer=Interval(curve.eer, *limits[0], n, method, level),
        auc=Interval(curve.auroc, *limits[1], n, method, level),
        curve=curve,
        keywords=keywords,
        speakers=int(code.max()) + 1 if known else 0,
    )


def _checked(scores: ArrayLike, targets: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise ValueError(f"scores of shape {values.shape}; expected (clips, keywords) with at least two keywords")
    if truth.shape != (len(values),) or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(
            f"targets of shape {truth.shape} and type {truth.dtype}; expected {len(values)} whole numbers, the index "
            "of the keyword that each clip says"
        )
    if truth.min() < 0 or truth.max() >= values.shape[1]:
        raise ValueError(
            f"targets from {truth.min()} to {truth.max()}; expected indices of the {values.shape[1]} keywords, so "
            "leave out clips that say none of them"
        )
    return values, truth.astype(np.int64)


def _drawn(
    values: NDArray[np.float64], positive: NDArray[np.bool_], code: NDArray[np.int64], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The equal error rate and the area of every draw of the speakers, each (resamples,)."""
    at = (1 - np.cos(np.linspace(0, np.pi, THRESHOLDS))) / 2  # denser towards both ends, where small rates lie
    grid = np.unique(np.concatenate([np.quantile(values[kind], at) for kind in (positive, ~positive)]))
    accepted = [_accepted(values, kind, code, grid) for kind in (positive, ~positive)]
    speakers, rng = int(code.max()) + 1, np.random.default_rng(seed)
    times = rng.multinomial(speakers, np.full(speakers, 1 / speakers), resamples).astype(np.float64)
    hits, alarms = (times @ counts for counts in accepted)  # (resamples, thresholds), from none to all accepted
    hits, alarms = hits / hits[:, -1:], alarms / alarms[:, -1:]
    areas = (np.diff(alarms) * (hits[:, 1:] + hits[:, :-1])).sum(1) / 2
    gap = hits + alarms - 1  # rises from -1 to 1
    after = (gap >= 0).argmax(1)
    row = np.arange(resamples)
    share = -gap[row, after - 1] / (gap[row, after] - gap[row, after - 1])
    rates = alarms[row, after - 1] + share * (alarms[row, after] - alarms[row, after - 1])
    return rates, areas


def _accepted(
    values: NDArray[np.float64], kind: NDArray[np.bool_], code: NDArray[np.int64], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(speakers, thresholds + 1) how many pairs of each speaker are at or above each threshold, from the highest."""
    clip, _ = np.nonzero(kind)
    place = len(grid) - np.searchsorted(grid, values[kind], "right")  # 0: at or above the highest threshold
    width, speakers = len(grid) + 1, int(code.max()) + 1
    counts = np.bincount(code[clip] * width + place + 1, minlength=speakers * width)
    return np.cumsum(counts.reshape(speakers, width), axis=1).astype(np.float64)


def _limits(p: float, drawn: NDArray[np.float64], code: NDArray[np.int64], level: float) -> tuple[float, float]:
    n, shares = len(code), np.bincount(code) / len(code)
    freedom = speaker_freedom(shares)
    seen = n**2 * float(drawn.var()) * (freedom + 1) / freedom  # drawn from themselves
    found = DesignEffect.shrunk(p, n, seen, shares, freedom)
    return wilson_at(p, n / found.effect, found.freedom, level)
