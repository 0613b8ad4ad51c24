"""The accuracy of a classifier that was trained several times, each time tested on the same speakers.

Two things vary: the clips that were drawn to learn from, and the speakers that it is tested on. They are crossed: each
draw is tested on every speaker. With draw d and speaker s as random effects,

    accuracy(d, s) = mean + draw(d) + speaker(s) + interaction(d, s),

the mean over D draws and S speakers has the variance

    V = var(draw) / D + var(speaker) / S + var(interaction) / (D S).

How the speakers' accuracies, averaged over draws, differ estimates var(speaker) / S + var(interaction) / (D S); the
variance of the draws' accuracies over D estimates var(draw) / D + var(interaction) / (D S). Their sum counts the
interaction twice, so that its own estimate, from what neither draw nor speaker explains, is taken off once (Searle,
Casella and McCulloch 1992, Variance Components, chapter 4; the same rule makes variances clustered in two ways:
Cameron, Gelbach and Miller 2011, Journal of Business and Economic Statistics 29:238-249). The degrees of freedom of
Student's t are Satterthwaite's (1946, Biometrics Bulletin 2:110-114).

The draws are from one pool of clips; how much pools differ is not contained.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kws_imagebind.metrics.intervals import BY_SPEAKER, DesignEffect, Interval, SpeakerSums, codes_of_clips, wilson_at

METHOD = "draws-and-speakers"


def crossed_interval(hits: ArrayLike, speakers: Sequence[Hashable | None] | None, level: float = 0.95) -> Interval:
    """The mean accuracy over draws, with limits that contain the variance of draws and of speakers.

    The limits are Wilson's at the number of independent clips that the variance V (above) stands for, shrunk towards a
    prior as in `intervals.proportion_by_speaker`, which this is for one draw: then nothing says how much draws differ,
    and only speakers are contained.

    >>> print(crossed_interval([[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 0, 1]], "aabbcc"))
    75.0 % [29.1, 95.6], n = 6

    Args:
        hits: (draws, n) true or 1 where the classifier of a draw recognised a clip.
        speakers: of the n clips; where one is unknown or only one spoke, every clip counts as a speaker of its own.
        level: of the limits.

    Returns:
        The interval, with n the clips tested.

    Raises:
        ValueError: there is not one speaker for each clip, or fewer than two clips.
    """
    table = np.atleast_2d(np.asarray(hits, dtype=np.float64))
    draws, n = table.shape
    if n < 2:
        raise ValueError(f"{n} clip; an interval needs at least two")
    code, _ = codes_of_clips(speakers, n)
    won = np.zeros((int(code.max()) + 1, draws))
    np.add.at(won, code, table.T)
    clips = np.bincount(code).astype(np.float64)
    p, each = float(table.mean()), table.mean(axis=0)
    sums = SpeakerSums(won.mean(axis=1) - p * clips, clips / n)
    of_speakers = float(sums.squares.sum())
    of_draws, both = _of_draws(won, clips)
    independent = float(((each - p) ** 2).sum())  # speakers cannot be less alike than independent clips
    seen = max(of_speakers + of_draws - both, of_speakers, of_draws, independent)
    freedom = _freedom(of_speakers, sums.freedom, of_draws, draws - 1)
    found = DesignEffect.shrunk(p, n, seen, sums.shares, freedom)
    limits = wilson_at(p, n / found.effect, found.freedom, level)
    return Interval(p, *limits, n, METHOD if draws > 1 else BY_SPEAKER, level)


def _of_draws(won: NDArray[np.float64], clips: NDArray[np.float64]) -> tuple[float, float]:
    """What draws, and draws and speakers together, add to the variance of the mean accuracy, times the clips squared.

    Args:
        won: (speakers, draws) clips recognised.
        clips: (speakers,) clips tested.
    """
    count, draws = won.shape
    if draws == 1:
        return 0.0, 0.0
    of_draws = float(won.sum(axis=0).var(ddof=1)) / draws
    accuracies = won.sum(axis=0) / clips.sum()
    # What is left of each speaker's clips when the draw's and the speaker's own accuracy are taken off.
    left = won - won.mean(axis=1, keepdims=True) - clips[:, None] * (accuracies - accuracies.mean())
    scale = draws / (draws - 1) * count / (count - 1)
    return of_draws, float((left**2).sum()) * scale / draws**2


def _freedom(of_speakers: float, speakers: float, of_draws: float, draws: float) -> float:
    """Satterthwaite's degrees of freedom of a sum of two variances."""
    if not of_speakers + of_draws:
        return max(1.0, speakers)
    parts = of_speakers**2 / max(speakers, 1.0) + (of_draws**2 / draws if draws else 0.0)
    return max(1.0, (of_speakers + of_draws) ** 2 / parts)
