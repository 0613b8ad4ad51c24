"""Scores to an evaluation: what was measured, how sure it is, and under which protocol."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from kws_imagebind.embedding import Embeddings
from kws_imagebind.metrics import MetricError, Metrics, measure, ranking
from kws_imagebind.statistics import Interval
from kws_imagebind.zero_shot import Scores

_VERSIONS = ("kws-imagebind", "torch", "torchaudio", "torchmetrics", "numpy")


@dataclass(frozen=True)
class Prediction:
    """One clip's line of `predictions.csv`.

    Attributes:
        path: of the clip, relative to the data set's root.
        label: what was spoken.
        prediction: the keyword with the best score.
        score: that score.
        margin: how far the second best is behind it.
        speaker: who spoke, where that is known.
    """

    path: str
    label: str
    prediction: str
    score: float
    margin: float
    speaker: str


@dataclass(frozen=True)
class Evaluation:
    """Every number with what is needed to believe it. `str()` gives the table, `save` the report."""

    scores: Scores
    audio: Embeddings
    metrics: Metrics
    seed: int | None = None

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
    def predictions(self) -> tuple[Prediction, ...]:
        values, labels = self.scores.values, self.scores.labels
        order = ranking(values)
        best = values.gather(1, order[:, :2])
        return tuple(
            Prediction(
                path=utterance.key,
                label=utterance.label,
                prediction=labels[first],
                score=score,
                margin=score - second,
                speaker=utterance.speaker or "",
            )
            for utterance, first, (score, second) in zip(
                self.audio.utterances, order[:, 0].tolist(), best.tolist(), strict=True
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
        dataset, encoded = self.audio.dataset, len(self.audio) - self.audio.cached
        return {
            "task": dataset.task,
            "dataset": dataset.name,
            "split": dataset.split,
            "note": dataset.note,
            "encoder": self.audio.encoder,
            "n": self.n,
            "classes": len(self.scores.labels),
            "chance": self.chance,
            "templates": list(self.scores.templates),
            "metrics": {
                "accuracy": self.accuracy.as_dict(),
                "macro_accuracy": self.macro_accuracy.as_dict(),
                "top5_accuracy": self.top5_accuracy.as_dict(),
            },
            "per_class": {word: interval.as_dict() for word, interval in self.per_class.items()},
            "skipped": [{"path": skip.key, "reason": skip.reason} for skip in self.audio.skipped],
            "cached": self.audio.cached,
            "seconds": round(self.audio.seconds, 3),
            "clips_per_second": round(encoded / self.audio.seconds, 1) if encoded and self.audio.seconds else None,
            "versions": _versions(),
            "fingerprints": {self.audio.encoder: self.audio.fingerprint},
            "seed": self.seed,
        }

    def __str__(self) -> str:
        dataset, k = self.audio.dataset, self.metrics.k
        split = f" ({dataset.split})" if dataset.split else ""
        rows = [
            ("accuracy", str(self.accuracy)),
            ("macro accuracy", str(self.macro_accuracy)),
            (f"top-{k} accuracy", str(self.top5_accuracy)),
            ("chance", f"{100 * self.chance:.1f} %, {len(self.scores.labels)} keywords"),
            ("data", f"{dataset.name}{split}, task {dataset.task}; {dataset.note}".rstrip("; ")),
            ("encoder", f"{self.audio.encoder}, {self.audio.fingerprint}"),
            ("prompts", ", ".join(f"'{template}'" for template in self.scores.templates)),
            ("intervals", self._intervals()),
        ]
        if self.audio.skipped:
            rows.append(("skipped", f"{len(self.audio.skipped)} recordings, listed in results.json"))
        mistakes = ", ".join(f"{word} as {other} {clips}" for word, other, clips in self.confusions())
        rows.append(("confusions", mistakes or "none"))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _intervals(self) -> str:
        """How the intervals were made, in words."""
        speakers = {utterance.speaker for utterance in self.audio.utterances}
        if self.accuracy.method == "speaker-bootstrap":
            return f"95 %, bootstrap over {len(speakers):,} speakers"
        why = "one speaker said all clips" if len(speakers) == 1 and None not in speakers else "speakers are unknown"
        return f"95 %, Wilson; clips taken as independent, for {why}"

    def save(self, folder: str | Path) -> list[Path]:
        """Writes results.json, predictions.csv and the figures; returns their paths.

        Without matplotlib (the `plots` extra) there are no figures, and the list is shorter.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = [
            _write(folder / "results.json", json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"),
            _write(folder / "predictions.csv", _csv(self.predictions)),
        ]
        return written + self._save_figures(folder)

    def _save_figures(self, folder: Path) -> list[Path]:
        try:
            from kws_imagebind.plots import confusion_matrix_figure, per_class_figure, save_figure
        except ModuleNotFoundError as error:
            if error.name != "matplotlib":
                raise
            return []
        title = f"{self.audio.encoder}, zero-shot, {self.audio.dataset.name} {self.audio.dataset.task}"
        figures = {
            "confusion_matrix.png": confusion_matrix_figure(self.metrics.confusion, self.scores.labels, title),
            "per_class.png": per_class_figure(self.metrics.per_class, self.scores.labels, self.chance, title),
        }
        for name, figure in figures.items():
            save_figure(figure, folder / name)
        return [folder / name for name in figures]


def evaluate(scores: Scores, audio: Embeddings, seed: int | None = None) -> Evaluation:
    """What scores are worth against the true keywords of the clips.

    Args:
        scores: of the clips, one column a keyword of the data set, in its order.
        audio: the clips.
        seed: of the subset, if the clips are one.

    Raises:
        MetricError: scores and clips do not belong together.
    """
    expected = audio.dataset.labels
    if scores.labels != expected:
        raise MetricError(
            f"the scores are of {len(scores.labels)} keywords ({', '.join(scores.labels[:3])}, …) that are not "
            f"the data set's own {len(expected)} ({', '.join(expected[:3])}, …) in their order"
        )
    speakers = [utterance.speaker for utterance in audio.utterances]
    return Evaluation(scores, audio, measure(scores.values, audio.targets, speakers=speakers), seed)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["threads"] = str(torch.get_num_threads())
    return found


def _csv(predictions: Sequence[Prediction]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "prediction", "score", "margin", "speaker"))
    for line in predictions:
        rows.writerow((line.path, line.label, line.prediction, f"{line.score:.6f}", f"{line.margin:.6f}", line.speaker))
    return text.getvalue()


def _write(path: Path, text: str) -> Path:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path
