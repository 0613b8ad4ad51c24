"""The file that Google's challenge asks for: `fname,label` for a folder of clips that nobody has labelled."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from kws_imagebind.datasets import Dataset, DatasetError, Utterance
from kws_imagebind.datasets.folder import audio_extensions
from kws_imagebind.metrics.classification import ranking
from kws_imagebind.readouts.base import Scores


def unlabelled(folder: Path) -> Dataset:
    """The recordings of a folder, in the order of their names.

    Raises:
        DatasetError: the folder is missing or holds no recording.
    """
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is no folder; expected one that holds the recordings to label")
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() in audio_extensions()
    )
    if not files:
        raise DatasetError(f"'{folder}' holds no recording; expected WAV, FLAC, OGG or MP3 files")
    return Dataset(
        name="folder",
        utterances=tuple(Utterance(path, "unlabelled", None, path.name) for path in files),
        keywords=("unlabelled",),
        task="unlabelled",
    )


def submission_csv(scores: Scores, utterances: Sequence[Utterance]) -> str:
    """The best label of each clip, as `fname,label`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("fname", "label"))
    for utterance, first in zip(utterances, ranking(scores.values)[:, 0].tolist(), strict=True):
        rows.writerow((utterance.key, scores.labels[first]))
    return text.getvalue()
