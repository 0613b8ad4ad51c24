"""A run on the ten command words as a result of the Massive Text Embedding Benchmark's `SpeechCommandsZeroshotv0.02`.

MTEB's file has no place for a number of clips, so that only a run on the whole test split may be written as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kws_imagebind.datasets.base import DatasetError
from kws_imagebind.datasets.speech_commands import official_split
from kws_imagebind.reporting.predictions import Prediction, PredictionsError
from kws_imagebind.text.tasks import COMMANDS

TASK = "SpeechCommandsZeroshotv0.02"
REVISION = "d5491b288ab76356a5f3cbc634f1dc38e23da2b8"  # of MTEB's own copy of the data set
CLIPS = 4_074
MTEB_VERSION = "2.0.0"  # the layout of the result


def mteb_result(predictions: Sequence[Prediction], seconds: float | None = None) -> dict[str, Any]:
    """The content of `SpeechCommandsZeroshotv0.02.json`.

    Args:
        predictions: of the 4,074 clips of the ten command words in the v0.02 test split, and of these words alone.
        seconds: that the evaluation took, where known.

    Raises:
        PredictionsError: other words, clips of another split by the corpus's own rule, or not the whole split.
    """
    words = {line.label for line in predictions} | {line.prediction for line in predictions}
    if not words <= set(COMMANDS):
        raise PredictionsError(
            f"MTEB's {TASK} is a choice of the ten command words, and this run has '{min(words - set(COMMANDS))}'; "
            "expected a run with --task v2-10"
        )
    if len(predictions) != CLIPS:
        raise PredictionsError(
            f"MTEB's {TASK} has {CLIPS:,} clips and this run {len(predictions):,}; MTEB's file cannot "
            "say that a run is only a part, so run the whole testing split"
        )
    _check_split(predictions)
    accuracy = sum(line.label == line.prediction for line in predictions) / len(predictions)
    return {
        "dataset_revision": REVISION,
        "task_name": TASK,
        "mteb_version": MTEB_VERSION,
        "scores": {
            "test": [
                {
                    "accuracy": accuracy,
                    "main_score": accuracy,
                    "hf_subset": "default",
                    "languages": ["eng-Latn"],
                }
            ]
        },
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
    }


def _check_split(predictions: Sequence[Prediction]) -> None:
    """Refuses clips that are not of the test split, which a file's name says by the rule of Speech Commands."""
    for line in predictions:
        try:
            split = official_split(line.path)
        except DatasetError as error:
            raise PredictionsError(f"MTEB's {TASK} is measured on Speech Commands alone: {error}") from error
        if split != "testing":
            raise PredictionsError(
                f"MTEB's {TASK} is measured on the test split, and '{line.path}' is a {split} clip by the corpus's own "
                "rule; run with --split testing"
            )
