"""Proportions with their uncertainty: what every accuracy of this project is reported as.

The intervals here treat clips as independent draws. Clips of one speaker are not quite that, so where a few
speakers gave many clips each, the true uncertainty is larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

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
        method: how the limits were made, such as "wilson".
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
