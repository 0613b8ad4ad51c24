"""The numbers of a report, from a table of predictions alone: no model, no torch.

What the table does not hold (encoder, prompts, top-5) comes from the `results.json` beside it, if that was made from
this very table. `page` turns the numbers into HTML and Markdown.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from kws_imagebind.embeddings.map import FILE as MAP
from kws_imagebind.embeddings.map import MOST, EmbeddingMap, MapError, read_map
from kws_imagebind.metrics.agreement import Agreement, agreement
from kws_imagebind.metrics.calibration import Calibration, reliability
from kws_imagebind.metrics.intervals import Interval, by_speaker, mean_of_proportions, wilson
from kws_imagebind.metrics.roc import RocCurve, roc_curve
from kws_imagebind.reporting import page, results
from kws_imagebind.reporting.folder import make_folder, write_all
from kws_imagebind.reporting.leaderboard import JSON as LEADERBOARD
from kws_imagebind.reporting.leaderboard import Leaderboard, LeaderboardError, read_leaderboard
from kws_imagebind.reporting.predictions import (
    Prediction,
    PredictionsError,
    find_predictions,
    read_predictions,
    with_speakers_of_names,
)
from kws_imagebind.reporting.results import RESULTS, TABLE, OpenSet, Results, digest, read_results, results_of, to_json
from kws_imagebind.reporting.sounds import Find

HTML, MARKDOWN = "report.html", "report.md"
CONFUSIONS = 10  # listed
FROM_NAMES = "the table does not name the speakers, so they were taken from the file names (SPEAKER_nohash_N)"


@dataclass(frozen=True)
class Confusion:
    """A mistake and the clips it was made on."""

    spoken: str
    heard: str
    clips: tuple[Prediction, ...]
    of: int


@dataclass(frozen=True)
class Report:
    """Everything a report says, worked out from the rows.

    Attributes:
        predictions: the rows.
        words: the candidates, in the order of the matrix.
        results: the content of `results.json`; None where there is none of this table.
        title: of the page.
        map: where the clips lie by their embeddings, if that was worked out.
        undrawn: why a map that is there is not used.
        leaderboard: of several encoders, if one lies beside the rows.
        unranked: why a leaderboard that is there is not used.
        foreign: whether results of another table lie beside the rows, and were ignored.
        named: whether the speakers were taken from the file names.
        sha256: of the table.
        choice: name of the task that the candidates of a bare table were given as; "" without one.
    """

    predictions: tuple[Prediction, ...]
    words: tuple[str, ...]
    results: Results | None = None
    title: str = "Predictions"
    map: EmbeddingMap | None = None
    undrawn: str = ""
    leaderboard: Leaderboard | None = None
    unranked: str = ""
    foreign: bool = False
    named: bool = False
    sha256: str | None = None
    choice: str = ""

    @property
    def n(self) -> int:
        return len(self.predictions)

    @property
    def chance(self) -> float:
        """The accuracy of a guess among the candidates."""
        return 1 / len(self.words)

    @property
    def task(self) -> str:
        return (self.results.task if self.results else self.choice) or ""

    @property
    def bare(self) -> bool:
        """Whether nothing but the table is known."""
        return self.results is None

    @cached_property
    def hits(self) -> np.ndarray:
        return np.array([line.label == line.prediction for line in self.predictions])

    @cached_property
    def occurring(self) -> tuple[str, ...]:
        """The words that were spoken or predicted, in the order of the candidates."""
        words = {line.label for line in self.predictions} | {line.prediction for line in self.predictions}
        return tuple(word for word in self.words if word in words)

    @cached_property
    def confusion(self) -> np.ndarray:
        """Counts of the words that occur: row = spoken, column = predicted. Other candidates would be empty."""
        index = {word: i for i, word in enumerate(self.occurring)}
        counts = np.zeros((len(index), len(index)), dtype=np.int64)
        np.add.at(
            counts, ([index[x.label] for x in self.predictions], [index[x.prediction] for x in self.predictions]), 1
        )
        return counts

    @cached_property
    def speakers(self) -> int:
        """How many people spoke; 0 if not every clip names its speaker."""
        names = {line.speaker for line in self.predictions}
        return 0 if "" in names else len(names)

    @cached_property
    def _intervals(self) -> tuple[Interval, Interval, tuple[Interval, ...]]:
        said = sorted({line.label for line in self.predictions}, key=self.words.index)
        index = {word: i for i, word in enumerate(said)}
        targets = np.array([index[line.label] for line in self.predictions])
        if self.speakers > 1:
            found = by_speaker(self.hits, targets, len(said), [line.speaker for line in self.predictions])
            accuracy, macro, each = found.accuracy, found.macro, found.per_class
        else:
            won = np.bincount(targets, self.hits, len(said)).astype(int).tolist()
            total = np.bincount(targets, minlength=len(said)).tolist()
            accuracy, macro = wilson(sum(won), self.n), mean_of_proportions(won, total)
            each = tuple(wilson(*counts) for counts in zip(won, total, strict=True))
        nothing = replace(wilson(0, 0), method=each[0].method)  # of a word without clips
        return accuracy, macro, tuple(each[index[word]] if word in index else nothing for word in self.words)

    @property
    def accuracy(self) -> Interval:
        return self._intervals[0]

    @property
    def macro_accuracy(self) -> Interval:
        return self._intervals[1]

    @property
    def per_class(self) -> tuple[Interval, ...]:
        return self._intervals[2]

    @property
    def without_clips(self) -> list[str]:
        """Candidates that no clip says."""
        return [word for word, interval in zip(self.words, self.per_class, strict=True) if not interval.n]

    @cached_property
    def agreement(self) -> Agreement:
        return agreement(self.confusion, self.occurring)

    @cached_property
    def calibration(self) -> Calibration | None:
        sure = [line.confidence for line in self.predictions if line.confidence is not None]
        return reliability(sure, self.hits) if len(sure) == self.n else None

    @cached_property
    def sureness(self) -> str | None:
        """The column that says how sure each prediction is: "margin", or else "score"; None if some clips lack both."""
        for name in ("margin", "score"):
            if not any(math.isnan(getattr(line, name)) for line in self.predictions):
                return name
        return None

    @cached_property
    def margins(self) -> np.ndarray | None:
        """The values of that column."""
        return np.array([getattr(line, self.sureness) for line in self.predictions]) if self.sureness else None

    @cached_property
    def detection(self) -> RocCurve | None:
        """How well the margin, or the score, separates right predictions from wrong ones."""
        if self.margins is None or self.hits.all() or not self.hits.any():
            return None
        return roc_curve(self.margins, self.hits)

    @property
    def open_set(self) -> list[OpenSet]:
        """What `results.json` holds of an open-set test."""
        return self.results.open_set if self.results else []

    @cached_property
    def confusions(self) -> tuple[Confusion, ...]:
        """The most frequent mistakes, the surest clips of each first."""
        wrong: dict[tuple[str, str], list[Prediction]] = {}
        for line in self.predictions:
            if line.label != line.prediction:
                wrong.setdefault((line.label, line.prediction), []).append(line)
        spoken = Counter(line.label for line in self.predictions)
        worst = sorted(wrong.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:CONFUSIONS]
        return tuple(
            Confusion(said, heard, tuple(sorted(lines, key=_surest_first)), spoken[said])
            for (said, heard), lines in worst
        )

    @property
    def how(self) -> str:
        """How the intervals were made."""
        if self.speakers > 1:
            source = ", named by the files" if self.named else ""
            return f"95 % intervals by speaker ({self.speakers:,} speakers{source})"
        why = "one speaker said all clips" if self.speakers else "the speakers are unknown"
        return f"95 % Wilson intervals, which treat clips as independent because {why}"

    @property
    def notices(self) -> list[str]:
        """What a reader should know before believing the numbers."""
        found = list(self.results.warnings) if self.results else []
        if self.foreign:
            found.append(
                "The results.json beside the predictions was not made from this table: its SHA-256 is another. It was "
                "ignored, with its list of words."
            )
        if self.bare:
            found.append(
                "Made from the table of predictions alone: the candidates are the words that occur or were named, and "
                "encoder, prompts and split are not known."
            )
        if self.named:
            found.append(f"{FROM_NAMES[0].upper()}{FROM_NAMES[1:]}.")
        if self.undrawn:
            found.append(f"The map of the clips is not drawn: {self.undrawn}.")
        if self.unranked:
            found.append(f"The leaderboard is not shown: {self.unranked}.")
        return found

    def as_results(self) -> Results:
        """The content of `results.json`: that of the run, or what the table alone gives."""
        if self.results is not None:
            return self.results
        worth, sure = self.agreement, self.calibration
        return Results(
            task=self.task or None,
            n=self.n,
            classes=len(self.words),
            chance=self.chance,
            metrics=results.Accuracies(
                accuracy=results.Estimate.of(self.accuracy), macro_accuracy=results.Estimate.of(self.macro_accuracy)
            ),
            expected_accuracy=worth.expected,
            kappa=None if math.isnan(worth.kappa) else worth.kappa,
            collapse=results.Collapse(
                effective_predicted=worth.effective_predicted,
                effective_spoken=worth.effective_spoken,
                most_predicted=dict(worth.most_predicted),
            ),
            calibration=None
            if sure is None
            else results.Calibration(
                ece=sure.ece,
                bins=[results.Bin(n=each.n, hits=each.hits, confidence=each.confidence) for each in sure.bins],
            ),
            intervals=self.how,
            warnings=self.notices,
            per_class={
                word: results.Estimate.of(interval) for word, interval in zip(self.words, self.per_class, strict=True)
            },
            versions={"python": platform.python_version(), "kws-imagebind": _version(), "numpy": np.__version__},
            predictions_sha256=self.sha256,
        )

    def html(self, find: Find | None = None) -> str:
        """The page, with the sound of the worst confusions where `find` finds the clips."""
        return page.html(self, find)

    def markdown(self) -> str:
        """The same in Markdown, without figures and sound."""
        return page.markdown(self)


def load_report(run: Path, words: Sequence[str] | None = None, task: str = "") -> Report:
    """A report from a run's folder or a CSV file.

    A table without speakers takes them from its file names, where all of them are named as those of Speech Commands.

    Args:
        run: a folder that holds `predictions.csv`, or any CSV file with `path,label,prediction`.
        words: the candidates; by default those of `results.json`, or else the words that occur.
        task: name of the task that has these words, if one has.

    Raises:
        PredictionsError: the table or the results cannot be trusted; names the row or the field.
    """
    path = find_predictions(run)
    found, foreign = results_of(path)
    known = words if words is not None else list(found.per_class if found else ()) or None
    predictions = read_predictions(path, known)
    named = with_speakers_of_names(predictions)
    predictions = named or predictions
    occurring = {line.label for line in predictions} | {line.prediction for line in predictions}
    drawn, undrawn = _map_beside(path, predictions)
    leaderboard, unranked = _leaderboard_beside(path)
    bare = found is None or found.bare  # what `report` itself once made from the table says nothing more
    return Report(
        predictions,
        tuple(known or sorted(occurring)),
        None if bare else found,
        title(None if bare else found, path),
        map=drawn,
        undrawn=undrawn,
        leaderboard=leaderboard,
        unranked=unranked,
        foreign=foreign and _of_a_run(path.with_name(RESULTS)),
        named=named is not None,
        sha256=digest(path.read_bytes()),
        choice=task or ((found.task or "") if found and words is None else ""),
    )


def title(found: Results | None, path: Path) -> str:
    """What a report is called.

    Args:
        found: the results; None leaves the name of the table.
        path: of the table.
    """
    if found is None:
        return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
    split = f" {found.split}" if found.split else ""
    return f"{found.encoder} on {found.dataset}{split}, {found.task}"


def write_report(report: Report, folder: Path, find: Find | None = None) -> list[Path]:
    """Writes report.html and report.md, and results.json for a table that has none: all of them or none.

    A results.json of another run is left alone.

    Returns:
        The paths of what was written.

    Raises:
        ReportError: the folder cannot be made or a file cannot be written; names it.
    """
    make_folder(folder)
    contents = {folder / name: text for name, text in files(report, find).items()}
    if report.bare and not _of_a_run(folder / RESULTS):
        contents[folder / RESULTS] = utf8(to_json(report.as_results()))
    return write_all(contents)


def files(report: Report, find: Find | None = None) -> dict[str, bytes]:
    """The content of report.html and report.md."""
    return {HTML: utf8(report.html(find)), MARKDOWN: utf8(report.markdown())}


def utf8(text: str) -> bytes:
    """UTF-8. What is not Unicode in the name of a file is written as its escape."""
    return text.encode("utf-8", errors="backslashreplace")


def _of_a_run(path: Path) -> bool:
    """Whether results lie there that an evaluation wrote, or that cannot be read."""
    try:
        return path.exists() and not read_results(path).bare
    except PredictionsError:
        return True


def _map_beside(path: Path, predictions: Sequence[Prediction]) -> tuple[EmbeddingMap | None, str]:
    """The map of a run, or why the one that is there does not belong to it."""
    beside = path.with_name(MAP)
    if path.name != TABLE or not beside.exists():
        return None, ""
    try:
        found = read_map(beside)
    except MapError as error:
        return None, str(error)
    strangers = set(found.paths) - {line.path for line in predictions}
    if strangers:
        return None, f"{MAP} places clips that were not predicted, such as '{min(strangers)}', so it is of another run"
    if len(found) != min(len(predictions), MOST):
        return None, f"{MAP} places {len(found):,} of {len(predictions):,} clips, so it is of another run"
    return found, ""


def _leaderboard_beside(path: Path) -> tuple[Leaderboard | None, str]:
    """The leaderboard in a run's folder, or why the one that is there cannot be shown."""
    beside = path.with_name(LEADERBOARD)
    if path.name != TABLE or not beside.exists():
        return None, ""
    try:
        return read_leaderboard(beside), ""
    except LeaderboardError as error:
        return None, str(error)


def _surest_first(line: Prediction) -> tuple[float, str]:
    value = line.margin if not math.isnan(line.margin) else line.score
    return (0.0 if math.isnan(value) else -value, line.path)


def _version() -> str:
    try:
        return version("kws-imagebind")
    except PackageNotFoundError:
        return "not installed"
