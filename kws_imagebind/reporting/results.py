"""Reads `results.json`, which a run leaves beside its `predictions.csv`: believed only where it is of that very table.

The file may have been edited, cut short or copied from elsewhere, so that every field the report takes is looked at
before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws_imagebind.reporting.predictions import PredictionsError

RESULTS, TABLE = "results.json", "predictions.csv"
DIGEST = "predictions_sha256"  # the key that ties results to their table


def digest(table: bytes) -> str:
    """What results say of their table, so that another is told from it.

    >>> digest(b"path,label,prediction")[:8]
    '15f0cced'
    """
    return hashlib.sha256(table).hexdigest()


def results_of(table: Path) -> tuple[dict[str, Any], bool]:
    """The results that lie beside a table of predictions.

    Returns:
        The results and False; or an empty dictionary, and whether results of another table lie there.

    Raises:
        PredictionsError: the file is no JSON, or a field is not what it should be; names the field.
    """
    beside = table.with_name(RESULTS)
    if table.name != TABLE or not beside.is_file():
        return {}, False
    found = read_results(beside)
    if table.is_file() and found.get(DIGEST) == digest(table.read_bytes()):
        return found, False
    return {}, True


def read_results(path: Path) -> dict[str, Any]:
    """The content of a `results.json`.

    Raises:
        PredictionsError: the file is no JSON, or a field is not what it should be; names the field.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{path} is no JSON ({error}); remove it, or evaluate again") from error
    fault = _fault(found, _RESULTS, "")
    if fault:
        raise PredictionsError(f"{path}: {fault}; remove the file, or evaluate again")
    return dict(found)


@dataclass(frozen=True)
class _Plain:
    what: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class _List:
    of: _Shape


@dataclass(frozen=True)
class _Names:
    """An object with any keys."""

    of: _Shape


@dataclass(frozen=True)
class _Object:
    fields: dict[str, _Shape]
    whole: bool = False  # whether every field must be there


_Shape = _Plain | _List | _Names | _Object


def _fault(value: Any, shape: _Shape, key: str) -> str | None:
    """What is wrong with a value, or None."""
    if isinstance(shape, _Plain):
        return None if shape.holds(value) else f"{_named(key)} is {_shown(value)}; expected {shape.what}"
    if isinstance(shape, _List):
        if not isinstance(value, list):
            return f"{_named(key)} is {_shown(value)}; expected a list"
        faults = (_fault(each, shape.of, f"{key}[{index}]") for index, each in enumerate(value))
        return next((fault for fault in faults if fault), None)
    if not isinstance(value, dict):
        return f"{_named(key)} is {_shown(value)}; expected an object"
    if isinstance(shape, _Names):
        inner = dict.fromkeys(value, shape.of)
    else:
        inner = shape.fields
        missing = [name for name in inner if name not in value] if shape.whole else []
        if missing:
            return f"{_named(key)} has no '{missing[0]}'"
    faults = (_fault(value[name], inner[name], f"{key}.{name}" if key else name) for name in inner if name in value)
    return next((fault for fault in faults if fault), None)


def _named(key: str) -> str:
    return f"'{key}'" if key else "the content"


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _interval(value: Any) -> bool:
    limits = [value.get(name) for name in ("estimate", "low", "high")] if isinstance(value, dict) else [""]
    return all(each is None for each in limits) or all(_share(each) for each in limits)


def _curve(value: Any) -> bool:
    points = value if isinstance(value, list) else []
    paired = all(isinstance(point, list) and len(point) == 2 and all(map(_share, point)) for point in points)
    return len(points) > 1 and paired and points[0] == [0, 0] and points[-1] == [1, 1]


_TEXT = _Plain("text", lambda value: isinstance(value, str))
_MAYBE_TEXT = _Plain("text or null", lambda value: value is None or isinstance(value, str))
_COUNT = _Plain("a count", lambda value: _whole(value) and value >= 0)
_MAYBE_COUNT = _Plain("a count or null", lambda value: value is None or (_whole(value) and value >= 0))
_SHARE = _Plain("a number from 0 to 1", _share)
_INTERVAL = _Plain("an estimate with limits from 0 to 1", _interval)
_ANY = _Plain("anything", lambda value: True)

_OUTCOME = _Object(
    {
        "rule": _TEXT,
        "outsiders": _TEXT,
        "inside": _COUNT,
        "outside": _COUNT,
        "outside_speakers": _MAYBE_COUNT,
        "sources": _TEXT,
        "auroc": _Object({"estimate": _SHARE, "low": _SHARE, "high": _SHARE}, whole=True),
        "false_alarms_at_95": _SHARE,
        "eer": _SHARE,
        "curve": _Plain("pairs of numbers from [0, 0] to [1, 1]", _curve),
    },
    whole=True,
)
_RESULTS = _Object(  # the fields that a report or a comparison takes
    {
        DIGEST: _TEXT,
        "task": _TEXT,
        "dataset": _TEXT,
        "split": _MAYBE_TEXT,
        "note": _TEXT,
        "encoder": _TEXT,
        "n": _COUNT,
        "templates": _List(_TEXT),
        "metrics": _Object({"top5_accuracy": _INTERVAL}),
        "open_set": _List(_OUTCOME),
        "warnings": _List(_TEXT),
        "per_class": _Names(_ANY),
        "skipped": _List(_ANY),
        "versions": _Names(_TEXT),
        "fingerprints": _Names(_TEXT),
        "precision": _TEXT,
        "padding": _TEXT,
        "seed": _Plain("a whole number or null", lambda value: value is None or _whole(value)),
    }
)
