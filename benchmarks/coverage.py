"""How often the intervals cover the truth, by simulation.

    python -m benchmarks.coverage

Speakers say 1 to 263 clips each, as in the official v0.02 test split (a log-normal of median 30), and each is
recognised with a probability of their own, drawn from a beta distribution whose mean is the true accuracy. `rho` is
the correlation of two clips of one speaker: 0 is no speaker effect. A 95 % interval is right if it covers the true
accuracy in 95 % of the trials. The last two columns compare two runs of equal accuracy that find different speakers
hard: how often the paired interval holds the difference of zero, and how often McNemar's test keeps quiet at 5 %.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from kws_imagebind.metrics.intervals import cluster_bootstrap, resampled_sums, wilson
from kws_imagebind.metrics.paired import compare_paired

SPEAKERS = (30, 68, 250)  # 68 spoke the 1,142 test clips at hand, 250 the whole test split
ACCURACIES = (0.5, 0.87, 0.97)
CORRELATIONS = (0.0, 0.05, 0.1)
MEDIAN_CLIPS, SPREAD, MOST_CLIPS = 30, 0.85, 263  # of a speaker


def voices(rng: np.random.Generator, speakers: int) -> np.ndarray:
    """How many clips each speaker says."""
    drawn = np.exp(rng.normal(math.log(MEDIAN_CLIPS), SPREAD, speakers))
    return np.clip(np.round(drawn), 1, MOST_CLIPS).astype(int)


def skills(rng: np.random.Generator, speakers: int, accuracy: float, rho: float) -> np.ndarray:
    """How likely a clip of each speaker is recognised."""
    if rho == 0:
        return np.full(speakers, accuracy)
    weight = 1 / rho - 1
    return rng.beta(accuracy * weight, (1 - accuracy) * weight, speakers)


def percentiles(hits: np.ndarray, who: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """The textbook bootstrap over speakers: quantiles of the draws."""
    drawn = resampled_sums(np.stack([np.bincount(who, hits), np.bincount(who)], 1), resamples, seed)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return float(low), float(high)


def covered(speakers: int, accuracy: float, rho: float, trials: int, resamples: int) -> dict[str, float]:
    """The share of the trials in which each interval covers the truth."""
    rng = np.random.default_rng([speakers, round(1000 * accuracy), round(1000 * rho)])
    times = dict.fromkeys(("wilson", "percentiles", "speaker bootstrap", "paired", "McNemar"), 0)
    for trial in range(trials):
        sizes = voices(rng, speakers)
        who = np.repeat(np.arange(speakers), sizes)
        hits, others = (rng.random(len(who)) < skills(rng, speakers, accuracy, rho)[who] for _ in range(2))
        low, high = percentiles(hits, who, resamples, trial)
        times["percentiles"] += low <= accuracy <= high
        for name, interval in (
            ("wilson", wilson(int(hits.sum()), len(hits))),
            ("speaker bootstrap", cluster_bootstrap(hits, who.tolist(), resamples=resamples, seed=trial)),
        ):
            times[name] += interval.low <= accuracy <= interval.high
        paired = compare_paired(hits, others, who.tolist(), resamples=resamples, seed=trial)
        times["paired"] += paired.low <= 0 <= paired.high
        times["McNemar"] += paired.mcnemar > 0.05
    return {name: count / trials for name, count in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    arguments = parser.parse_args()
    names = ("wilson", "percentiles", "speaker bootstrap", "paired", "McNemar")
    print(f"| speakers | accuracy | rho | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    for speakers in SPEAKERS:
        for accuracy in ACCURACIES:
            for rho in CORRELATIONS:
                shares = covered(speakers, accuracy, rho, arguments.trials, arguments.resamples)
                cells = " | ".join(f"{100 * shares[name]:.1f}" for name in names)
                print(f"| {speakers} | {100 * accuracy:.0f} % | {rho} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
