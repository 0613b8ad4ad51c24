"""Proportions with their uncertainty, and tests of one run against another.

Clips of one speaker are alike: a voice that is misheard once is misheard again. So where speakers are known, the
interval comes from drawing speakers anew, not clips (`by_speaker`), and two runs are compared speaker by speaker
(`compare_paired`). Wilson's interval takes clips as independent and serves where nobody says who spoke. How often each
covers the truth is simulated in `benchmarks/coverage.py` and told in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHANCE_EXCESS = 2  # times: how far speakers may by chance seem more alike than independent clips are
RESAMPLES = 10_000  # draws of the bootstrap: the limits then move by less than 2 % of the interval's width
_BLOCK = 4_000_000  # speakers drawn at once, so that memory stays small

SHRINKAGE = (
    2  # clips; with 0 or 1 the limits are too narrow for classes of one to three clips (see mean_of_proportions)
)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits.

    Attributes:
        estimate: a proportion from 0 to 1; nan where there was nothing to estimate it from.
        low: lower confidence limit, from 0 to 1.
        high: upper confidence limit, from 0 to 1.
        n: clips that the estimate rests on.
        method: how the limits were made: "wilson", "wilson-effective-n" or "speaker-bootstrap".
        confidence: the level of the limits.

    >>> print(wilson(3875, 4482))
    86.5 % [85.4, 87.4], n = 4,482
    >>> print(wilson(0, 0))
    no clips, n = 0
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95

    def __str__(self) -> str:
        if self.n == 0:
            return "no clips, n = 0"
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.estimate:.1f} % [{low:.1f}, {high:.1f}], n = {self.n:,}"

    def as_dict(self) -> dict[str, float | int | str | None]:
        """The fields for JSON, which knows no nan: what could not be estimated is None."""
        numbers = {"estimate": self.estimate, "low": self.low, "high": self.high}
        plain = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return {**plain, "n": self.n, "method": self.method, "confidence": self.confidence}


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of a binomial proportion (Wilson 1927, JASA 22:209-212).

    It holds its level for small n and for proportions near 0 and 1, where the textbook interval collapses: 0 hits
    out of 8 clips still leave up to 32 %.

    >>> wilson(0, 8).low, round(wilson(0, 8).high, 3)
    (0.0, 0.324)

    Returns:
        The interval; with n = 0 its numbers are nan, since a class without clips has no accuracy.

    Raises:
        ValueError: `successes` is not within 0 and n, or `confidence` not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} clips is no proportion; expected 0 <= successes <= n")
    z = _quantile(confidence)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "wilson", confidence)
    low, high = _wilson_limits(successes / n, n, z)
    return Interval(successes / n, low, high, n, "wilson", confidence)


def mean_of_proportions(successes: Sequence[int], totals: Sequence[int], confidence: float = 0.95) -> Interval:
    """The unweighted mean of several proportions, as macro accuracy is the mean over the classes.

    The limits are Wilson's at the effective number of clips, as for proportions of stratified samples (Franco, Little,
    Louis and Slud 2019, Journal of Survey Statistics and Methodology 7:334-364): the mean m of k classes has the
    variance v = sum(p_i (1 - p_i) / n_i) / k^2, which is that of m (1 - m) / v clips drawn alike. In v each class is
    given `SHRINKAGE` clips of the mean accuracy, or else a class with one or two clips, all hit, would seem certain.
    In simulations of 2 to 35 classes of similar size or mixed sizes it held 92 to 98 % for a nominal 95 %, and from 89
    to 100 % for two classes of which one has a single clip or two; limits combined from the classes' own Wilson limits
    (MOVER) fell to 79 %, for they all err towards one half.

    >>> print(mean_of_proportions([10, 0], [10, 90]))
    50.0 % [41.5, 58.5], n = 100

    Args:
        successes: hits of each class.
        totals: clips of each class; classes without clips have no accuracy and are left out.
        confidence: level of the limits.

    Returns:
        The interval with n = all clips; its numbers are nan if no class has clips.

    Raises:
        ValueError: the two lists differ in length, or a class has more hits than clips.
    """
    each = [wilson(hits, n, confidence) for hits, n in zip(successes, totals, strict=True)]
    each = [interval for interval in each if interval.n]
    if not each:
        return Interval(math.nan, math.nan, math.nan, 0, "wilson-effective-n", confidence)
    mean = math.fsum(interval.estimate for interval in each) / len(each)
    low, high = _wilson_limits(mean, _effective_n(each, mean), _quantile(confidence))
    return Interval(mean, low, high, sum(interval.n for interval in each), "wilson-effective-n", confidence)


def _effective_n(each: Sequence[Interval], mean: float) -> float:
    """How many clips drawn alike would give the mean of these proportions its variance."""
    if mean in (0.0, 1.0):  # no variance is seen: take the one that equal classes have
        return len(each) ** 2 / math.fsum(1 / interval.n for interval in each)
    variances = []
    for interval in each:
        n = interval.n
        shrunk = (interval.estimate * n + SHRINKAGE * mean) / (n + SHRINKAGE)
        variances.append(shrunk * (1 - shrunk) / n)
    return mean * (1 - mean) * len(each) ** 2 / math.fsum(variances)


@dataclass(frozen=True)
class SpeakerIntervals:
    """Accuracies whose limits come from drawing speakers anew.

    Attributes:
        accuracy: of all clips.
        macro: the unweighted mean of the classes that have clips.
        per_class: of each class; n = 0 for a class without clips.
        speakers: how many were drawn from.
    """

    accuracy: Interval
    macro: Interval
    per_class: tuple[Interval, ...]
    speakers: int


def cluster_bootstrap(
    hits: ArrayLike, speakers: Sequence[Hashable], confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The accuracy of clips that come from speakers, with limits from a bootstrap over the speakers.

    Speakers are drawn with replacement, each with all of their clips, and the accuracy of every draw is taken. The
    variance v of those accuracies says how many independent clips the n clips are worth, p (1 - p) / v, and the limits
    are Wilson's at that number (Franco, Little, Louis and Slud 2019, Journal of Survey Statistics and Methodology
    7:334-364), with Student's t for the normal quantile and as many degrees of freedom as the speakers are worth less
    one (Carter, Schnepel and Steigerwald 2017, Review of Economics and Statistics 99:698-709). Quantiles of the draws
    themselves are too narrow with few speakers and empty where every clip is a hit; see docs/statistics.md.

    >>> print(cluster_bootstrap([1, 1, 1, 1, 0, 0, 1, 1, 1, 0], "aabbccddee"))
    70.0 % [20.9, 95.4], n = 10

    Args:
        hits: (n,) true or 1 for a clip that was recognised.
        speakers: who spoke each of the n clips.
        confidence: level of the limits.
        resamples: how many times the speakers are drawn.
        seed: of the draws; the same seed gives the same limits everywhere.

    Raises:
        ValueError: there are fewer than two speakers, or not one for each clip.
    """
    hits = np.asarray(hits)
    return by_speaker(hits, np.zeros(len(hits), int), 1, speakers, confidence, resamples, seed).accuracy


def by_speaker(
    hits: ArrayLike,
    classes_of_clips: ArrayLike,
    classes: int,
    speakers: Sequence[Hashable],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SpeakerIntervals:
    """`cluster_bootstrap` for all clips, for the mean of the classes and for each class, from the same draws.

    Args:
        hits: (n,) true or 1 for a clip that was recognised.
        classes_of_clips: (n,) the true class of each clip, from 0 to `classes` - 1.
        classes: how many classes there are.
        speakers: who spoke each of the n clips.
        confidence: level of the limits.
        resamples: how many times the speakers are drawn.
        seed: of the draws.

    Raises:
        ValueError: there are fewer than two speakers, or not one for each clip.
    """
    _quantile(confidence)  # refuses what is no level
    hit, target = np.asarray(hits, dtype=np.float64), np.asarray(classes_of_clips, dtype=np.int64)
    code, count = _codes(speakers, len(hit))
    won, total = np.zeros((count, classes)), np.zeros((count, classes))
    np.add.at(won, (code, target), hit)
    np.add.at(total, (code, target), 1)
    drawn = resampled_sums(np.hstack([won, total]), resamples, seed)
    drawn_won, drawn_total = drawn[:, :classes], drawn[:, classes:]

    with np.errstate(invalid="ignore"):  # a draw without a clip of some class: 0/0
        shares = drawn_won / drawn_total
        every = drawn_won.sum(1) / drawn_total.sum(1)
    per_class = []
    for index in range(classes):
        share = shares[:, index]
        size, spread = speakers_worth(total[:, index]), _variance(share[~np.isnan(share)], count)
        per_class.append(_proportion(won[:, index].sum(), total[:, index].sum(), spread, size, confidence))
    present = total.sum(0) > 0
    means = _mean_of_present(shares[:, present])
    clips, worth = int(total.sum()), speakers_worth(total.sum(1))
    macro = float(np.mean(won.sum(0)[present] / total.sum(0)[present]))
    most = _effective_n([each for each in per_class if each.n], macro)
    return SpeakerIntervals(
        accuracy=_proportion(won.sum(), clips, _variance(every, count), worth, confidence),
        macro=_bootstrap_interval(macro, clips, most, _variance(means, count), worth, confidence),
        per_class=tuple(per_class),
        speakers=count,
    )


def resampled_sums(columns: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Sums over clusters that are drawn with replacement, as many as there are.

    A draw only matters by how often each cluster came, so that all draws are one matrix product.

    >>> resampled_sums([[1.0], [1.0], [1.0]], resamples=2).tolist()
    [[3.0], [3.0]]

    Args:
        columns: (clusters, k) what is to be summed.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        (resamples, k).
    """
    table = np.asarray(columns, dtype=np.float64)
    clusters, rng = len(table), np.random.default_rng(seed)
    block = max(1, _BLOCK // clusters)
    sums = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        sums.append(times.astype(np.float64) @ table)
    return np.concatenate(sums)


def student_quantile(confidence: float, freedom: float) -> float:
    """The two-sided quantile of Student's t: 0.95 and 9 -> 2.262.

    >>> round(student_quantile(0.95, 9), 3)
    2.262
    """
    _quantile(confidence)  # refuses what is no level
    angles, shares = _student(max(1.0, freedom))
    return math.sqrt(max(1.0, freedom)) * math.tan(float(np.interp(confidence, shares, angles)))


def student_probability(t: float, freedom: float) -> float:
    """How likely Student's t is within -t and t.

    >>> round(student_probability(2.262, 9), 3)
    0.95
    """
    angles, shares = _student(max(1.0, freedom))
    return float(np.interp(math.atan(t / math.sqrt(max(1.0, freedom))), angles, shares))


@lru_cache(maxsize=64)
def _student(freedom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles from 0 to a right one, and the probability that |t| < sqrt(freedom) * tan(angle).

    With t = sqrt(freedom) tan(angle) the density is proportional to cos(angle) ** (freedom - 1), which is smooth and
    ends, so that a sum of trapezia is good to seven digits, for any real number of degrees of freedom.
    """
    angles = np.linspace(0, math.pi / 2, 100_001)
    density = np.clip(np.cos(angles), 0, None) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return angles, area / area[-1]


def _codes(speakers: Sequence[Hashable], n: int) -> tuple[NDArray[np.int64], int]:
    """A number from 0 for each speaker, in the order of their first clips, and how many there are."""
    if len(speakers) != n:
        raise ValueError(f"{len(speakers)} speakers for {n} clips; expected one for each clip")
    numbers: dict[Hashable, int] = {}
    code = np.array([numbers.setdefault(speaker, len(numbers)) for speaker in speakers], dtype=np.int64)
    if len(numbers) < 2:
        raise ValueError(f"{len(numbers)} speaker; a bootstrap over speakers needs at least two")
    return code, len(numbers)


def _variance(draws: NDArray[np.float64], clusters: int) -> float:
    """The variance over the draws, mended for the clusters being drawn from themselves."""
    return float(draws.var()) * clusters / (clusters - 1) if len(draws) else 0.0


def _mean_of_present(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row without its nan; every draw holds a clip of some class."""
    known = ~np.isnan(shares)
    return np.where(known, shares, 0).sum(1) / known.sum(1)


def speakers_worth(sizes: NDArray[np.float64]) -> float:
    """How many speakers of equal size the speakers are worth (Kish 1965): all if equal, fewer if a few say most."""
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if sizes.any() else 0.0


def _proportion(hits: float, n: float, variance: float, worth: float, confidence: float) -> Interval:
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0, "speaker-bootstrap", confidence)
    return _bootstrap_interval(float(hits / n), int(n), float(n), variance, worth, confidence)


def _bootstrap_interval(p: float, n: int, most: float, variance: float, worth: float, confidence: float) -> Interval:
    """Wilson's limits at the number of independent clips that the variance of the draws stands for.

    That number is `most` where speakers do not matter, and by chance more; to cut it there would make limits too wide.
    """
    seen = min(CHANCE_EXCESS * most, p * (1 - p) / variance) if variance else most
    low, high = proportion_limits(p, seen, worth, confidence)
    return Interval(p, low, high, n, "speaker-bootstrap", confidence)


def proportion_limits(p: float, effective: float, worth: float, confidence: float) -> tuple[float, float]:
    """Wilson's limits of a share from speakers.

    Args:
        p: the share.
        effective: how many independent clips its variance stands for.
        worth: how many equal speakers the clips are from, which gives Student's t its degrees of freedom.
        confidence: level of the limits.
    """
    z = _quantile(confidence)
    if p in (0.0, 1.0):  # no variance is seen, so none is estimated: take a speaker as one clip
        return _wilson_limits(p, worth, z)
    return _wilson_limits(p, effective * (z / student_quantile(confidence, worth - 1)) ** 2, z)


def _wilson_limits(p: float, n: float, z: float) -> tuple[float, float]:
    shrink = 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    # At the ends the formula gives 0 and 1 exactly; rounding would leave 1e-18 or 0.9999999999999999.
    return 0.0 if p == 0 else centre - half, 1.0 if p == 1 else centre + half


def _quantile(confidence: float) -> float:
    """The two-sided normal quantile: 0.95 -> 1.96."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is no level; expected one between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
