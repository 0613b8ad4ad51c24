"""Scores to an evaluation: what was measured, how sure it is, and under which protocol."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws_imagebind.datasets.base import ClipIdentity, listed
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.embeddings.map import FILE as MAP
from kws_imagebind.embeddings.map import EmbeddingMap
from kws_imagebind.evaluation.guards import check_disjoint, check_strays, copies
from kws_imagebind.evaluation.open_set import Outcome
from kws_imagebind.metrics.agreement import Agreement, agreement
from kws_imagebind.metrics.calibration import Calibration, calibration, fit_temperature, probabilities
from kws_imagebind.metrics.classification import MetricError, Metrics, measure, ranking
from kws_imagebind.metrics.intervals import BY_SPEAKER, Interval
from kws_imagebind.readouts.base import Scores
from kws_imagebind.readouts.rejection import Rejection
from kws_imagebind.reporting.folder import make_folder, write_all
from kws_imagebind.reporting.predictions import Prediction, predictions_csv
from kws_imagebind.reporting.protocol import described, kind
from kws_imagebind.reporting.report import Report, files, title, utf8
from kws_imagebind.reporting.results import DIGEST, RESULTS, TABLE, ZERO_SHOT, Results, digest, from_dict, to_json

_VERSIONS = ("kws-imagebind", "torch", "torchaudio", "torchmetrics", "numpy")


LEARNT = ("supervised", "probe")  # kinds of protocol whose clips are told in the table
NORM_TOLERANCE = 1e-3  # how far a vector's length may be from 1, so that bfloat16 rounding passes


@dataclass(frozen=True)
class Evaluation:
    """Every number with what is needed to believe it. `str()` gives the table, `save` the report."""

    scores: Scores
    audio: Embeddings
    metrics: Metrics
    seed: int | None = None
    calibration: Calibration | None = None
    warnings: tuple[str, ...] = ()
    open_set: tuple[Outcome, ...] = ()
    rejection: Rejection | None = None
    map: EmbeddingMap | None = None

    @property
    def accuracy(self) -> Interval:
        return self.metrics.accuracy

    @property
    def macro_accuracy(self) -> Interval:
        return self.metrics.macro_accuracy

    @property
    def top5_accuracy(self) -> Interval:
        return self.metrics.top_k_accuracy

    @property
    def task(self) -> str:
        """The data set's task, or "custom" where the candidates are others than its keywords."""
        return self.audio.dataset.task if self.scores.labels == self.audio.dataset.labels else "custom"

    @property
    def n(self) -> int:
        return len(self.audio)

    @property
    def chance(self) -> float:
        """The accuracy of guessing every keyword alike."""
        return 1 / len(self.scores.labels)

    @property
    def per_class(self) -> dict[str, Interval]:
        return dict(zip(self.scores.labels, self.metrics.per_class, strict=True))

    @cached_property
    def agreement(self) -> Agreement:
        return agreement(self.metrics.confusion.numpy(), self.scores.labels)

    @cached_property
    def predictions(self) -> tuple[Prediction, ...]:
        values, labels = self.scores.values, self.scores.labels
        order = ranking(values)
        best = values.gather(1, order[:, :2])
        sure: list[float | None] = [None] * self.n
        if self.calibration and self.calibration.temperature:
            sure = probabilities(values.numpy(), self.calibration.temperature).max(axis=1).tolist()
        return tuple(
            Prediction(
                path=utterance.key,
                label=labels[target],
                prediction=labels[first],
                score=score,
                margin=score - second,
                speaker=utterance.speaker or "",
                confidence=confidence,
            )
            for utterance, target, first, (score, second), confidence in zip(
                self.audio.utterances,
                _targets(self.scores, self.audio).tolist(),
                order[:, 0].tolist(),
                best.tolist(),
                sure,
                strict=True,
            )
        )

    def confusions(self, count: int = 5) -> list[tuple[str, str, int]]:
        """The most frequent mistakes: spoken, predicted, clips."""
        matrix = self.metrics.confusion.clone().fill_diagonal_(0)
        found = [(int(matrix[i, j]), int(i), int(j)) for i, j in matrix.nonzero()]
        found.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
        return [(self.scores.labels[i], self.scores.labels[j], clips) for clips, i, j in found[:count]]

    def as_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        dataset, encoded = self.audio.dataset, self.audio.encoded
        return {
            "task": self.task,
            "dataset": dataset.name,
            "split": dataset.split,
            "note": dataset.note,
            "encoder": self.audio.encoder,
            "n": self.n,
            "classes": len(self.scores.labels),
            "chance": self.chance,
            "templates": list(self.scores.protocol.templates),
            "average": self.scores.protocol.average,
            "protocol": self._protocol(),
            "card": self.audio.card.as_dict() if self.audio.card else None,
            "metrics": {
                "accuracy": self.accuracy.as_dict(),
                "macro_accuracy": self.macro_accuracy.as_dict(),
                "top5_accuracy": {**self.top5_accuracy.as_dict(), "k": self.metrics.k},
            },
            "expected_accuracy": self.agreement.expected,
            "kappa": None if math.isnan(self.agreement.kappa) else self.agreement.kappa,
            "collapse": {
                "effective_predicted": self.agreement.effective_predicted,
                "effective_spoken": self.agreement.effective_spoken,
                "most_predicted": dict(self.agreement.most_predicted),
            },
            "calibration": self.calibration.as_dict() if self.calibration else None,
            "open_set": [outcome.as_dict() for outcome in self.open_set],
            "rejection": self.rejection.as_dict() if self.rejection else None,
            "intervals": self._intervals(),
            "warnings": list(self.warnings),
            "per_class": {word: interval.as_dict() for word, interval in self.per_class.items()},
            "skipped": [{"path": skip.key, "reason": skip.reason} for skip in self.audio.skipped],
            "cached": self.audio.cached,
            "seconds": round(self.audio.seconds, 3),
            "clips_per_second": round(encoded / self.audio.seconds, 1) if encoded and self.audio.seconds else None,
            "versions": _versions(),
            "fingerprints": {self.audio.encoder: self.audio.fingerprint},
            "precision": self.audio.precision,
            "padding": self.audio.padding,
            "seed": self.seed,
            DIGEST: digest(utf8(predictions_csv(self.predictions))),
        }

    @property
    def results(self) -> Results:
        """The content of `results.json`, checked against its schema."""
        return from_dict(self.as_dict())

    def _protocol(self) -> dict[str, Any]:
        """What made the scores; whether that is zero-shot follows from what the encoder was trained on."""
        made_by, card = self.scores.protocol, self.audio.card
        saw = card.saw_speech_commands if card else None
        return {
            "kind": made_by.kind,
            "templates": list(made_by.templates),
            "average": made_by.average,
            "shots": made_by.shots,
            "draws": made_by.draws,
            "support": len(made_by.support),
            "trained_on": list(card.trained_on or ()) if card else [],
            "zero_shot": False if made_by.kind != "zero-shot" or saw else (None if saw is None else True),
        }

    def __str__(self) -> str:
        dataset, k = self.audio.dataset, self.metrics.k
        split = f" ({dataset.split})" if dataset.split else ""
        rows = [
            ("accuracy", str(self.accuracy)),
            ("macro accuracy", str(self.macro_accuracy)),
            *([(f"top-{k} accuracy", str(self.top5_accuracy))] if k < len(self.scores.labels) else []),
            ("chance", f"{100 * self.chance:.1f} %, {len(self.scores.labels)} keywords"),
            (
                "chance-corrected",
                f"Cohen's kappa {self.agreement.kappa:.3f}; guesses with the frequencies of the predictions would "
                f"get {100 * self.agreement.expected:.1f} %",
            ),
            ("predicted", self.agreement.collapse),
            ("calibration", self._calibration()),
            ("data", f"{dataset.name}{split}, task {self.task}; {dataset.note}".rstrip("; ")),
            ("encoder", f"{self.audio.encoder}, {self.audio.fingerprint}, {self.audio.precision}"),
            ("protocol", described(self.results) if self.scores.protocol.kind in LEARNT else kind(self.results)),
            ("prompts", ", ".join(f"'{template}'" for template in self.scores.protocol.templates)),
            ("intervals", self._intervals()),
        ]
        if self.rejection:
            silence = f"silence below a spread of {self.rejection.silence:.3f}"
            unknown = f"unknown below a lead of {self.rejection.unknown:.3f}"
            rows.append(("rejection", f"by filler words, thresholds chosen on validation clips: {silence}, {unknown}"))
        rows += [("open set", str(outcome)) for outcome in self.open_set]
        if self.audio.skipped:
            rows.append(("skipped", f"{len(self.audio.skipped)} recordings, listed in results.json"))
        mistakes = ", ".join(f"{word} as {other} {clips}" for word, other, clips in self.confusions())
        rows.append(("confusions", mistakes or "none"))
        rows += [("warning", warning) for warning in self.warnings]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _calibration(self) -> str:
        if not self.calibration:
            score = "cosine" if self.scores.protocol.kind == ZERO_SHOT else "score"
            return f"none: a {score} is not a probability; --calibrate fits a temperature on validation clips"
        found = self.calibration
        return f"expected error {100 * found.ece:.1f} %, Brier {found.brier:.3f}, temperature {found.temperature:.3g}"

    def _intervals(self) -> str:
        """How the intervals were made, in words."""
        speakers = {utterance.speaker for utterance in self.audio.utterances}
        if self.accuracy.method == BY_SPEAKER:
            return f"95 %, by speaker ({len(speakers):,} speakers)"
        why = "one speaker said all clips" if len(speakers) == 1 and None not in speakers else "speakers are unknown"
        return f"95 %, Wilson; clips are treated as independent because {why}"

    def save(self, folder: str | Path) -> list[Path]:
        """Writes results.json, predictions.csv, report.html, report.md and the figures; returns their paths.

        With a map also map.csv; without one an earlier run's is removed, for its clips may lie elsewhere now.

        Without matplotlib (the `plots` extra) there are no PNG figures, and the list is shorter.
        """
        folder = make_folder(Path(folder))
        paths = {utterance.key: utterance.path for utterance in self.audio.utterances}
        results = self.results
        report = Report(self.predictions, self.scores.labels, results, title(results, folder), self.map)
        contents = {RESULTS: utf8(to_json(results)), TABLE: utf8(predictions_csv(self.predictions))}
        if self.map:
            contents[MAP] = utf8(self.map.csv())
        contents |= files(report, paths.get)
        written = write_all({folder / name: content for name, content in contents.items()})
        if not self.map:
            (folder / MAP).unlink(missing_ok=True)
        return written + self._save_figures(folder)

    def _save_figures(self, folder: Path) -> list[Path]:
        try:
            from kws_imagebind.reporting.figures.accuracy import confusion_matrix_figure, per_class_figure
            from kws_imagebind.reporting.figures.style import save_figure
        except ModuleNotFoundError as error:
            if error.name != "matplotlib":
                raise
            return []
        title = f"{self.audio.encoder}, {kind(self.results)}, {self.audio.dataset.name} {self.task}"
        figures = {
            "confusion_matrix.png": confusion_matrix_figure(self.metrics.confusion, self.scores.labels, title),
            "per_class.png": per_class_figure(self.metrics.per_class, self.scores.labels, self.chance, title),
        }
        for name, figure in figures.items():
            save_figure(figure, folder / name)
        return [folder / name for name in figures]


@dataclass(frozen=True)
class Temperature:
    """A temperature and the clips that chose it, which may not be reported with it."""

    value: float
    chosen_on: tuple[ClipIdentity, ...] = field(default=(), repr=False)


def evaluate(
    scores: Scores,
    audio: Embeddings,
    seed: int | None = None,
    temperature: Temperature | float | None = None,
) -> Evaluation:
    """What scores are worth against what the clips say.

    The candidates need not be the data set's keywords: the same embeddings may be scored against any words, as long as
    what the clips say is among them.

    Args:
        scores: of the clips, one row a clip and one column a candidate.
        audio: the clips.
        seed: of the subset, if the clips are one.
        temperature: from `fit_temperature_on`, for calibration; without it there is none.

    Raises:
        MetricError: scores and clips do not belong together, embeddings are not of unit norm, reported clips also chose
            something, or a testing split holds clips of another.
    """
    if isinstance(temperature, int | float):
        temperature = Temperature(float(temperature))
    targets = _targets(scores, audio)
    _check_norms(audio)
    warnings = _guarded(scores, audio, temperature)
    speakers = [utterance.speaker for utterance in audio.utterances]
    metrics = measure(scores.values, targets, speakers=speakers)
    calibrated = None
    if temperature is not None:
        calibrated = calibration(scores.values.numpy(), targets.numpy(), temperature.value)
    warnings += _warnings(scores, audio, metrics)
    return Evaluation(scores, audio, metrics, seed, calibrated, tuple(warnings))


def fit_temperature_on(scores: Scores, audio: Embeddings) -> Temperature:
    """The temperature that makes scores of these clips probabilities; `evaluate` then refuses to report them.

    Raises:
        MetricError: the clips are of a testing split, or do not belong to the scores.
    """
    if audio.dataset.split == "testing":
        raise MetricError(
            "a temperature is fitted on clips that choose, such as the validation split; "
            f"these are of the testing split of data set '{audio.dataset.name}'"
        )
    value = fit_temperature(scores.values.numpy(), _targets(scores, audio).numpy())
    return Temperature(value, audio.identities)


def _guarded(scores: Scores, audio: Embeddings, temperature: Temperature | None) -> list[str]:
    """Warnings on clips that chose something, if they are not refused."""
    reported, protocol = audio.identities, scores.protocol
    found = check_disjoint(protocol.support, reported, "what the scores rest on", protocol.speakers_apart)
    if temperature is not None:
        found += check_disjoint(temperature.chosen_on, reported, "the temperature")
        if not temperature.chosen_on:
            found.append("the temperature was given as a number: nothing says which clips chose it")
    return found


def _targets(scores: Scores, audio: Embeddings) -> Tensor:
    """(n,) int64: the candidate that each clip says."""
    columns = {label.casefold(): column for column, label in enumerate(scores.labels)}
    spoken = [utterance.label for utterance in audio.utterances]
    missing = sorted({label for label in spoken if label.casefold() not in columns})
    if missing:
        raise MetricError(f"the clips say {listed(missing)}, which is not among the candidates; add it to the keywords")
    return torch.tensor([columns[label.casefold()] for label in spoken])


def _check_norms(audio: Embeddings) -> None:
    norms = audio.features.norm(dim=1)
    worst = int((norms - 1).abs().argmax())
    if not abs(float(norms[worst]) - 1) <= NORM_TOLERANCE:
        raise MetricError(
            f"the embedding of '{audio.utterances[worst].key}' has length {float(norms[worst]):.4g}; expected 1, "
            "so divide each by its norm, because only then a dot product is a cosine"
        )


def _warnings(scores: Scores, audio: Embeddings, metrics: Metrics) -> list[str]:
    """What a reader should know of the clips before believing the numbers."""
    dataset, found = audio.dataset, check_strays(audio)
    if dataset.name == "speech-commands" and dataset.split != "testing":
        found.append(f"these are clips of the {dataset.split} split: choose with them, and report on the testing split")
    repeated, others = copies(audio)
    if repeated:
        also = f", {others:,} of them under another label" if others else ""
        found.append(f"{repeated:,} of {len(audio):,} clips sound exactly like another{also}: duplicates count twice")
    if audio.silent:
        found.append(
            f"{len(audio.silent):,} of {len(audio):,} clips hold only silence although their label is a word "
            f"({_few(list(audio.silent))}): they are counted, and what is predicted for them means nothing"
        )
    empty = [word for word, interval in zip(scores.labels, metrics.per_class, strict=True) if not interval.n]
    if empty:
        found.append(
            f"{len(empty):,} of {len(scores.labels):,} keywords have no clips and are candidates only: {_few(empty)}"
        )
    return found


def _few(names: list[str], most: int = 6) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["threads"] = str(torch.get_num_threads())
    return found
