"""Proportions with their uncertainty: accuracy, the mean of the classes and each class.

Clips of one speaker are alike: a voice that is misheard once is misheard again. So where speakers are known, the
limits come from how much the speakers differ, not the clips (`by_speaker`). Wilson's interval takes clips as
independent and serves where speakers are unknown. `benchmarks/coverage.py` simulates how often each covers the truth,
beside the intervals that others published; docs/statistics.md gives the figures.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

BY_SPEAKER = "wilson-by-speaker"  # `Interval.method` of the limits that go by speaker
PRIOR_CORRELATION = 0.1  # of two clips of one speaker, assumed before any miss is seen
PRIOR_WEIGHT = 3  # misses that a prior design effect of 1 counts as much as; see `DesignEffect`
PRIOR_FREEDOM = 8  # degrees of freedom that the prior is worth at least
SHRINKAGE = 2  # clips of the mean accuracy lent to each class, or a class of one clip, a hit, would seem certain


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits.

    Attributes:
        estimate: a proportion from 0 to 1; nan where there was nothing to estimate it from.
        low: lower confidence limit, from 0 to 1.
        high: upper confidence limit, from 0 to 1.
        n: clips that the estimate rests on.
        method: how the limits were made: "wilson" and "wilson-effective-n" take clips as independent,
            "wilson-by-speaker" does not.
        level: confidence level of the limits.

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
    level: float = 0.95

    def __str__(self) -> str:
        if self.n == 0:
            return "no clips, n = 0"
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.estimate:.1f} % [{low:.1f}, {high:.1f}], n = {self.n:,}"

    def as_dict(self) -> dict[str, float | int | str | None]:
        """The fields for JSON, which has no nan: what could not be estimated is None."""
        numbers = {"estimate": self.estimate, "low": self.low, "high": self.high}
        plain = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        return {**plain, "n": self.n, "method": self.method, "confidence": self.level}


def nothing_measured(method: str, level: float = 0.95) -> Interval:
    """The interval of no clips: its numbers are nan."""
    return Interval(math.nan, math.nan, math.nan, 0, method, level)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The Wilson score interval of a binomial proportion (Wilson 1927, JASA 22:209-212).

    It holds its level for small n and for proportions near 0 and 1, where the textbook interval collapses: 0 hits
    out of 8 clips still leave up to 32 %.

    >>> wilson(0, 8).low, round(wilson(0, 8).high, 3)
    (0.0, 0.324)

    Returns:
        The interval; with n = 0 its numbers are nan, since a class without clips has no accuracy.

    Raises:
        ValueError: `successes` is not within 0 and n, or `level` not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} clips is not a proportion; expected 0 <= successes <= n")
    z = normal_quantile(level)
    if n == 0:
        return nothing_measured("wilson", level)
    low, high = _wilson_limits(successes / n, n, z)
    return Interval(successes / n, low, high, n, "wilson", level)


def mean_of_proportions(successes: Sequence[int], totals: Sequence[int], level: float = 0.95) -> Interval:
    """The unweighted mean of several proportions, as macro accuracy is the mean over the classes.

    Clips are taken as independent. The limits are Wilson's at the effective number of clips, as for proportions of
    stratified samples (Franco, Little, Louis and Slud 2019, Journal of Survey Statistics and Methodology 7:334-364):
    the mean m of k classes has the variance v = sum(p_i (1 - p_i) / n_i) / k^2, which is that of m (1 - m) / v clips
    drawn alike. In v each class is lent `SHRINKAGE` clips of the mean accuracy, and v counts beside `PRIOR_WEIGHT`
    misses that are as likely in any class, so that the limits stay continuous where no miss is left.
    In simulations of 2 to 35 classes it covers 93 to 98 % for a nominal 95 % (tests/metrics/test_intervals.py).

    >>> print(mean_of_proportions([10, 0], [10, 90]))
    50.0 % [39.2, 60.8], n = 100

    Args:
        successes: hits of each class.
        totals: clips of each class; classes without clips have no accuracy and are left out.
        level: confidence level of the limits.

    Returns:
        The interval with n = all clips; its numbers are nan if no class has clips.

    Raises:
        ValueError: the two lists differ in length, or a class has more hits than clips.
    """
    each = [wilson(hits, n, level) for hits, n in zip(successes, totals, strict=True)]
    each = [interval for interval in each if interval.n]
    if not each:
        return nothing_measured("wilson-effective-n", level)
    mean = math.fsum(interval.estimate for interval in each) / len(each)
    sizes = np.array([interval.n for interval in each], dtype=np.float64)
    clips = len(each) ** 2 / float((1 / sizes).sum())
    seen = _of_classes(np.array([interval.estimate for interval in each]), sizes, mean)
    effect = (PRIOR_WEIGHT + seen) / (PRIOR_WEIGHT + clips * mean * (1 - mean))
    low, high = _wilson_limits(mean, clips / effect, normal_quantile(level))
    return Interval(mean, low, high, int(sizes.sum()), "wilson-effective-n", level)


def _of_classes(proportions: NDArray[np.float64], sizes: NDArray[np.float64], mean: float) -> float:
    """The variance of the classes' mean if clips are independent, in the unit of `DesignEffect.seen`."""
    shrunk = (proportions * sizes + SHRINKAGE * mean) / (sizes + SHRINKAGE)
    return float((shrunk * (1 - shrunk) / sizes).sum()) * len(sizes) ** 2 / float((1 / sizes).sum()) ** 2


@dataclass(frozen=True)
class DesignEffect:
    """By how much clips that come from speakers say less than as many independent clips.

    The design effect is the variance over that of independent clips (Kish 1965, Survey Sampling). A few misses hardly
    say what it is, and none say nothing, so what is seen counts beside a prior:

        effect = (weight * prior + seen) / (weight + clips * p * (1 - p))
        prior = 1 + PRIOR_CORRELATION * (clips of an average clip's speaker - 1)
        weight = PRIOR_WEIGHT * prior

    So the limits move smoothly to those of the prior as the last misses go. With less weight the effect would grow
    faster there than a miss is worth, and the lower limit would fall where a miss becomes a hit.

    Attributes:
        effect: the shrunken design effect.
        freedom: the degrees of freedom that it is worth.
    """

    effect: float
    freedom: float

    @classmethod
    def shrunk(
        cls, p: float, clips: float, seen: float, shares: NDArray[np.float64], freedom: float, terms: int = 1
    ) -> DesignEffect:
        """The design effect of a proportion.

        Args:
            p: the proportion.
            clips: how many clips of equal weight the clips are worth; all of them where weights are equal.
            seen: the estimated variance of p, times `clips` squared.
            shares: (speakers,) of the clips' weight; their sum is 1.
            freedom: degrees of freedom of `seen`.
            terms: of how many such variances the estimate's variance is the sum; each moves as p does.
        """
        prior = 1 + PRIOR_CORRELATION * max(0.0, clips * float((shares**2).sum()) - 1)
        weight = PRIOR_WEIGHT * prior * terms
        both = weight * prior + seen
        trust = seen / both  # in what is seen
        blended = 1 / (trust / freedom + (1 - trust) / max(PRIOR_FREEDOM, speaker_freedom(shares)))
        return cls(both / (weight + clips * p * (1 - p)), blended)


@dataclass(frozen=True)
class SpeakerSums:
    """What the speakers add to an estimate, from which its variance follows.

    The estimate is a mean of the clips with weights, and `residuals` are the sums of weight * (clip - mean) over each
    speaker's clips, times `clips`. Their squares, each divided by one less the speaker's share, sum to the variance
    without bias if clips are independent (the CR2 of Bell and McCaffrey 2002, Survey Methodology 28:169-181).

    Attributes:
        residuals: (speakers,).
        shares: (speakers,) of the clips' weight.
    """

    residuals: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def squares(self) -> NDArray[np.float64]:
        """(speakers who said something,) whose sum is the variance times `clips` squared."""
        heard = (self.shares > 0) & (self.shares < 1)
        return self.residuals[heard] ** 2 / (1 - self.shares[heard])

    @property
    def freedom(self) -> float:
        """Degrees of freedom of that sum: Bell and McCaffrey's, or fewer where few speakers hold most of the misses.

        The second count comes from the spread of the squares themselves, by their first two moments.
        """
        squares = self.squares
        total, fourth = float(squares.sum()), float((squares**2).sum())
        spread = fourth - total**2 / max(1, len(squares))
        seen = 2 * total**2 / spread if spread > 1e-12 * total**2 else math.inf
        return max(1.0, min(speaker_freedom(self.shares), seen))


def speaker_freedom(shares: NDArray[np.float64]) -> float:
    """Degrees of freedom of a variance between speakers: one less than speakers of equal share, fewer if unequal.

    Bell and McCaffrey (2002, Survey Methodology 28:169-181) for a mean of independent clips.

    >>> round(speaker_freedom(np.full(9, 1 / 9)), 6)
    8.0
    """
    shares = shares[shares > 0]
    if len(shares) < 2:
        return 1.0
    odds = shares**2 / (1 - shares)
    return float(1 / ((shares**2).sum() + odds.sum() ** 2 - (odds**2).sum()))


def wilson_at(p: float, effective: float, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's limits of a proportion that is worth `effective` independent clips, known by `freedom` degrees.

    Student's t takes the place of the normal quantile by making the clips fewer (Korn and Graubard 1998, Survey
    Methodology 24:193-201).
    """
    z = normal_quantile(level)
    return _wilson_limits(p, effective * (z / student_quantile(level, freedom)) ** 2, z)


@dataclass(frozen=True)
class SpeakerIntervals:
    """Accuracies whose limits go by speaker.

    Attributes:
        accuracy: of all clips.
        macro: the unweighted mean of the classes that have clips.
        per_class: of each class; n = 0 for a class without clips.
        speakers: how many spoke.
    """

    accuracy: Interval
    macro: Interval
    per_class: tuple[Interval, ...]
    speakers: int


def proportion_by_speaker(hits: ArrayLike, speakers: Sequence[Hashable], level: float = 0.95) -> Interval:
    """The accuracy of clips that come from speakers.

    The limits are Wilson's at the number of independent clips that the clips are worth, n / `DesignEffect.effect`, with
    Student's t. Without a miss they rest on the prior design effect alone, and each miss moves them by about what a
    clip is worth.

    >>> print(proportion_by_speaker([1, 1, 1, 1, 0, 0, 1, 1, 1, 0], "aabbccddee"))
    70.0 % [27.5, 93.5], n = 10

    Args:
        hits: (n,) true or 1 for a clip that was recognised.
        speakers: who spoke each of the n clips.
        level: confidence level of the limits.

    Raises:
        ValueError: there are fewer than two speakers, or not one for each clip.
    """
    hits = np.asarray(hits)
    return by_speaker(hits, np.zeros(len(hits), int), 1, speakers, level).accuracy


def by_speaker(
    hits: ArrayLike, classes_of_clips: ArrayLike, classes: int, speakers: Sequence[Hashable], level: float = 0.95
) -> SpeakerIntervals:
    """`proportion_by_speaker` for all clips, for the mean of the classes and for each class.

    Args:
        hits: (n,) true or 1 for a clip that was recognised.
        classes_of_clips: (n,) the true class of each clip, from 0 to `classes` - 1.
        classes: how many classes there are.
        speakers: who spoke each of the n clips.
        level: confidence level of the limits.

    Raises:
        ValueError: there are fewer than two speakers, or not one for each clip.
    """
    normal_quantile(level)  # refuses what is not a level
    hit, target = np.asarray(hits, dtype=np.float64), np.asarray(classes_of_clips, dtype=np.int64)
    code, count = speaker_codes(speakers, len(hit))
    won, total = np.zeros((count, classes)), np.zeros((count, classes))
    np.add.at(won, (code, target), hit)
    np.add.at(total, (code, target), 1)
    return SpeakerIntervals(
        accuracy=proportion_of_sums(won.sum(1), total.sum(1), level),
        macro=_macro(won[:, total.any(0)], total[:, total.any(0)], level),
        per_class=tuple(proportion_of_sums(won[:, index], total[:, index], level) for index in range(classes)),
        speakers=count,
    )


def proportion_of_sums(won: NDArray[np.float64], total: NDArray[np.float64], level: float = 0.95) -> Interval:
    """`proportion_by_speaker` from the hits and the clips of each speaker, both (speakers,)."""
    n = float(total.sum())
    if not n:
        return nothing_measured(BY_SPEAKER, level)
    p = float(won.sum()) / n
    sums = SpeakerSums(won - p * total, total / n)
    seen = max(float(sums.squares.sum()), n * p * (1 - p))  # never better than independent clips
    found = DesignEffect.shrunk(p, n, seen, sums.shares, sums.freedom)
    return Interval(p, *wilson_at(p, n / found.effect, found.freedom, level), int(n), BY_SPEAKER, level)


def _macro(won: NDArray[np.float64], total: NDArray[np.float64], level: float) -> Interval:
    """The mean of the classes, from the hits and clips (speakers, classes) of each speaker, every class with clips."""
    sizes = total.sum(0)
    proportions, weights = won.sum(0) / sizes, 1 / (sizes * len(sizes))  # of a clip
    mean, clips = float(np.mean(proportions)), len(sizes) ** 2 / float((1 / sizes).sum())
    sums = SpeakerSums(clips * ((won - proportions * total) @ weights), total @ weights)
    alone = float((proportions * (1 - proportions) * sizes * weights**2).sum()) * clips**2
    independent = _of_classes(proportions, sizes, mean)
    seen = max(float(sums.squares.sum()) - alone + independent, independent)
    found = DesignEffect.shrunk(mean, clips, seen, sums.shares, sums.freedom)
    limits = wilson_at(mean, clips / found.effect, found.freedom, level)
    return Interval(mean, *limits, int(sizes.sum()), BY_SPEAKER, level)


def speaker_codes(speakers: Sequence[Hashable], n: int) -> tuple[NDArray[np.int64], int]:
    """A number from 0 for each speaker, in the order of their first clips, and how many there are.

    >>> speaker_codes(["b", "a", "b"], 3)
    (array([0, 1, 0]), 2)

    Raises:
        ValueError: there are fewer than two speakers, or not one for each of the n clips.
    """
    if len(speakers) != n:
        raise ValueError(f"{len(speakers)} speakers for {n} clips; expected one for each clip")
    numbers: dict[Hashable, int] = {}
    code = np.array([numbers.setdefault(speaker, len(numbers)) for speaker in speakers], dtype=np.int64)
    if len(numbers) < 2:
        raise ValueError(f"{len(numbers)} speaker; limits by speaker need at least two")
    return code, len(numbers)


def codes_of_clips(speakers: Sequence[Hashable | None] | None, n: int) -> tuple[NDArray[np.int64], bool]:
    """As `speaker_codes`, but each clip has a number of its own where speakers are unknown or only one spoke.

    >>> codes_of_clips(["b", None, "b"], 3)
    (array([0, 1, 2]), False)

    Returns:
        The numbers, and whether they are of speakers.

    Raises:
        ValueError: there is not one speaker for each of the n clips.
    """
    if speakers is not None and len(speakers) != n:
        raise ValueError(f"{len(speakers)} speakers for {n} clips; expected one for each clip")
    if speakers is None or any(each is None for each in speakers) or len(set(speakers)) < 2:
        return np.arange(n), False
    return speaker_codes(speakers, n)[0], True


def normal_quantile(level: float) -> float:
    """The two-sided normal quantile: 0.95 -> 1.96.

    Raises:
        ValueError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"confidence {level} is not a level; expected one between 0 and 1, such as 0.95")
    return float(ndtri(0.5 + level / 2))


def student_quantile(level: float, freedom: float) -> float:
    """The two-sided quantile of Student's t.

    >>> round(student_quantile(0.95, 9), 3)
    2.262
    """
    normal_quantile(level)  # refuses what is not a level
    return float(stdtrit(max(1.0, freedom), 0.5 + level / 2))


def student_p_value(t: float, freedom: float) -> float:
    """How likely Student's t is farther from zero than `t`, on either side: the two-sided p value.

    >>> round(student_p_value(2.262, 9), 3)
    0.05
    """
    return 2 * float(stdtr(max(1.0, freedom), -abs(t)))


def _wilson_limits(p: float, n: float, z: float) -> tuple[float, float]:
    shrink = 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    # At the ends the formula gives 0 and 1 exactly; rounding would leave 1e-18 or 0.9999999999999999.
    return 0.0 if p == 0 else centre - half, 1.0 if p == 1 else centre + half
