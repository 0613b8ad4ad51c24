"""MTEB's result file: only the whole test split of the ten command words may become one."""

from __future__ import annotations

import pytest

from kws_imagebind.reporting.mteb import CLIPS, mteb_result
from kws_imagebind.reporting.predictions import Prediction, PredictionsError
from kws_imagebind.text.tasks import COMMANDS

TESTING, TRAINING = "0cb74144", "0a7c2a8d"  # speakers, by the corpus's own rule


def rows(speaker: str, odd: str | None = None) -> list[Prediction]:
    found = [
        Prediction(f"{COMMANDS[i % 10]}/{speaker}_nohash_{i}.wav", COMMANDS[i % 10], COMMANDS[i // 5 % 10])
        for i in range(CLIPS)
    ]
    if odd is not None:
        found[77] = Prediction(odd, "yes", "yes")
    return found


def test_the_whole_test_split_becomes_a_result() -> None:
    given = rows(TESTING)
    right = sum(line.label == line.prediction for line in given)
    assert mteb_result(given)["scores"]["test"][0]["main_score"] == pytest.approx(right / CLIPS)


def test_as_many_clips_of_another_split_do_not() -> None:
    with pytest.raises(PredictionsError, match=r"measured on the test split, and .* is a training clip"):
        mteb_result(rows(TRAINING))
    with pytest.raises(PredictionsError, match=f"yes/{TRAINING}_nohash_3.wav' is a training clip"):
        mteb_result(rows(TESTING, f"yes/{TRAINING}_nohash_3.wav"))
    with pytest.raises(PredictionsError, match="measured on Speech Commands alone"):
        mteb_result(rows(TESTING, "yes/mine.wav"))
