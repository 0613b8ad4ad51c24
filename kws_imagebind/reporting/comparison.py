"""Several runs on the same clips: which is better, by how much, and whether that can be chance.

Works from `predictions.csv` alone, without any model. Runs are aligned by clip; every run is compared with every other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from kws_imagebind.metrics.intervals import Interval, proportion_by_speaker, wilson
from kws_imagebind.metrics.paired import PairedComparison, compare_paired, holm, p_text
from kws_imagebind.reporting.predictions import Prediction, PredictionsError, one_spelling

# What a run can be, as `reporting.protocol.described` begins.
SORTS = ("zero-shot", "not zero-shot", "few-shot", "probe", "supervised", "likelihood")


@dataclass(frozen=True)
class Pair:
    """One run against another.

    Attributes:
        first: name of a run.
        second: name of the other; the difference is the first's accuracy less the second's.
        paired: the difference, its limits and its p.
        corrected: that p after Holm's correction for all pairs; the same where there is one pair.
        corrected_mcnemar: McNemar's exact p after the same correction.
        words: (word, clips that the first alone has right, clips that the second alone has right, clips), those with
            the largest change first.
        differing_predictions: clips for which the two runs predict different words, right or wrong.
    """

    first: str
    second: str
    paired: PairedComparison
    corrected: float
    corrected_mcnemar: float
    words: tuple[tuple[str, int, int, int], ...]
    differing_predictions: int

    def as_dict(self) -> dict[str, Any]:
        found = self.paired
        return {
            "first": self.first,
            "second": self.second,
            "difference": found.difference_as_dict(),
            "identical": found.identical,
            "differing_predictions": self.differing_predictions,
            "p": found.p,
            "p_holm": self.corrected,
            "mcnemar": {"p": found.mcnemar, "p_holm": self.corrected_mcnemar},
            "only_first": found.only_first,
            "only_second": found.only_second,
            "words": [
                {"word": word, "only_first": won, "only_second": lost, "n": n} for word, won, lost, n in self.words
            ],
        }


@dataclass(frozen=True)
class Comparison:
    """Runs side by side on the clips that all of them have.

    Attributes:
        accuracies: of each run, by its name.
        pairs: every run against every later one.
        n: clips compared.
        left_out: clips that are not in every run.
        speakers: how many people spoke; 0 where that is unknown.
        warnings: what a reader should know before believing the differences.
        kinds: what each run is, such as "zero-shot" or "supervised: learnt from these words", where that is known.
    """

    accuracies: Mapping[str, Interval]
    pairs: tuple[Pair, ...]
    n: int
    left_out: int
    speakers: int
    warnings: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON."""
        return {
            "n": self.n,
            "left_out": self.left_out,
            "speakers": self.speakers,
            "accuracy": {name: interval.as_dict() for name, interval in self.accuracies.items()},
            "kinds": dict(self.kinds),
            "pairs": [pair.as_dict() for pair in self.pairs],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.accuracies)
        lines = [
            f"{name:<{width}}  {interval}" + (f"  {self.kinds[name]}" if name in self.kinds else "")
            for name, interval in self.accuracies.items()
        ]
        for pair in self.pairs:
            lines += ["", f"{pair.first} less {pair.second}", *_lines(pair, len(self.pairs))]
        how = (
            f"95 %, by speaker ({self.speakers:,} speakers); McNemar's test takes clips as independent"
            if self.speakers
            else "95 %; clips are treated as independent because speakers are unknown"
        )
        lines += ["", f"intervals  {how}"]
        if self.left_out:
            lines.append(f"clips      {self.left_out:,} left out, because not every run has them")
        lines += [f"warning    {warning}" for warning in self.warnings]
        return "\n".join(lines)


def compare(
    runs: Mapping[str, Sequence[Prediction]],
    candidates: Mapping[str, Sequence[str]] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Comparison:
    """Compares runs on the clips that all of them have.

    Args:
        runs: the predictions of each run, by its name; at least two.
        candidates: the words that a run chose from, by the run's name, where that is known. Fewer candidates
            are easier, so runs with different candidates get a warning.
        kinds: what each run is, where that is known, in words that begin with one of `SORTS`; runs of different sorts
            get a warning.

    Raises:
        PredictionsError: there are fewer than two runs, they share no clip, or they disagree on what a clip says.
    """
    if len(runs) < 2:
        raise PredictionsError(f"{len(runs)} run; a comparison needs at least two")
    runs, candidates = _one_spelling(runs, candidates or {})
    tables = {name: {line.path: line for line in lines} for name, lines in runs.items()}
    first = next(iter(tables.values()))
    shared = [path for path in first if all(path in table for table in tables.values())]
    if not shared:
        some = ", ".join(f"'{next(iter(table))}' in {name}" for name, table in tables.items())
        raise PredictionsError(f"the runs share no clip, because their paths differ ({some}); expected the same clips")
    _check_labels(tables, shared)
    labels = [first[path].label for path in shared]
    hits = {name: [table[path].prediction == table[path].label for path in shared] for name, table in tables.items()}
    speakers = _speakers(tables, shared)
    pairs = list(combinations(tables, 2))
    paired = [compare_paired(hits[one], hits[two], speakers) for one, two in pairs]
    corrected, mcnemars = holm([each.p for each in paired]), holm([each.mcnemar for each in paired])
    every = {path for table in tables.values() for path in table}
    return Comparison(
        accuracies={
            name: proportion_by_speaker(own, speakers) if speakers else wilson(sum(own), len(own))
            for name, own in hits.items()
        },
        pairs=tuple(
            Pair(one, two, found, p, exact, _words(labels, hits[one], hits[two]), _differing(tables, one, two, shared))
            for (one, two), found, p, exact in zip(pairs, paired, corrected, mcnemars, strict=True)
        ),
        n=len(shared),
        left_out=len(every) - len(shared),
        speakers=len(set(speakers)) if speakers else 0,
        warnings=(*_other_candidates(runs, candidates), *_other_kinds(kinds or {})),
        kinds=dict(kinds or {}),
    )


def _other_candidates(runs: Mapping[str, Sequence[Prediction]], candidates: Mapping[str, Sequence[str]]) -> list[str]:
    """A warning for each pair of runs that did not choose from the same words, as far as that can be known."""
    found = []
    known = {name: frozenset(words) for name, words in candidates.items()}
    heard = {name: frozenset(line.prediction for line in lines) for name, lines in runs.items()}
    for one, two in combinations(runs, 2):
        if one in known and two in known:
            others = known[one] ^ known[two]
        elif one in known or two in known:
            others = heard[two] - known[one] if one in known else heard[one] - known[two]
        else:
            continue
        if others:
            sizes = [f"{len(known[name])} words" if name in known else "words unknown" for name in (one, two)]
            found.append(
                f"{one} and {two} chose from different candidates ({sizes[0]} and {sizes[1]}; '{min(others)}' was one "
                "in one of them only): fewer candidates are easier, so the difference is not due to the encoders alone"
            )
    return found


def _other_kinds(kinds: Mapping[str, str]) -> list[str]:
    """A warning where runs that learnt from labelled clips stand beside others."""
    sorts: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        sorts.setdefault(next((sort for sort in SORTS if kind.startswith(sort)), kind), []).append(name)
    if len(sorts) < 2:
        return []
    told = "; ".join(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {sort}" for sort, names in sorts.items())
    return [
        f"these runs are of different kinds ({told}): a difference between kinds is also that of what they learnt from"
    ]


def _one_spelling(
    runs: Mapping[str, Sequence[Prediction]], candidates: Mapping[str, Sequence[str]]
) -> tuple[dict[str, tuple[Prediction, ...]], dict[str, list[str]]]:
    """Runs and candidates with every word spelt as it was first met."""
    spelling: dict[str, str] = {}
    for words in ([line.label for lines in runs.values() for line in lines], *candidates.values()):
        for word in words:
            spelling.setdefault(word.casefold(), word)
    spelt = {name: one_spelling(lines, spelling.values()) for name, lines in runs.items()}
    return spelt, {name: [spelling[word.casefold()] for word in words] for name, words in candidates.items()}


def _check_labels(tables: Mapping[str, Mapping[str, Prediction]], shared: Sequence[str]) -> None:
    name, first = next(iter(tables.items()))
    for other, table in tables.items():
        for path in shared:
            if table[path].label != first[path].label:
                raise PredictionsError(
                    f"clip '{path}' says '{first[path].label}' in {name} and '{table[path].label}' in {other}; "
                    "expected runs of the same task, so compare runs of one list of keywords"
                )


def _speakers(tables: Mapping[str, Mapping[str, Prediction]], shared: Sequence[str]) -> list[str] | None:
    """Who spoke each clip, from the first run that knows it of all clips."""
    for table in tables.values():
        speakers = [table[path].speaker for path in shared]
        if all(speakers) and len(set(speakers)) > 1:
            return speakers
    return None


def _differing(tables: Mapping[str, Mapping[str, Prediction]], first: str, second: str, shared: Sequence[str]) -> int:
    return sum(tables[first][path].prediction != tables[second][path].prediction for path in shared)


def _words(
    labels: Sequence[str], first: Sequence[bool], second: Sequence[bool]
) -> tuple[tuple[str, int, int, int], ...]:
    total, won, lost = Counter(labels), Counter[str](), Counter[str]()
    for label, one, two in zip(labels, first, second, strict=True):
        won[label] += one and not two
        lost[label] += two and not one
    rows = [(word, won[word], lost[word], n) for word, n in total.items()]
    return tuple(sorted(rows, key=lambda row: (-abs(row[1] - row[2]), -row[1] - row[2], row[0])))


def _ahead(pair: Pair) -> str:
    """Which run is better, in words: the sign of a difference is easily misread."""
    found = pair.paired
    if not found.difference:
        return "neither"
    better = pair.first if found.difference > 0 else pair.second
    return f"{better}, but no more than chance" if found.low <= 0 <= found.high else better


def _lines(pair: Pair, pairs: int) -> list[str]:
    """What the comparison prints of one pair."""
    found = pair.paired
    if found.identical:
        other = pair.differing_predictions
        same = f"{other:,} of {found.n:,} differ, all of them wrong" if other else f"all {found.n:,} are the same"
        return [f"  difference  {found.difference_text}", f"  predictions {same}"]
    holms = f", {p_text(pair.corrected)} by Holm of {pairs}" if pairs > 1 else ""
    exact = f", {p_text(pair.corrected_mcnemar)} by Holm" if pairs > 1 else ""
    gained = [f"{word} {won - lost:+d} of {n}" for word, won, lost, n in pair.words if won > lost][:5]
    behind = [f"{word} {won - lost:+d} of {n}" for word, won, lost, n in pair.words if won < lost][:5]
    return [
        f"  difference  {found.difference_text}{holms}",
        f"  ahead       {_ahead(pair)}",
        f"  McNemar     exact {p_text(found.mcnemar)}{exact}; right alone {found.only_first:,} against "
        f"{found.only_second:,} clips",
        f"  words won   {', '.join(gained) or 'none'}",
        f"  words lost  {', '.join(behind) or 'none'}",
    ]
