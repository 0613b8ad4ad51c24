"""The file that Google's challenge asks for: `fname,label` for a folder of clips that nobody has labelled."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws_imagebind.datasets.base import Dataset, DatasetError, Utterance
from kws_imagebind.datasets.folder import is_audio
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.encoders.base import Encoder, RejectingEncoder, Scorer
from kws_imagebind.files import whole
from kws_imagebind.metrics.classification import ranking
from kws_imagebind.readouts.base import Average, Scores
from kws_imagebind.readouts.fillers import filler_scores, filler_vectors
from kws_imagebind.readouts.likelihood import readout_of
from kws_imagebind.readouts.rejection import Rejection
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.keywords import KeywordError, label
from kws_imagebind.text.tasks import SILENCE, UNKNOWN

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes a cell for that begins so


@dataclass(frozen=True)
class Submission:
    """How the clips of a folder are labelled.

    Attributes:
        keywords: the labels to choose from, as `text.keywords` writes them.
        rejection: thresholds for `silence` and `unknown`; None takes the encoder's own, if it has some.
        prompted: make `silence` and `unknown` prompts like any word instead.
        templates: sentences with '{}'; None leaves the encoder its own.
        average: of several templates.
    """

    keywords: tuple[str, ...]
    rejection: Rejection | None = None
    prompted: bool = False
    templates: tuple[str, ...] | None = None
    average: Average = "embedding"

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label(keyword) for keyword in self.keywords)

    def check(self, encoder: Encoder | Scorer) -> Rejection | None:
        """The thresholds to use, found before any audio is read; None where both labels are prompts or absent.

        Raises:
            KeywordError: thresholds are given, but the labels lack `silence` or `unknown`; or the labels have both,
                no thresholds are given and the encoder has none.
        """
        if isinstance(encoder, Scorer):
            if self.rejection:
                raise KeywordError(
                    f"'{encoder.name}' scores words and compares with no filler words; leave --below out"
                )
            return None
        if not {SILENCE, UNKNOWN} <= set(self.labels):
            if self.rejection:
                raise KeywordError(f"--below rejects into {SILENCE} and {UNKNOWN}, which are not both among the labels")
            return None
        if self.prompted or self.rejection:
            return self.rejection
        if isinstance(encoder, RejectingEncoder):
            return Rejection(*encoder.rejection())
        raise KeywordError(
            f"encoder '{encoder.name}' has no thresholds of its own for {SILENCE} and {UNKNOWN}; "
            "give them with --below, as 'evaluate --reject' chooses them, or make both prompts with --prompted"
        )

    def scores(
        self, encoder: Encoder | Scorer, folder: Path, embed: Callable[[Encoder, Dataset], Embeddings]
    ) -> tuple[Scores, Embeddings]:
        """Scores and embeddings of the clips of a folder.

        Raises:
            KeywordError: as `check`.
            DatasetError: as `unlabelled`.
        """
        rejection, clips = self.check(encoder), unlabelled(folder)
        rejected = {SILENCE, UNKNOWN} if rejection else set()
        words = [keyword for keyword in self.keywords if label(keyword) not in rejected]
        listener, scorer = readout_of(encoder, words, self.templates, self.average)
        audio = embed(listener, clips)
        scores = scorer(audio)
        if rejection and isinstance(scorer, ZeroShotClassifier):
            fillers = filler_scores(audio.features, filler_vectors(listener, scorer))
            scores = rejection(scores, fillers, self.labels)
        return scores, audio


def unlabelled(folder: Path) -> Dataset:
    """The recordings of a folder, in the order of their names.

    Raises:
        DatasetError: the folder is missing or holds no recording.
    """
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is not a folder; expected one that holds the recordings to label")
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".") and is_audio(path)
    )
    if not files:
        raise DatasetError(
            f"'{folder}' holds no recording of its own; expected WAV, FLAC, OGG or MP3 files, not in folders within it"
        )
    return Dataset(
        name="folder",
        utterances=tuple(Utterance(path, "unlabelled", None, path.name) for path in files),
        keywords=("unlabelled",),
        task="unlabelled",
    )


def submission_csv(scores: Scores, utterances: Sequence[Utterance]) -> str:
    """The best label of each clip, as `fname,label`.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("fname", "label"))
    for utterance, first in zip(utterances, ranking(scores.values)[:, 0].tolist(), strict=True):
        rows.writerow((_plain(utterance.key), _plain(scores.labels[first])))
    return text.getvalue()


def write_submission(path: Path, scores: Scores, utterances: Sequence[Utterance]) -> None:
    """Writes `fname,label`, all of it or nothing."""
    with whole(path) as part:
        part.write_text(submission_csv(scores, utterances), encoding="utf-8", errors="backslashreplace")


def _plain(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
