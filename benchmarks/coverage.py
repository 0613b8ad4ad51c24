"""How often the intervals cover the truth, by simulation, beside intervals that others published.

    python -m benchmarks.coverage                 # every table, in two to four minutes on one core
    python -m benchmarks.coverage --rho report    # the rho of runs that `evaluate` wrote
    python -m benchmarks.coverage --only ends     # one of: ends, monotone, proportion, classes, auroc, pairs, paired

Each speaker is recognised with a probability of their own, drawn from a beta distribution whose mean is the true
accuracy. `rho` is the correlation of two clips of one speaker: 0 is no speaker effect; PhoneBind on the validation and
the training clips at hand shows 0.02. Speakers say 30 clips each ("equal"), 1 to 263 as in the official v0.02 test
split ("unequal", a log-normal of median 30), or 6 each ("few"). A 95 % interval is right if it covers the true value in
95 % of the trials.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit

from kws_imagebind.metrics.intervals import SpeakerSums, by_speaker, proportion_of_sums, speaker_codes, wilson
from kws_imagebind.metrics.paired import compare_paired
from kws_imagebind.metrics.pairs import pair_metrics
from kws_imagebind.metrics.roc import auroc_interval, roc_curve
from kws_imagebind.reporting.predictions import find_predictions, read_predictions

Array = NDArray[np.float64]
Limits = tuple[Array, Array]

SPEAKERS = (5, 7, 10, 20, 68)  # 68 spoke the 1,142 test clips at hand
ACCURACIES = (0.8, 0.9, 0.97, 0.99, 0.999)
CORRELATIONS = (0.0, 0.05, 0.1, 0.2)
SIZES = ("equal", "unequal", "few")
MEDIAN_CLIPS, SPREAD, MOST_CLIPS, FEW_CLIPS = 30, 0.85, 263, 6  # of a speaker
Z = float(ndtri(0.975))
OURS = "ours"


# Speakers and their clips


def voices(rng: np.random.Generator, shape: int | tuple[int, ...], sizes: str = "unequal") -> NDArray[np.int64]:
    """How many clips each speaker says."""
    if sizes != "unequal":
        return np.full(shape, MEDIAN_CLIPS if sizes == "equal" else FEW_CLIPS)
    drawn = np.exp(rng.normal(math.log(MEDIAN_CLIPS), SPREAD, shape))
    return np.clip(np.round(drawn), 1, MOST_CLIPS).astype(np.int64)


def skills(rng: np.random.Generator, shape: int | tuple[int, ...], accuracy: float, rho: float) -> Array:
    """How likely a clip of each speaker is recognised."""
    if rho == 0:
        return np.full(shape, accuracy)
    weight = 1 / rho - 1
    return rng.beta(accuracy * weight, (1 - accuracy) * weight, shape)


# Intervals that others published, for many trials at once: hits and clips are (trials, speakers)


def _wilson(p: Array, n: Array) -> Limits:
    centre, half = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + (Z / (2 * n)) ** 2)
    return (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)


def _beta(p: Array, n: Array, more: float) -> Limits:
    """Clopper and Pearson's limits with `more` = 1, Jeffreys' with 0.5."""
    hits, misses = np.maximum(p * n, 0), np.maximum((1 - p) * n, 0)
    low = betaincinv(np.maximum(hits + 1 - more, 1e-9), misses + more, 0.025)
    high = betaincinv(hits + more, np.maximum(misses + 1 - more, 1e-9), 0.975)
    return np.where(hits < 1e-9, 0, low), np.where(misses < 1e-9, 1, high)


def published(hits: Array, clips: Array) -> dict[str, Limits]:
    """Published intervals of clustered proportions, at 95 %.

    The variance is the linearised one of the survey literature, with one degree of freedom fewer than speakers. Where
    every clip is a hit it is 0, and the clips are then taken as independent, but for "first release", which then took a
    speaker as one clip.
    """
    n, speakers = clips.sum(1), clips.shape[1]
    p = hits.sum(1) / n
    variance = _variance(hits, clips)
    student = stdtrit(speakers - 1, 0.975)
    some = variance > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = np.where(some, p * (1 - p) / variance, n)
        adjusted = np.where(some, np.minimum(worth * (stdtrit(n - 1, 0.975) / student) ** 2, n), n)
        logit, half = np.log(p / (1 - p)), student * np.sqrt(variance) / (p * (1 - p))
        ends = _beta(p, n, 1)
        logits = tuple(
            np.where(some, 1 / (1 + np.exp(-(logit + sign * half))), end)
            for sign, end in zip((-1, 1), ends, strict=True)
        )
    equal = n**2 / (clips**2).sum(1)
    few = (Z / stdtrit(np.maximum(equal - 1, 1), 0.975)) ** 2
    shifted = hits - 0.5 * (np.arange(speakers) == clips.argmax(1)[:, None])  # half a miss, in the largest speaker
    seen = np.maximum(_variance(np.maximum(shifted, 0), clips), 1e-12)
    q = np.maximum(shifted, 0).sum(1) / n
    return {
        "Wilson, independent": _wilson(p, n),
        "Korn-Graubard": _beta(p, adjusted, 1),
        "Jeffreys": _beta(p, adjusted, 0.5),
        "modified Wilson": _wilson(p, np.where(some, np.minimum(worth * (Z / student) ** 2, n), n)),
        "logit": (logits[0], logits[1]),
        "half a miss": _wilson(p, np.minimum(q * (1 - q) / seen, n) * (Z / student) ** 2),
        "first release": _wilson(p, np.where(some, np.minimum(worth, 2 * n) * few, equal)),
    }


def _variance(hits: Array, clips: Array) -> Array:
    n, speakers = clips.sum(1), clips.shape[1]
    residuals = hits - (hits.sum(1) / n)[:, None] * clips
    return (residuals**2).sum(1) * speakers / (speakers - 1) / n**2


def ours(hits: Array, clips: Array) -> Limits:
    """The package's own limits of every trial."""
    found = [proportion_of_sums(*row) for row in zip(hits, clips, strict=True)]
    return np.array([each.low for each in found]), np.array([each.high for each in found])


# Simulations: each returns the share of the trials that a method covers, and its mean width


def covered(
    speakers: int, accuracy: float, rho: float, trials: int, sizes: str = "unequal"
) -> dict[str, tuple[float, float]]:
    """Accuracy: (coverage, mean width) of each method, over beta-binomial speakers."""
    rng = np.random.default_rng([speakers, round(1000 * accuracy), round(1000 * rho), SIZES.index(sizes)])
    clips = voices(rng, (trials, speakers), sizes)
    hits = rng.binomial(clips, skills(rng, clips.shape, accuracy, rho)).astype(np.float64)
    found = {**published(hits, clips.astype(np.float64)), OURS: ours(hits, clips.astype(np.float64))}
    return {name: _share(low, high, accuracy) for name, (low, high) in found.items()}


def covered_classes(speakers: int, accuracy: float, rho: float, trials: int) -> dict[str, tuple[float, float]]:
    """Macro accuracy of ten classes that are not equally hard nor equally frequent, and the rarest class's own."""
    rng = np.random.default_rng([speakers, round(1000 * accuracy), round(1000 * rho)])
    misses = (1 - accuracy) * np.linspace(0.2, 1.8, 10)
    frequent = np.linspace(0.04, 0.16, 10)
    macro, rarest = [], []
    for _ in range(trials):
        sizes = rng.multinomial(voices(rng, speakers), frequent)  # (speakers, classes)
        if not sizes.sum(0).all():
            continue
        factor = (1 - skills(rng, speakers, accuracy, rho)) / (1 - accuracy)  # of a speaker's misses
        chances = np.minimum(factor[:, None] * misses, 1)
        hits = sizes - rng.binomial(sizes, chances)
        who, word = (np.repeat(each.ravel(), sizes.ravel()) for each in np.indices(sizes.shape))
        hit = np.arange(len(who)) - np.repeat(np.cumsum(sizes) - sizes.ravel(), sizes.ravel()) < np.repeat(
            hits.ravel(), sizes.ravel()
        )
        found = by_speaker(hit, word, 10, who.tolist())
        macro.append((found.macro.low, found.macro.high))
        rarest.append((found.per_class[0].low, found.per_class[0].high))
    truth = _true_classes(misses, accuracy, rho)
    return {
        "macro accuracy": _share(*np.array(macro).T, float(truth.mean())),
        "rarest class": _share(*np.array(rarest).T, float(truth[0])),
    }


def _true_classes(misses: Array, accuracy: float, rho: float) -> Array:
    """The classes' true accuracies, since a miss rate cannot exceed 1."""
    factor = (1 - skills(np.random.default_rng(0), 200_000, accuracy, rho)) / (1 - accuracy)
    return np.array([1 - float(np.minimum(factor * each, 1).mean()) for each in misses])


def covered_auroc(
    recordings: int, area: float, alike: float, trials: int, failing: float = 0.0, voices_: int = 60
) -> tuple[float, float]:
    """The area under the ROC curve: 60 voices of 6 clips against recordings of 40 crops.

    Args:
        recordings: of noise.
        area: that is true; both sides are normal with unit variance.
        alike: correlation of two crops of one recording; two clips of one voice have 0.1.
        trials: how many.
        failing: share of recordings that are as likely to be accepted as a keyword.
        voices_: how many people.
    """
    rng = np.random.default_rng([recordings, round(1000 * area), round(1000 * alike)])
    clips, crops, apart = 6, 40, math.sqrt(2) * NormalDist().inv_cdf(area)
    truth = np.arange(voices_ * clips + recordings * crops) < voices_ * clips
    who = [*np.repeat(np.arange(voices_), clips).tolist(), *(-1 - np.repeat(np.arange(recordings), crops)).tolist()]
    limits = []
    for _ in range(trials):
        inside = np.repeat(rng.normal(0, 0.1**0.5, voices_), clips) + rng.normal(0, 0.9**0.5, voices_ * clips)
        outside = np.repeat(rng.normal(0, alike**0.5, recordings), crops)
        outside += rng.normal(0, (1 - alike) ** 0.5, recordings * crops)
        outside += apart * np.repeat(rng.random(recordings) < failing, crops)
        found = auroc_interval(np.concatenate([inside + apart, outside]), truth, who)
        limits.append((found.low, found.high))
    return _share(*np.array(limits).T, (1 - failing) * area + failing / 2)


def covered_pairs(speakers: int, eer: float, trials: int, resamples: int = 200) -> dict[str, tuple[float, float]]:
    """Pair metrics of ten keywords: speakers differ in how far their words stand out, by a tenth of the variance."""
    rng = np.random.default_rng([speakers, round(1000 * eer)])
    apart = -2 * NormalDist().inv_cdf(eer)
    area = NormalDist().cdf(apart / math.sqrt(2))
    limits: dict[str, list[tuple[float, float]]] = {"pair EER": [], "pair AUC": []}
    for _ in range(trials):
        who = np.repeat(np.arange(speakers), voices(rng, speakers))
        own = rng.normal(0, 0.1**0.5, speakers)[who] + rng.normal(0, 0.9**0.5, len(who)) + apart
        scores = rng.normal(0, 1, (len(who), 10))
        scores[:, 0] = own
        found = pair_metrics(scores, np.zeros(len(who), int), who.tolist(), resamples=resamples)
        limits["pair EER"].append((found.eer.low, found.eer.high))
        limits["pair AUC"].append((found.auc.low, found.auc.high))
    return {
        "pair EER": _share(*np.array(limits["pair EER"]).T, eer),
        "pair AUC": _share(*np.array(limits["pair AUC"]).T, area),
    }


def covered_paired(speakers: int, accuracy: float, rho: float, trials: int) -> dict[str, float]:
    """Two runs of equal accuracy that find different speakers hard: how often no difference is found at 5 %."""
    rng = np.random.default_rng([speakers, round(1000 * accuracy), round(1000 * rho)])
    times = {"paired": 0.0, "McNemar": 0.0}
    for _ in range(trials):
        who = np.repeat(np.arange(speakers), voices(rng, speakers))
        first, second = (rng.random(len(who)) < skills(rng, speakers, accuracy, rho)[who] for _ in range(2))
        found = compare_paired(first, second, who.tolist())
        times["paired"] += (found.identical or found.low <= 0 <= found.high) / trials
        times["McNemar"] += (found.mcnemar > 0.05) / trials
    return times


def _share(low: Array, high: Array, truth: float) -> tuple[float, float]:
    return float(np.mean((low <= truth + 1e-12) & (truth <= high + 1e-12))), float(np.mean(high - low))


# Tables


def _print(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    head = list(head)
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print(flush=True)


def ends(trials: int) -> None:
    """What the last misses do to the limits: 315 clips of 9 speakers, and areas near 1."""
    print("Limits of 315 clips of 9 speakers as the misses go, in per cent\n")
    clips = np.full((1, 9), 35.0)
    misses = {
        "0": [],
        "1": [1],
        "2 of two speakers": [1, 1],
        "2 of one speaker": [2],
        "5 of one": [5],
        "35 of one": [35],
    }
    rows = []
    for name, lost in misses.items():
        hits = clips - np.array([*lost, *[0] * (9 - len(lost))], dtype=np.float64)
        found = {**published(hits, clips), OURS: ours(hits, clips)}
        rows.append([name, *(f"{100 * low[0]:.1f}-{100 * high[0]:.1f}" for low, high in found.values())])
    _print(["misses", *published(clips, clips), OURS], rows)
    print("Area under the ROC curve of 60 voices of 6 clips against 6 recordings of 40 crops\n")
    truth = np.arange(600) < 360
    who = [i // 6 if i < 360 else -1 - i // 40 for i in range(600)]
    rows = []
    for inverted in (0, 1, 10, 100):
        scores = np.where(truth, 2.0, np.arange(600) / 600)
        scores[:inverted] = 598.5 / 600  # these clips fall below the highest crop
        found = auroc_interval(scores, truth, who)
        area = roc_curve(scores, truth).auroc
        rows.append([f"{inverted}", f"{area:.5f}", f"{found.low:.4f}-{found.high:.4f}"])
    _print(["inverted pairs", "area", OURS], rows)


def monotone(trials: int) -> None:
    """How often a limit falls although one miss became a hit, on random small data."""
    print("A miss becomes a hit: how often the lower limit falls, the upper, and by how many clips' worth at most\n")
    rng, rows = np.random.default_rng(0), []
    for speakers, misses in product((2, 3, 5, 10, 20), (1, 2, 3, 5, 10)):
        found = np.array([_step(rng, speakers, misses) for _ in range(2 * trials)])
        falls = [f"{100 * np.mean(column < -1e-9):.1f} % ({max(0.0, -column.min()):.1f})" for column in found.T]
        rows.append([f"{speakers}", f"{misses}", *falls])
    _print(["speakers", "misses before", "lower limit falls (most)", "upper limit falls (most)"], rows)


def _step(rng: np.random.Generator, speakers: int, misses: int) -> tuple[float, float]:
    """How far the limits rise, in clips, as one of the misses of random speakers becomes a hit."""
    clips = rng.integers(max(1, math.ceil(misses / speakers)), 60, speakers).astype(np.float64)
    order = np.repeat(np.arange(speakers), clips.astype(int))
    chances = rng.dirichlet(np.full(speakers, rng.choice([0.2, 1.0, 20.0])))[order] + 1e-9
    lost = rng.choice(len(order), misses, replace=False, p=chances / chances.sum())
    before = clips - np.bincount(order[lost], minlength=speakers)
    after = clips - np.bincount(order[lost[1:]], minlength=speakers)
    old, new = proportion_of_sums(before, clips), proportion_of_sums(after, clips)
    return (new.low - old.low) * len(order), (new.high - old.high) * len(order)


def proportion(trials: int) -> None:
    """Accuracy, against the published intervals."""
    cells = list(product(SIZES, SPEAKERS, ACCURACIES, CORRELATIONS))
    found = {cell: covered(cell[1], cell[2], cell[3], trials, cell[0]) for cell in cells}
    names = list(found[cells[0]])
    print(f"Accuracy: {len(cells)} cells (sizes, speakers, accuracies, rho) of {trials} trials\n")
    rows = []
    for name in names:
        shares = np.array([found[cell][name][0] for cell in cells])
        width = np.mean([found[cell][name][1] for cell in cells])
        low = [min(found[cell][name][0] for cell in cells if cell[2] == accuracy) for accuracy in ACCURACIES]
        rows.append(
            [name, *(f"{100 * x:.1f}" for x in (shares.min(), np.quantile(shares, 0.05), shares.mean(), width, *low))]
        )
    _print(
        ["interval", "lowest coverage", "5 % of cells below", "mean", "mean width, points"]
        + [f"lowest at {100 * accuracy:g} %" for accuracy in ACCURACIES],
        rows,
    )
    print("Coverage (mean width in points) at rho 0.05, mean of the three sizes\n")
    shown = ("Korn-Graubard", "modified Wilson", "first release", OURS)
    rows = []
    for speakers, accuracy in product(SPEAKERS, ACCURACIES):
        some = [found[cell] for cell in cells if cell[1:] == (speakers, accuracy, 0.05)]
        means = [np.mean([each[name] for each in some], axis=0) for name in shown]
        rows.append([f"{speakers}", f"{100 * accuracy:g} %", *(f"{100 * a:.1f} ({100 * b:.1f})" for a, b in means)])
    _print(["speakers", "accuracy", *shown], rows)
    print("Ours by rho: mean (lowest) coverage over sizes and accuracies\n")
    rows = []
    for speakers in SPEAKERS:
        by_rho = [
            [found[cell][OURS][0] for cell in cells if cell[1] == speakers and cell[3] == rho] for rho in CORRELATIONS
        ]
        rows.append([f"{speakers}", *(f"{100 * np.mean(each):.1f} ({100 * min(each):.1f})" for each in by_rho)])
    _print(["speakers", *(f"rho {rho:g}" for rho in CORRELATIONS)], rows)


def classes(trials: int) -> None:
    """Macro accuracy and a class's own."""
    print(f"Ten classes, the rarest a quarter as frequent as the commonest; {trials} trials: coverage (mean width)\n")
    rows = []
    for speakers, accuracy, rho in product((7, 20, 68), (0.8, 0.97, 0.99), (0.0, 0.1)):
        found = covered_classes(speakers, accuracy, rho, trials)
        rows.append([f"{speakers}", f"{100 * accuracy:g} %", f"{rho:g}", *map(_cell, found.values())])
    _print(["speakers", "accuracy", "rho", "macro accuracy", "rarest class"], rows)


def auroc(trials: int) -> None:
    """The area under the ROC curve, few recordings against many voices."""
    print(
        f"Area under the ROC curve: 60 voices against recordings of 40 crops; {trials} trials: coverage (mean width)\n"
    )
    areas, kinds = (0.8, 0.9, 0.97, 0.99, 0.999), ((0.1, 0.0), (0.5, 0.0), (0.9, 0.0), (0.3, 0.2))
    rows = []
    for recordings, (alike, failing) in product((3, 6, 12, 60), kinds):
        cells = [_cell(covered_auroc(recordings, area, alike, trials, failing)) for area in areas]
        rows.append([f"{recordings}", f"{alike:g}", f"{100 * failing:g} %", *cells])
    _print(["recordings", "correlation of crops", "recordings that fail", *(f"area {area:g}" for area in areas)], rows)


def pairs(trials: int) -> None:
    """Pair EER and pair AUC."""
    print(f"Ten keywords, unequal speakers; {trials // 3} trials: coverage (mean width)\n")
    rows = []
    for speakers, eer in product((7, 20, 68), (0.1, 0.05, 0.01)):
        found = covered_pairs(speakers, eer, trials // 3)
        rows.append([f"{speakers}", f"{100 * eer:g} %", *map(_cell, found.values())])
    _print(["speakers", "true pair EER", "pair EER", "pair AUC"], rows)


def paired(trials: int) -> None:
    """Two runs without a difference: how often none is found."""
    print(f"Two runs of equal accuracy; {trials} trials: how often no difference is found at 5 %\n")
    rows = []
    for speakers, accuracy, rho in product((7, 20, 68), (0.87, 0.97, 0.99), (0.0, 0.1)):
        found = covered_paired(speakers, accuracy, rho, trials)
        rows.append([f"{speakers}", f"{100 * accuracy:g} %", f"{rho:g}", *(f"{100 * x:.1f}" for x in found.values())])
    _print(["speakers", "accuracy", "rho", "paired", "McNemar"], rows)


def alike(path: Path) -> str:
    """How alike the clips of one speaker are in a run: the correlation that the simulations call rho."""
    lines = read_predictions(find_predictions(path))
    hits = np.array([line.label == line.prediction for line in lines], dtype=np.float64)
    code, count = speaker_codes([line.speaker for line in lines], len(lines))
    clips, n, p = np.bincount(code).astype(np.float64), len(lines), float(hits.mean())
    seen = float(SpeakerSums(np.bincount(code, hits) - p * clips, clips / n).squares.sum())
    effect, size = seen / (n * p * (1 - p)), float((clips**2).sum()) / n
    return (
        f"{path}: {100 * p:.1f} % of {n:,} clips by {count} speakers; design effect {effect:.2f} at {size:.1f} clips "
        f"of an average clip's speaker, so rho is {(effect - 1) / (size - 1):.3f}"
    )


def _cell(found: tuple[float, float]) -> str:
    return f"{100 * found[0]:.1f} ({100 * found[1]:.1f})"


TABLES: dict[str, Callable[[int], None]] = {
    each.__name__: each for each in (ends, monotone, proportion, classes, auroc, pairs, paired)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000, help="of each cell; one standard error is then 0.7 points")
    parser.add_argument("--only", choices=TABLES, help="one table instead of all")
    parser.add_argument("--rho", type=Path, nargs="+", metavar="RUN", help="instead, print the rho of these runs")
    arguments = parser.parse_args()
    if arguments.rho:
        print("\n".join(map(alike, arguments.rho)))
        return
    print(f"Wilson's limits of independent clips, for comparison: {wilson(315, 315)}\n")
    for name, table in TABLES.items():
        if arguments.only in (None, name):
            table(arguments.trials)


if __name__ == "__main__":
    main()
