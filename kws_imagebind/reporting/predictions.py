"""The table of predictions, one row for each clip: every number and figure can be made from it without a model.

Any CSV file with the columns `path`, `label` and `prediction` will do. The columns `score`, `margin`, `speaker` and
`confidence` are used if present; other columns, and blanks around a cell, are ignored. Rows are counted as in a
spreadsheet: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

REQUIRED = ("path", "label", "prediction")
COLUMNS = (*REQUIRED, "score", "margin", "speaker")
CONFIDENCE = "confidence"  # a seventh column, where a temperature was fitted
_NAMED = re.compile(r"(?:^|[_/\\])(?P<speaker>[^_/\\]+)_nohash_\d+\.[^/\\]+$")  # a file of Speech Commands


class PredictionsError(ValueError):
    """A table of predictions that cannot be trusted; the message names the file and the row."""


@dataclass(frozen=True)
class Prediction:
    """One clip's line of `predictions.csv`.

    Attributes:
        path: of the clip, relative to the data set's root.
        label: what was spoken.
        prediction: the keyword with the best score.
        score: that score; nan where the table has none.
        margin: the score minus that of the second-best keyword; nan where the table has none.
        speaker: who spoke, "" where that is unknown.
        confidence: the probability of the prediction, from 0 to 1; None where no temperature was fitted.
    """

    path: str
    label: str
    prediction: str
    score: float = math.nan
    margin: float = math.nan
    speaker: str = ""
    confidence: float | None = None


def predictions_csv(predictions: Sequence[Prediction]) -> str:
    """The table as CSV, with the column `confidence` if every clip has one."""
    sure = [line.confidence for line in predictions if line.confidence is not None]
    whole = len(sure) == len(predictions)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow((*COLUMNS, CONFIDENCE) if whole else COLUMNS)
    for line in predictions:
        row = [line.path, line.label, line.prediction, f"{line.score:.6f}", f"{line.margin:.6f}", line.speaker]
        rows.writerow([*row, f"{line.confidence:.6f}"] if whole else row)
    return text.getvalue()


def find_predictions(run: Path) -> Path:
    """The table of a run: the file itself, or `predictions.csv` in its folder."""
    return run / "predictions.csv" if run.is_dir() else run


def read_predictions(path: Path, keywords: Sequence[str] | None = None) -> tuple[Prediction, ...]:
    """The rows of a CSV file.

    Args:
        path: the file, UTF-8 with or without a byte-order mark.
        keywords: the only words allowed; None allows any word.

    Raises:
        PredictionsError: the file is missing, not UTF-8 or not such a table; a row is cut short, repeats a path, has an
            unknown word or an empty cell, or a number that cannot be read. The message names the row.
    """
    known = None if keywords is None else frozenset(word.casefold() for word in keywords)
    header, rows = _rows(path)
    seen: dict[str, int] = {}
    found = []
    for row, cells in rows:
        where = f"{path}, row {row}"
        if len(cells) != len(header):
            raise PredictionsError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
        line = _prediction({name: cell.strip() for name, cell in zip(header, cells, strict=True)}, where, known)
        if line.path in seen:
            raise PredictionsError(
                f"{where}: clip '{line.path}' is already in row {seen[line.path]}; expected one row for each clip"
            )
        seen[line.path] = row
        found.append(line)
    if not found:
        raise PredictionsError(f"{path} has a header but no rows; expected one row for each clip")
    return one_spelling(found, keywords or ())


def one_spelling(predictions: Sequence[Prediction], words: Iterable[str] = ()) -> tuple[Prediction, ...]:
    """The rows with every word spelt in one way, since upper and lower case are the same word.

    Args:
        predictions: the rows.
        words: spellings to keep to; a word that is not among them keeps to its first label, or else prediction.

    >>> one_spelling([Prediction("1.wav", "yes", "Yes")])[0].prediction
    'yes'
    """
    spelling = {word.casefold(): word for word in words}
    for word in (*(line.label for line in predictions), *(line.prediction for line in predictions)):
        spelling.setdefault(word.casefold(), word)
    return tuple(
        replace(line, label=spelling[line.label.casefold()], prediction=spelling[line.prediction.casefold()])
        for line in predictions
    )


def with_speakers_of_names(predictions: Sequence[Prediction]) -> tuple[Prediction, ...] | None:
    """The rows with the speakers that Speech Commands writes into its file names, SPEAKER_nohash_N.

    Returns:
        The rows; None if a row names a speaker already, or any file is not named like this.

    >>> with_speakers_of_names([Prediction("yes/0cb74144_nohash_2.wav", "yes", "no")])[0].speaker
    '0cb74144'
    """
    found = [_NAMED.search(line.path) for line in predictions]
    if not all(found) or any(line.speaker for line in predictions):
        return None
    return tuple(replace(line, speaker=name["speaker"]) for line, name in zip(predictions, found, strict=True) if name)


def _why(error: OSError) -> str:
    """What a person can do about a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist; expected a folder that 'evaluate' wrote, or a CSV file of predictions"
    if isinstance(error, IsADirectoryError):
        return "it is a folder; expected a CSV file of predictions"
    return f"{(error.strerror or str(error)).lower()}; expected a CSV file of predictions"


def _rows(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header, and each row with its number."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PredictionsError(f"{path} cannot be read: {_why(error)}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise PredictionsError(
            f"{path}, row {row}: byte 0x{raw[error.start]:02x} is not UTF-8; save the table as 'CSV UTF-8'"
        ) from error
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise PredictionsError(f"{path}, row {row}: a NUL character, which is not text; save the table as 'CSV UTF-8'")
    rows = _numbered(text, path)
    header = [name.strip() for name in next(rows)[1]] if text.strip() else []
    missing = [name for name in REQUIRED if name not in header]
    if missing or len(set(header)) != len(header):
        what = f"no column {', '.join(missing)}" if missing else "a column is named twice"
        raise PredictionsError(
            f"{path}, row 1: {what}; expected the columns {','.join(REQUIRED)}, found {','.join(header) or 'none'}"
        )
    return header, rows


def _numbered(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows that are not empty."""
    reader = enumerate(csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True), start=1)
    row = 0
    try:
        for row, cells in reader:
            if cells:
                yield row, cells
    except csv.Error as error:
        raise PredictionsError(
            f"{path}, row {row + 1}: not valid CSV ({error}); expected commas and straight quotes"
        ) from error


def _prediction(cells: dict[str, str], where: str, known: frozenset[str] | None) -> Prediction:
    for name in REQUIRED:
        if not cells[name]:
            raise PredictionsError(f"{where}: the {name} is empty")
    for name in ("label", "prediction"):
        if known is not None and cells[name].casefold() not in known:
            words = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
            raise PredictionsError(
                f"{where}: the {name} '{cells[name]}' is not one of the {len(known)} words ({words})"
            )
    sure = _number(cells, CONFIDENCE, where)
    if not math.isnan(sure) and not 0 <= sure <= 1:
        raise PredictionsError(f"{where}: the confidence {cells[CONFIDENCE]} is not between 0 and 1")
    return Prediction(
        path=cells["path"],
        label=cells["label"],
        prediction=cells["prediction"],
        score=_number(cells, "score", where),
        margin=_number(cells, "margin", where),
        speaker=cells.get("speaker", ""),
        confidence=None if math.isnan(sure) else sure,
    )


def _number(cells: dict[str, str], name: str, where: str) -> float:
    text = cells.get(name, "")
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PredictionsError(f"{where}: the {name} '{text}' is not a number")
    return number
