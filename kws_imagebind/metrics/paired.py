"""One run against another on the same clips, and several tests looked at together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kws_imagebind.metrics.intervals import (
    CHANCE_EXCESS,
    RESAMPLES,
    _codes,
    _quantile,
    _variance,
    resampled_sums,
    speakers_worth,
    student_probability,
    student_quantile,
)


@dataclass(frozen=True)
class PairedComparison:
    """One run against another on the same clips.

    Attributes:
        difference: accuracy of the first run less that of the second, from -1 to 1.
        low: lower confidence limit of the difference.
        high: upper confidence limit of the difference.
        p: how likely a difference this large is where there is none: by Student's t from the same spread as the limits,
            or by `sign_flips` where that says more.
        mcnemar: the same from McNemar's exact test, which takes clips as independent.
        only_first: clips that the first run alone has right.
        only_second: clips that the second run alone has right.
        n: clips.
        method: "paired-speaker-bootstrap", or "paired-normal" where speakers are unknown.
        confidence: the level of the limits.

    >>> print(compare_paired([1, 1, 1, 0, 1, 1], [1, 0, 1, 0, 0, 1]))
    +33.3 points [-20.9, +87.5], p = 0.5; McNemar's exact p = 0.5; right alone 2 against 0 of 6 clips
    >>> print(compare_paired([1], [0]))
    +100.0 points [-100.0, +100.0], p = 1; McNemar's exact p = 1; right alone 1 against 0 of 1 clips
    """

    difference: float
    low: float
    high: float
    p: float
    mcnemar: float
    only_first: int
    only_second: int
    n: int
    method: str
    confidence: float = 0.95

    def __str__(self) -> str:
        low, high = 100 * self.low, 100 * self.high
        return (
            f"{100 * self.difference:+.1f} points [{low:+.1f}, {high:+.1f}], p = {p_text(self.p)}; McNemar's exact "
            f"p = {p_text(self.mcnemar)}; right alone {self.only_first:,} against {self.only_second:,} "
            f"of {self.n:,} clips"
        )


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    speakers: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedComparison:
    """How much better one run is than another on the same clips, and whether that can be chance.

    Speakers are drawn anew with all of their clips; the spread of the difference over the draws gives its limits and
    its p, both by Student's t with the degrees of freedom of `cluster_bootstrap`. Without speakers the clips are taken
    as independent and the spread is that of the clips' differences.

    A few clips, or gains that happen to be the same for every speaker, show less spread than there is. So the variance
    is never taken for less than that of independent clips with half a clip more in each cell of the two-by-two table
    (Agresti and Min 2005, Statistics in Medicine 24:729-740; with speakers a `CHANCE_EXCESS`-th of it), p never for
    less than the exact `sign_flips` over the speakers' net gains (over clips, which is McNemar's test, where speakers
    are unknown), and the limits hold zero where p does not refute it.

    Args:
        first: (n,) true or 1 for a clip that the first run has right.
        second: the same of the second run, the clips in the same order.
        speakers: who spoke each clip, or None where that is unknown.
        confidence: level of the limits.
        resamples: how many times the speakers are drawn.
        seed: of the draws.

    Raises:
        ValueError: the runs differ in length or have no clips; fewer than two speakers.
    """
    _quantile(confidence)
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != two.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"runs of shape {one.shape} and {two.shape}; expected the same clips, at least one, in both")
    gains = one.astype(np.float64) - two
    estimate, n = float(gains.mean()), len(gains)
    only = int((one & ~two).sum()), int((two & ~one).sum())
    if speakers is None:
        spread, freedom, method = float(gains.var()) / max(1, n - 1), float(max(1, n - 1)), "paired-normal"
        exact, floor = mcnemar(*only), _agresti_min(*only, n)
    else:
        code, count = _codes(speakers, n)
        sizes = np.bincount(code, minlength=count).astype(np.float64)
        won = np.bincount(code, gains, count)
        drawn = resampled_sums(np.stack([won, sizes], 1), resamples, seed)
        spread, freedom = _variance(drawn[:, 0] / drawn[:, 1], count), speakers_worth(sizes) - 1
        method = "paired-speaker-bootstrap"
        exact, floor = sign_flips(won.astype(np.int64).tolist()), _agresti_min(*only, n) / CHANCE_EXCESS
    error = math.sqrt(max(spread, floor))
    half = student_quantile(confidence, freedom) * error
    p = max(exact, 1 - student_probability(abs(estimate) / error, freedom))
    low, high = max(-1.0, estimate - half), min(1.0, estimate + half)
    if p > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return PairedComparison(estimate, low, high, p, mcnemar(*only), *only, n, method, confidence)


def _agresti_min(only_first: int, only_second: int, n: int) -> float:
    """The variance of the difference of two paired proportions, with half a clip more in each of the four cells."""
    gain, size = only_first - only_second, n + 2
    return (only_first + only_second + 1 - gain**2 / size) / size**2


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (1947, Psychometrika 12:153-157): two-sided p of the clips that only one run has right.

    Under the null hypothesis each of them is a fair coin. Whole numbers keep it exact for any count.

    >>> mcnemar(10, 2), mcnemar(0, 0)
    (0.03857421875, 1.0)

    Raises:
        ValueError: a count is negative.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"{only_first} and {only_second} clips; expected counts from 0")
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = term = 1
    for k in range(1, fewer + 1):
        term = term * (n - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / 2**n)


def sign_flips(gains: Sequence[int]) -> float:
    """The exact randomisation test of paired sums (Fisher 1935, The Design of Experiments, chapter 3): two-sided p.

    Under the null hypothesis the two runs could change places for any speaker, so that each net gain is as likely as
    its opposite; p is the share of all choices of signs whose total is at least as far from zero. Gains of one clip
    each make it McNemar's exact test.

    >>> sign_flips([1, 1, 1]), sign_flips([5, -1, 0])
    (0.25, 1.0)

    Args:
        gains: of each speaker, clips that the first run alone has right less those that the second alone has.
    """
    sizes = [abs(gain) for gain in gains if gain]
    most = sum(sizes)
    chances = np.zeros(2 * most + 1)  # of each total from -most to most
    chances[most] = 1.0
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    totals = np.abs(np.arange(-most, most + 1))
    return min(1.0, float(chances[totals >= abs(sum(gains))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979, Scandinavian Journal of Statistics 6:65-70) of p values that are looked at together.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Returns:
        The corrected values in the order given; each may be compared with the level as if it stood alone.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def p_text(p: float) -> str:
    """A p value as it is printed.

    >>> p_text(0.0312), p_text(0.00004), p_text(1.0)
    ('0.031', '<0.0001', '1')
    """
    return "<0.0001" if p < 0.0001 else f"{p:.2g}"
