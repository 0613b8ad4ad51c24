"""The table of predictions, one row a clip: from it every number and figure can be rebuilt without a model.

Any CSV file with the columns `path`, `label` and `prediction` will do; `score`, `margin`, `speaker` and `confidence`
are used where they are there, other columns are passed over, and so are blanks around a cell. Rows are counted as a
spreadsheet counts them: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REQUIRED = ("path", "label", "prediction")
COLUMNS = (*REQUIRED, "score", "margin", "speaker")
CONFIDENCE = "confidence"  # a seventh column, where a temperature was fitted


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
        margin: how far the second best is behind it; nan where the table has none.
        speaker: who spoke, "" where that is unknown.
        confidence: how probable the prediction is held, from 0 to 1; None where no temperature was fitted.
    """

    path: str
    label: str
    prediction: str
    score: float = math.nan
    margin: float = math.nan
    speaker: str = ""
    confidence: float | None = None


def predictions_csv(predictions: Sequence[Prediction]) -> str:
    """The table as CSV; the column `confidence` is there if every clip has one."""
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
        keywords: the words that there are; without them any word is taken.

    Raises:
        PredictionsError: the file is missing, no UTF-8 or no such table; a row is cut short, names a path again, has an
            unknown or no word, or a number that is none. The message names the row.
    """
    known = None if keywords is None else frozenset(keywords)
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
                f"{where}: clip '{line.path}' is there already, in row {seen[line.path]}; expected one row a clip"
            )
        seen[line.path] = row
        found.append(line)
    if not found:
        raise PredictionsError(f"{path} has no row beside its header; expected one row a clip")
    return tuple(found)


def _rows(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header, and each row with its number."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PredictionsError(
            f"{path} cannot be read ({error.strerror}); expected a CSV file of predictions"
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n") + 1
        raise PredictionsError(
            f"{path}, row {row}: byte 0x{raw[error.start]:02x} is no UTF-8; save the table as 'CSV UTF-8'"
        ) from error
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise PredictionsError(f"{path}, row {row}: a NUL character; expected text, so save the table as 'CSV UTF-8'")
    rows = _numbered(text, path)
    header = [name.strip() for name in next(rows)[1]] if text.strip() else []
    missing = [name for name in REQUIRED if name not in header]
    if missing or len(set(header)) != len(header):
        what = f"no column {', '.join(missing)}" if missing else "a column comes twice"
        raise PredictionsError(
            f"{path}, row 1: {what}; expected the columns {','.join(REQUIRED)}, and found {','.join(header)}"
        )
    return header, rows


def _numbered(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, from the header on."""
    reader = enumerate(csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True), start=1)
    row = 0
    try:
        for row, cells in reader:
            if cells:
                yield row, cells
    except csv.Error as error:
        raise PredictionsError(
            f"{path}, row {row + 1}: no CSV ({error}); expected commas and straight quotes"
        ) from error


def _prediction(cells: dict[str, str], where: str, known: frozenset[str] | None) -> Prediction:
    for name in REQUIRED:
        if not cells[name]:
            raise PredictionsError(f"{where}: the {name} is empty")
    for name in ("label", "prediction"):
        if known is not None and cells[name] not in known:
            words = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
            raise PredictionsError(f"{where}: the {name} '{cells[name]}' is none of the {len(known)} words ({words})")
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
        raise PredictionsError(f"{where}: the {name} '{text}' is no number")
    return number
