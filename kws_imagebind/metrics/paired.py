"""One run against another on the same clips, and several tests looked at together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from kws_imagebind.metrics.intervals import (
    SpeakerSums,
    normal_quantile,
    proportion_by_speaker,
    speaker_codes,
    speaker_freedom,
    student_p_value,
    student_quantile,
    wilson,
)

CHANCE_EXCESS = 2  # times: how far speakers may by chance seem more alike than independent clips are
IDENTICAL = "identical"  # `PairedComparison.method` where no clip is right in one run alone


@dataclass(frozen=True)
class PairedComparison:
    """One run against another on the same clips.

    Where both runs are right on the same clips and wrong on the same clips, nothing was measured: the difference is 0,
    it has no limits (nan), and `differing_at_most` says what other clips could still show.

    Attributes:
        difference: accuracy of the first run less that of the second, from -1 to 1.
        low: lower confidence limit of the difference; nan if no clip is right in one run alone.
        high: upper confidence limit of the difference; nan if no clip is right in one run alone.
        p: how likely a difference this large is where there is none: by Student's t from the same spread as the limits,
            or by `sign_flips` where that says more.
        mcnemar: the same from McNemar's exact test, which takes clips as independent.
        only_first: clips that the first run alone has right.
        only_second: clips that the second run alone has right.
        n: clips.
        method: "paired-by-speaker", "paired-normal" where speakers are unknown, or "identical".
        level: confidence level of the limits.
        differing_at_most: upper limit of the share of other clips that one run alone has right.

    >>> print(compare_paired([1, 1, 1, 0, 1, 1], [1, 0, 1, 0, 0, 1]))
    +33.3 points [-20.9, +87.5], p = 0.5; McNemar's exact p = 0.5; right alone 2 against 0 of 6 clips
    >>> print(compare_paired([1], [0]))
    +100.0 points [-100.0, +100.0], p = 1; McNemar's exact p = 1; right alone 1 against 0 of 1 clips
    >>> print(compare_paired([1, 0] * 100, [1, 0] * 100))
    identical: right and wrong on the same 200 clips; at most 1.9 % of other clips could differ (95 % limit)
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
    level: float = 0.95
    differing_at_most: float = 1.0

    @property
    def identical(self) -> bool:
        """Whether both runs are right on the same clips and wrong on the same clips."""
        return self.only_first == self.only_second == 0

    @property
    def difference_text(self) -> str:
        """The difference with its limits and p, or that there is none."""
        if self.identical:
            return (
                f"identical: right and wrong on the same {self.n:,} clips; at most "
                f"{100 * self.differing_at_most:.1f} % of other clips could differ ({100 * self.level:g} % limit)"
            )
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.difference:+.1f} points [{low:+.1f}, {high:+.1f}], {p_text(self.p)}"

    def difference_as_dict(self) -> dict[str, float | str | None]:
        """The difference for JSON; where the runs are identical it has no limits (None)."""
        return {
            "estimate": self.difference,
            "low": None if self.identical else self.low,
            "high": None if self.identical else self.high,
            "method": self.method,
            "differing_at_most": self.differing_at_most,
        }

    def __str__(self) -> str:
        if self.identical:
            return self.difference_text
        return (
            f"{self.difference_text}; McNemar's exact {p_text(self.mcnemar)}; right alone {self.only_first:,} against "
            f"{self.only_second:,} of {self.n:,} clips"
        )


def compare_paired(
    first: ArrayLike, second: ArrayLike, speakers: Sequence[Hashable] | None = None, level: float = 0.95
) -> PairedComparison:
    """How much better one run is than another on the same clips, and whether that can be chance.

    The spread of the speakers' net gains gives the difference its limits and its p, both by Student's t with
    `speaker_freedom`. Without speakers the clips are taken as independent and the spread is that of the clips.

    A few clips, or gains that happen to be the same for every speaker, show less spread than there is. So the variance
    is never taken for less than that of independent clips with half a clip more in each cell of the two-by-two table
    (Agresti and Min 2005, Statistics in Medicine 24:729-740; with speakers a `CHANCE_EXCESS`-th of it), p never for
    less than the exact `sign_flips` over the speakers' net gains (over clips, which is McNemar's test, where speakers
    are unknown), and the limits hold zero where p does not refute it.

    Args:
        first: (n,) true or 1 for a clip that the first run has right.
        second: the same of the second run, the clips in the same order.
        speakers: who spoke each clip, or None where that is unknown.
        level: confidence level of the limits.

    Raises:
        ValueError: the runs differ in length or have no clips; fewer than two speakers.
    """
    normal_quantile(level)
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != two.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"runs of shape {one.shape} and {two.shape}; expected the same clips, at least one, in both")
    gains = one.astype(np.float64) - two
    estimate, n = float(gains.mean()), len(gains)
    only = int((one & ~two).sum()), int((two & ~one).sum())
    differing = _differing_at_most(one != two, speakers, level)
    if sum(only) == 0:
        return PairedComparison(0.0, math.nan, math.nan, 1.0, 1.0, 0, 0, n, IDENTICAL, level, differing)
    if speakers is None:
        spread, freedom, method = float(gains.var()) / max(1, n - 1), float(max(1, n - 1)), "paired-normal"
        exact, floor = mcnemar(*only), _agresti_min(*only, n)
    else:
        code, count = speaker_codes(speakers, n)
        sizes, won = np.bincount(code, minlength=count).astype(np.float64), np.bincount(code, gains, count)
        sums = SpeakerSums(won - estimate * sizes, sizes / n)
        spread, freedom, method = float(sums.squares.sum()) / n**2, speaker_freedom(sums.shares), "paired-by-speaker"
        exact, floor = sign_flips(won.astype(np.int64).tolist()), _agresti_min(*only, n) / CHANCE_EXCESS
    error = math.sqrt(max(spread, floor))
    half = student_quantile(level, freedom) * error
    p = max(exact, student_p_value(estimate / error, freedom))
    low, high = max(-1.0, estimate - half), min(1.0, estimate + half)
    if p > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return PairedComparison(estimate, low, high, p, mcnemar(*only), *only, n, method, level, differing)


def _differing_at_most(differs: NDArray[np.bool_], speakers: Sequence[Hashable] | None, level: float) -> float:
    """Upper limit of the share of clips on which one run alone is right."""
    if speakers is None:
        return wilson(int(differs.sum()), len(differs), level).high
    return proportion_by_speaker(differs, speakers, level).high


def _agresti_min(only_first: int, only_second: int, n: int) -> float:
    """The variance of the difference of two paired proportions, with half a clip more in each of the four cells."""
    gain, size = only_first - only_second, n + 2
    return (only_first + only_second + 1 - gain**2 / size) / size**2


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (1947, Psychometrika 12:153-157): two-sided p of the clips that only one run has right.

    Under the null hypothesis each of them is a fair coin.

    >>> round(mcnemar(10, 2), 6), mcnemar(0, 0)
    (0.038574, 1.0)

    Raises:
        ValueError: a count is negative.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"{only_first} and {only_second} clips; expected counts from 0")
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


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
    ('p = 0.031', 'p < 0.0001', 'p = 1')
    """
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
