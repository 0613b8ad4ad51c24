"""A report worth sharing from `predictions.csv` alone: one HTML file that needs no network, and a Markdown twin.

No model, no torch. What the table cannot tell (encoder, prompts, top-5) is taken from `results.json` where that lies
beside it and says that it is of this very table.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from kws_imagebind.embeddings.map import FILE as MAP
from kws_imagebind.embeddings.map import MOST, SEED, EmbeddingMap, MapError, perplexity, read_map
from kws_imagebind.files import whole
from kws_imagebind.metrics.agreement import Agreement, agreement
from kws_imagebind.metrics.calibration import Calibration, reliability
from kws_imagebind.metrics.intervals import Interval, by_speaker, mean_of_proportions, wilson
from kws_imagebind.metrics.roc import RocCurve, roc_curve
from kws_imagebind.reporting import svg
from kws_imagebind.reporting.predictions import Prediction, find_predictions, read_predictions
from kws_imagebind.reporting.published import PUBLISHED, PublishedResult
from kws_imagebind.reporting.results import results_of

HTML, MARKDOWN = "report.html", "report.md"
TEMPLATES = Path(__file__).parent / "templates"
CONFUSIONS = 10  # listed
PLAYED = 3  # clips of each of the worst five confusions
LARGEST_CLIP = 1_000_000  # bytes
SOUNDS = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
}
PLACES = ("", "SpeechCommands/speech_commands_v0.02", "SpeechCommands/speech_commands_v0.01", "speech_commands_v0.02")

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # a terminal obeys them, and XML forbids them

Find = Callable[[str], Path | None]


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
        protocol: the content of `results.json`; empty where there is none.
        title: of the page.
        map: where the clips lie by their embeddings, if that was worked out.
        undrawn: why a map that is there is not used.
        foreign: whether results of another table lie beside the rows, and were passed over.
    """

    predictions: tuple[Prediction, ...]
    words: tuple[str, ...]
    protocol: dict[str, Any] = field(default_factory=dict)
    title: str = "Predictions"
    map: EmbeddingMap | None = None
    undrawn: str = ""
    foreign: bool = False

    @property
    def n(self) -> int:
        return len(self.predictions)

    @property
    def chance(self) -> float:
        return 1 / len(self.words)

    @property
    def task(self) -> str:
        return str(self.protocol.get("task", ""))

    @cached_property
    def hits(self) -> np.ndarray:
        return np.array([line.label == line.prediction for line in self.predictions])

    @cached_property
    def confusion(self) -> np.ndarray:
        """(words, words) counts, row = spoken."""
        index = {word: i for i, word in enumerate(self.words)}
        counts = np.zeros((len(self.words), len(self.words)), dtype=np.int64)
        np.add.at(
            counts, ([index[x.label] for x in self.predictions], [index[x.prediction] for x in self.predictions]), 1
        )
        return counts

    @cached_property
    def speakers(self) -> int:
        """How many people spoke; 0 if not every clip says who."""
        names = {line.speaker for line in self.predictions}
        return 0 if "" in names else len(names)

    @cached_property
    def _intervals(self) -> tuple[Interval, Interval, tuple[Interval, ...]]:
        if self.speakers > 1:
            index = {word: i for i, word in enumerate(self.words)}
            targets = [index[line.label] for line in self.predictions]
            found = by_speaker(self.hits, targets, len(self.words), [line.speaker for line in self.predictions])
            return found.accuracy, found.macro, found.per_class
        won, total = self.confusion.diagonal().tolist(), self.confusion.sum(1).tolist()
        each = tuple(wilson(*counts) for counts in zip(won, total, strict=True))
        return wilson(sum(won), self.n), mean_of_proportions(won, total), each

    @property
    def accuracy(self) -> Interval:
        return self._intervals[0]

    @property
    def macro_accuracy(self) -> Interval:
        return self._intervals[1]

    @property
    def per_class(self) -> tuple[Interval, ...]:
        return self._intervals[2]

    @cached_property
    def agreement(self) -> Agreement:
        return agreement(self.confusion, self.words)

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
        """How well the margin, or the score, tells right predictions from wrong ones."""
        if self.margins is None or self.hits.all() or not self.hits.any():
            return None
        return roc_curve(self.margins, self.hits)

    @property
    def open_set(self) -> list[dict[str, Any]]:
        """What `results.json` holds of an open-set test."""
        return list(self.protocol.get("open_set") or [])

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
            Confusion(said, heard, tuple(sorted(lines, key=_least_sure_last)), spoken[said])
            for (said, heard), lines in worst
        )

    @property
    def how(self) -> str:
        """How the intervals were made."""
        if self.speakers > 1:
            return f"95 % intervals by speaker ({self.speakers:,} speakers)"
        why = "one speaker said all clips" if self.speakers else "speakers are unknown"
        return f"95 % Wilson intervals that take clips as independent, for {why}"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The protocol, as far as it is known."""
        told = self.protocol
        split = f", {told['split']} split" if told.get("split") else ""
        rows = [
            ("data", f"{told['dataset']}{split}" if told.get("dataset") else ""),
            ("about the data", told.get("note", "")),
            ("task", f"{self.task}, {len(self.words)} candidates" if self.task else f"{len(self.words)} candidates"),
            ("encoder", told.get("encoder", "")),
            ("fingerprint", ", ".join(told.get("fingerprints", {}).values())),
            ("precision", told.get("precision", "")),
            ("other lengths", told.get("padding", "")),
            ("prompts", ", ".join(f"“{template}”" for template in told.get("templates", []))),
            ("subset", f"seed {told['seed']}" if told.get("seed") is not None else ""),
            ("skipped", f"{len(told['skipped'])} recordings" if told.get("skipped") else ""),
            ("intervals", self.how),
            ("versions", ", ".join(f"{name} {version}" for name, version in told.get("versions", {}).items())),
        ]
        return [(name, value) for name, value in rows if value]

    @property
    def notices(self) -> list[str]:
        """What a reader should know before believing the numbers."""
        found = list(self.protocol.get("warnings", []))
        if self.foreign:
            found.append(
                "the results.json that lies beside the predictions does not bear their SHA-256, so it may be of "
                "another run and was passed over, its words as well"
            )
        if not self.protocol:
            found.append(
                "made from the predictions alone: no results.json of this run lies beside them, so the candidates are "
                "the words that occur or were named, and encoder, prompts and split are unknown"
            )
        if self.undrawn:
            found.append(f"the map of the clips is not drawn: {self.undrawn}")
        return found

    @property
    def about_map(self) -> str:
        """How the map was made and how not to read it."""
        if self.map is None:
            return ""
        drawn = len(self.map)
        clips = f"all {drawn:,} clips" if drawn == self.n else f"a random {drawn:,} of {self.n:,} clips"
        names = ""
        if len({line.label for line in self.predictions}) > svg.MOST_NAMES:
            names = f"; only the {svg.MOST_NAMES} most frequent words are named"
        return (
            f"{clips[0].upper()}{clips[1:]} by their embeddings alone: t-SNE of the cosines, perplexity "
            f"{perplexity(drawn):.3g}, seed {SEED}. A name stands at or near the median of its word's "
            f"clips{names}. Near neighbours are alike to the encoder; the distance between far clusters, their size "
            "and the axes mean nothing. Point at a clip to read it."
        )

    def published(self) -> list[dict[str, Any]]:
        """What others report, this run among those of its task."""
        rows = [_published(each, same=each.task == self.task) for each in PUBLISHED]
        own = {
            "system": self.title,
            "task": self.task or f"{len(self.words)} words",
            "n": f"{self.n:,}",
            "accuracy": _percent(self.accuracy.estimate),
            "value": self.accuracy.estimate,
            "kind": "zero-shot" if self.protocol else "not said",
            "source": "this report",
            "own": True,
            "same": True,
        }
        rows.append(own)
        rows.sort(key=lambda row: (row["task"] != own["task"], row["task"], -row["value"]))
        return rows

    @property
    def comparable(self) -> str:
        """Whether the published numbers of this task were measured on as many clips."""
        sizes = {each.n for each in PUBLISHED if each.task == self.task and each.n}
        if not sizes:
            return (
                "No published result here is of this task: read the tables below as what the field reaches elsewhere."
            )
        if self.n not in sizes:
            whole = ", ".join(f"{size:,}" for size in sorted(sizes))
            return f"This run is of {self.n:,} clips and the published ones of {whole}: alike in task, not in clips."
        return "The published results of this task are of as many clips."

    def html(self, find: Find | None = None) -> str:
        """The page, with the sound of the worst confusions where `find` finds the clips."""
        margin = None
        if self.margins is not None and self.sureness:
            margin = Markup(svg.margin_figure(self.margins, self.hits, self.sureness))
        figures = {
            "bar": Markup(svg.accuracy_bar(self.accuracy, self.chance)),
            "map": Markup(svg.map_figure(*self._mapped())) if self.map else None,
            "words": Markup(svg.words_figure(self.per_class, self.words, self.chance)),
            "matrix": Markup(svg.confusion_figure(self.confusion, self.words)),
            "reliability": Markup(svg.reliability_figure(self.calibration)) if self.calibration else None,
            "margin": margin,
            "det": Markup(svg.det_figure(self.detection)) if self.detection else None,
            "open_set": [
                (outcome, Markup(svg.det_figure(curve)), Markup(svg.roc_figure(curve)))
                for outcome in self.open_set
                if outcome["rule"] == _best_rule(self.open_set)
                for curve in [_curve(outcome)]
            ],
        }
        return _render("report.html.jinja", report=self, figures=figures, played=self._played(find), html=True)

    def markdown(self) -> str:
        """The same in Markdown, without figures and sound."""
        return _render("report.md.jinja", report=self, html=False)

    def _mapped(self) -> tuple[np.ndarray, list[Prediction]]:
        """The places of the map, and the row of each."""
        assert self.map is not None
        lines = {line.path: line for line in self.predictions}
        return self.map.places, [lines[path] for path in self.map.paths]

    def _played(self, find: Find | None) -> list[tuple[Confusion, list[tuple[Prediction, str]]]]:
        """The worst confusions with the sound of their clips as data URIs."""
        return [
            (confusion, [(line, sound) for line in confusion.clips[:PLAYED] if (sound := _sound(find, line.path))])
            for confusion in self.confusions[: CONFUSIONS // 2]
        ]


def load_report(run: Path, words: Sequence[str] | None = None) -> Report:
    """A report from a run's folder or a CSV file.

    Args:
        run: a folder that holds `predictions.csv`, or any CSV file with `path,label,prediction`.
        words: the candidates; by default those of `results.json`, or else the words that occur.

    Raises:
        PredictionsError: the table or the results cannot be trusted; names the row or the field.
    """
    path = find_predictions(run)
    protocol, foreign = results_of(path)
    known = words if words is not None else list(protocol.get("per_class", {})) or None
    predictions = read_predictions(path, known)
    occurring = {line.label for line in predictions} | {line.prediction for line in predictions}
    drawn, undrawn = _map_beside(path, predictions)
    return Report(
        predictions,
        tuple(known or sorted(occurring)),
        protocol,
        title(protocol, path),
        map=drawn,
        undrawn=undrawn,
        foreign=foreign,
    )


def title(protocol: dict[str, Any], path: Path) -> str:
    """What a report is called."""
    if not protocol:
        return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
    split = f" {protocol['split']}" if protocol.get("split") else ""
    return f"{protocol.get('encoder')} on {protocol.get('dataset')}{split}, {protocol.get('task')}"


def write_report(report: Report, folder: Path, find: Find | None = None) -> list[Path]:
    """Writes report.html and report.md, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in ((HTML, report.html(find)), (MARKDOWN, report.markdown())):
        with whole(folder / name) as part:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
        written.append(folder / name)
    return written


def search(folders: Iterable[Path]) -> Find:
    """Finds clips by their path in folders, and in the places where a corpus keeps them.

    A path that leads out of them, be it absolute, by `..` or by a link, is not followed: a table from elsewhere must
    not put files of this machine into a page that is passed on. A folder itself may be a link.
    """
    roots = [root.resolve() for folder in folders for place in PLACES if (root := folder / place).is_dir()]

    def find(path: str) -> Path | None:
        return next((found for root in roots if (found := _inside(root, path))), None)

    return find


def _inside(root: Path, path: str) -> Path | None:
    """A file in a folder, if it is there and nowhere else."""
    try:
        found = (root / path).resolve()
        return found if found.is_relative_to(root) and found.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a NUL
        return None


def _map_beside(path: Path, predictions: Sequence[Prediction]) -> tuple[EmbeddingMap | None, str]:
    """The map of a run, or why the one that is there is not of it."""
    beside = path.with_name(MAP)
    if path.name != "predictions.csv" or not beside.exists():
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


def _best_rule(outcomes: list[dict[str, Any]]) -> str:
    """The rule of the largest area, whose curves are drawn."""
    return str(max(outcomes, key=lambda outcome: outcome["auroc"]["estimate"])["rule"])


def _curve(outcome: dict[str, Any]) -> RocCurve:
    points = np.array(outcome["curve"])
    return RocCurve(np.empty(0), points[:, 1], points[:, 0], outcome["inside"], outcome["outside"])


def _published(result: PublishedResult, same: bool) -> dict[str, Any]:
    return {
        "system": result.system,
        "task": result.task,
        "n": f"{result.n:,}" if result.n else "not said",
        "accuracy": f"{100 * result.accuracy:.2f}".removesuffix("0") + " %",
        "value": result.accuracy,
        "kind": "supervised" if result.supervised else "zero-shot",
        "source": f"{result.source}; {result.note}" if result.note else result.source,
        "own": False,
        "same": same,
    }


def _sound(find: Find | None, path: str) -> str | None:
    """A clip as a data URI, if it is there and a browser can play it."""
    kind = SOUNDS.get(Path(path).suffix.lower())
    found = find(path) if find and kind else None
    if found is None or not found.is_file() or found.stat().st_size > LARGEST_CLIP:
        return None
    return f"data:{kind};base64,{base64.b64encode(found.read_bytes()).decode()}"


def _least_sure_last(line: Prediction) -> tuple[float, str]:
    value = line.margin if not math.isnan(line.margin) else line.score
    return (0.0 if math.isnan(value) else -value, line.path)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _limits(interval: Interval) -> str:
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval.n else ""


def _cell(text: str) -> str:
    """A word for a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _render(name: str, html: bool, **values: Any) -> str:
    environment = Environment(autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=_percent, limits=_limits, cell=_cell, zip=zip)
    text = environment.from_string((TEMPLATES / name).read_text(encoding="utf-8")).render(**values)
    return _CONTROLS.sub("", text)
