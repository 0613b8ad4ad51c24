"""The table of predictions: what is taken, and what is refused with its row."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kws_imagebind.reporting.predictions import (
    Prediction,
    PredictionsError,
    predictions_csv,
    read_predictions,
    with_speakers_of_names,
)

HEADER = "path,label,prediction\n"


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lines = (
        Prediction("yes/1.wav", "yes", "no", 0.5, 0.25, "a", 0.75),
        Prediction('odd, "name"/é.wav', "no", "no", -0.125, 0.0, "", 1.0),
    )
    assert read_predictions(_write(tmp_path / "p.csv", predictions_csv(lines))) == lines
    without = tuple(Prediction(line.path, line.label, line.prediction, 0.5, 0.25, "a") for line in lines)
    text = predictions_csv(without)
    assert text.splitlines()[0] == "path,label,prediction,score,margin,speaker"
    assert read_predictions(_write(tmp_path / "p.csv", text)) == without


def test_any_table_with_the_three_columns_is_taken(tmp_path: Path) -> None:
    table = "\ufeffnote,prediction,path,label\r\n,no,a.wav,yes\r\n\r\nx,yes,b.wav,yes\r\n"
    found = read_predictions(_write(tmp_path / "p.csv", table))
    assert [(line.path, line.label, line.prediction) for line in found] == [
        ("a.wav", "yes", "no"),
        ("b.wav", "yes", "yes"),
    ]
    assert math.isnan(found[0].score) and found[0].speaker == "" and found[0].confidence is None


def test_blanks_around_a_cell_are_no_part_of_it(tmp_path: Path) -> None:
    table = 'path, label, prediction, speaker, score\n a.wav , yes,yes , ann, 0.5 \nb.wav, "no", "no", "bo", 1\n'
    found = read_predictions(_write(tmp_path / "p.csv", table), keywords=("yes", "no"))
    cells = [(line.path, line.label, line.prediction, line.speaker, line.score) for line in found]
    assert cells == [("a.wav", "yes", "yes", "ann", 0.5), ("b.wav", "no", "no", "bo", 1.0)]


WRONG = {
    r"row 1: no column prediction; expected the columns path,label,prediction, found path,": "path,label\na,b\n",
    r"row 1: no column path, label, prediction": "",
    r"row 1: a column is named twice": "path,label,prediction,label\na,b,c,d\n",
    r"row 3: 2 cells, but the header has 3": HEADER + "a.wav,yes,no\nb.wav,yes\n",
    r"row 4: clip 'a\.wav' is already in row 2": HEADER + "a.wav,yes,no\nb.wav,no,no\na.wav,yes,yes\n",
    r"row 2: the prediction is empty": HEADER + "a.wav,yes, \n",
    r"row 3: the label 'maybe' is not one of the 2 words \(no, yes\)": HEADER + "a.wav,yes,no\nb.wav,maybe,no\n",
    r"row 2: the score 'high' is not a number": "path,label,prediction,score\na.wav,yes,no,high\n",
    r"row 2: the margin 'nan' is not a number": "path,label,prediction,margin\na.wav,yes,no,nan\n",
    r"row 2: the confidence 1\.5 is not between": "path,label,prediction,confidence\na.wav,yes,no,1.5\n",
    r"row 3: byte 0xe9 is not UTF-8": (HEADER + "a.wav,yes,no\ncaf\xe9.wav,yes,no\n").encode("latin-1"),
    r"row 2: a NUL character": HEADER + "a\0.wav,yes,no\n",
    r"row 3: not valid CSV": HEADER + 'a.wav,yes,no\n"b.wav,yes,no\n',
    r"has a header but no rows": HEADER,
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_bad_table_is_refused_with_its_row(tmp_path: Path, reason: str) -> None:
    path = _write(tmp_path / "p.csv", WRONG[reason])
    with pytest.raises(PredictionsError, match=reason) as refusal:
        read_predictions(path, keywords=("yes", "no"))
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name, why in (("nowhere.csv", "it does not exist; expected a folder"), ("folder.csv", "it is a folder")):
        with pytest.raises(PredictionsError, match=rf"{name} cannot be read: {why}") as refusal:
            read_predictions(tmp_path / name)
        assert "Errno" not in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("yes/0cb74144_nohash_2.wav", "0cb74144"),
        ("0cb74144_nohash_0.flac", "0cb74144"),
        ("_unknown_/bed_0cb74144_nohash_0.wav.wav", "0cb74144"),
        (r"yes\0cb74144_nohash_2.wav", "0cb74144"),
        ("yes/1.wav", None),
        ("yes/_nohash_2.wav", None),
        ("0cb74144_nohash_2/1.wav", None),
    ],
)
def test_speakers_are_taken_from_file_names_of_the_corpus_and_no_others(path: str, speaker: str | None) -> None:
    named = with_speakers_of_names([Prediction(path, "yes", "no"), Prediction("up/a_nohash_0.wav", "up", "up")])
    assert (named[0].speaker if named else None) == speaker


def test_speakers_of_the_table_come_before_those_of_the_file_names() -> None:
    lines = [Prediction("a_nohash_0.wav", "yes", "no", speaker="ann"), Prediction("b_nohash_0.wav", "yes", "no")]
    assert with_speakers_of_names(lines) is None
