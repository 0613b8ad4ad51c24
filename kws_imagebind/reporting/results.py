"""`results.json`: the numbers of a run and how it was made. One schema writes the file and reads it.

Results are believed only beside the table of predictions that they were made from: they hold its SHA-256. Fields that
this version does not know are ignored, and older files without the newer fields stay readable.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from kws_imagebind.datasets.speech_commands import is_speech_commands
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.reporting.predictions import PredictionsError

RESULTS, TABLE = "results.json", "predictions.csv"
DIGEST = "predictions_sha256"  # the field that ties results to their table
ZERO_SHOT = "zero-shot"

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class Estimate(Struct, frozen=True, kw_only=True):
    """An estimate with its confidence limits, all from 0 to 1; null where there was nothing to estimate it from."""

    estimate: Share | None = None
    low: Share | None = None
    high: Share | None = None
    n: Count | None = None
    method: str | None = None
    confidence: Share | None = None

    def __post_init__(self) -> None:
        if len({value is None for value in (self.estimate, self.low, self.high)}) > 1:
            raise ValueError("expected numbers for estimate, low and high, or null for all three")

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        """The same for JSON, which has null instead of nan."""
        return msgspec.convert(interval.as_dict(), cls)


class TopK(Estimate, frozen=True, kw_only=True):
    """Accuracy of the best `k` words."""

    k: Count | None = None


class Area(Struct, frozen=True, kw_only=True):
    """An area under the ROC curve with its confidence limits."""

    estimate: Share
    low: Share
    high: Share
    n: Count | None = None
    method: str | None = None
    confidence: Share | None = None


class Accuracies(Struct, frozen=True, kw_only=True):
    """The accuracies of a run; `top5_accuracy` is null where only the best word of each clip is known."""

    accuracy: Estimate | None = None
    macro_accuracy: Estimate | None = None
    top5_accuracy: TopK | None = None


class Collapse(Struct, frozen=True, kw_only=True):
    """Effective numbers of classes predicted and spoken, and the words predicted most with their shares."""

    effective_predicted: float
    effective_spoken: float
    most_predicted: dict[str, Share] = {}


class Bin(Struct, frozen=True, kw_only=True):
    """The clips of one range of confidence."""

    n: Count
    hits: Count
    confidence: Share


class Calibration(Struct, frozen=True, kw_only=True):
    """Expected calibration error and what it was made from."""

    ece: Share
    brier: float | None = None
    temperature: float | None = None
    bins: list[Bin] = []


class OpenSet(Struct, frozen=True, kw_only=True):
    """One rule for accepting a clip, tried on clips that say none of the keywords."""

    rule: str
    outsiders: str
    inside: Count
    outside: Count
    outside_speakers: Count | None
    sources: str
    auroc: Area
    false_alarms_at_95: Share
    eer: Share
    curve: list[tuple[Share, Share]]

    def __post_init__(self) -> None:
        points = [tuple(point) for point in self.curve]
        if len(points) < 2 or points[0] != (0, 0) or points[-1] != (1, 1):
            raise ValueError("expected a 'curve' of pairs of numbers from [0, 0] to [1, 1]")


class Skip(Struct, frozen=True, kw_only=True):
    """A recording that could not be used, and why."""

    path: str
    reason: str = ""


class Protocol(Struct, frozen=True, kw_only=True):
    """What produced the scores.

    Attributes:
        kind: "zero-shot", "few-shot", "probe", "supervised", "likelihood" or another.
        templates: of the prompts; empty where there are none.
        average: the space in which several templates were averaged.
        shots: clips a word that the read-out learnt from.
        draws: how many sets of such clips were drawn.
        support: how many clips trained or chose anything.
        trained_on: names of the data sets that the encoder learnt from; empty where they are not recorded.
        zero_shot: whether the run is zero-shot; null where the encoder's training data are not recorded.
    """

    kind: str = ZERO_SHOT
    templates: list[str] = []
    average: str | None = None
    shots: Count | None = None
    draws: Count | None = None
    support: Count | None = None
    trained_on: list[str] = []
    zero_shot: bool | None = None


class EncoderCard(Struct, frozen=True, kw_only=True):
    """What is known of the encoder."""

    name: str | None = None
    url: str | None = None
    licence: str | None = None
    parameters: Count | None = None
    bytes: Count | None = None
    sample_rate: Count | None = None
    trained_on: list[str] | None = None
    citation: str | None = None


class Results(Struct, frozen=True, kw_only=True):
    """The content of `results.json`; a field is null, or empty, where it is not known."""

    task: str | None = None
    dataset: str | None = None
    split: str | None = None
    note: str | None = None
    encoder: str | None = None
    n: Count | None = None
    classes: Count | None = None
    chance: Share | None = None
    templates: list[str] = []
    average: str | None = None
    protocol: Protocol | None = None
    card: EncoderCard | None = None
    metrics: Accuracies = Accuracies()
    expected_accuracy: Share | None = None
    kappa: float | None = None
    collapse: Collapse | None = None
    calibration: Calibration | None = None
    open_set: list[OpenSet] = []
    rejection: dict[str, Any] | None = None
    intervals: str | None = None
    warnings: list[str] = []
    per_class: dict[str, Estimate | None] = {}
    skipped: list[Skip] = []
    cached: Count | None = None
    seconds: float | None = None
    clips_per_second: float | None = None
    versions: dict[str, str] = {}
    fingerprints: dict[str, str] = {}
    precision: str | None = None
    padding: str | None = None
    seed: int | None = None
    predictions_sha256: str | None = None

    @property
    def bare(self) -> bool:
        """Whether they were made from a table alone, by `report`, and not by an evaluation."""
        return self.encoder is None

    @property
    def made_by(self) -> Protocol | None:
        """The protocol; of older files, which held templates only, the one that these stand for."""
        if self.protocol is None:
            return Protocol(templates=self.templates, average=self.average) if self.templates else None
        return self.protocol

    @property
    def trained_on(self) -> list[str]:
        """The data sets that the encoder learnt from, as far as they are recorded."""
        recorded = self.made_by.trained_on if self.made_by else []
        return recorded or (self.card.trained_on if self.card else None) or []

    @property
    def zero_shot(self) -> bool | None:
        """Whether the run is zero-shot; None where that is not known. What was trained on weighs more than a claim."""
        if self.made_by is None:
            return None
        if self.made_by.kind != ZERO_SHOT or saw_speech_commands(self.trained_on):
            return False
        return self.made_by.zero_shot if self.made_by.zero_shot is not None else bool(self.trained_on) or None

    def as_dict(self) -> dict[str, Any]:
        """The content for JSON."""
        return dict(msgspec.to_builtins(self))


def saw_speech_commands(trained_on: list[str]) -> bool:
    """Whether Speech Commands is among the data sets."""
    return any(is_speech_commands(name) for name in trained_on)


def digest(table: bytes) -> str:
    """The SHA-256 by which results know their table.

    >>> digest(b"path,label,prediction")[:8]
    '15f0cced'
    """
    return hashlib.sha256(table).hexdigest()


def to_json(results: Results) -> str:
    """The text of `results.json`.

    Raises:
        PredictionsError: a field does not fit the schema, so the file could not be read again.
    """
    content = results.as_dict()
    from_dict(content)  # a struct's fields are not checked when it is made
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def results_of(table: Path) -> tuple[Results | None, bool]:
    """The results that lie beside a table of predictions.

    Returns:
        The results and False; or None, and whether results of another table lie there.

    Raises:
        PredictionsError: the file is not JSON, or a field does not fit; names the field.
    """
    beside = table.with_name(RESULTS)
    if table.name != TABLE or not beside.is_file():
        return None, False
    found = read_results(beside)
    if table.is_file() and found.predictions_sha256 == digest(table.read_bytes()):
        return found, False
    return None, True


def read_results(path: Path) -> Results:
    """The content of a `results.json`.

    Raises:
        PredictionsError: the file cannot be read, is not JSON, or a field does not fit; names the field.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise PredictionsError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PredictionsError(f"{path} is not JSON ({error}); remove it, or evaluate again") from error
    return from_dict(found, str(path))


def from_dict(content: Any, where: str = RESULTS) -> Results:
    """Results from parsed JSON.

    Args:
        content: what was parsed.
        where: the file, for the error.

    Raises:
        PredictionsError: a field does not fit the schema; names it.
    """
    try:
        return msgspec.convert(content, Results)
    except (msgspec.ValidationError, RecursionError) as error:
        raise PredictionsError(f"{where}: {_fault(str(error), content)}; remove the file, or evaluate again") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


_MESSAGE = re.compile(r"^(?P<what>.*?)(?: - at `\$?(?P<where>[^`]*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `(?P<types>[^`]+)`(?P<bound>[^,]*)(?:, got `(?P<got>[^`]+)`)?$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


def _fault(message: str, content: Any) -> str:
    """msgspec's message as a sentence with the field's name and value.

    >>> _fault("Expected `str | null`, got `int` - at `$.split`", {"split": 3})
    "'split' is 3; expected text or null"
    """
    found = _MESSAGE.match(message)
    assert found is not None  # the pattern takes any text
    where, what = found["where"] or "", found["what"]
    inside = "[...]" in where  # msgspec does not say which key of an object it was
    path = where.replace("[...]", "").lstrip(".")
    named = f"'{path}'" if path else "the content"
    if missing := re.match(r"Object missing required field `(.+)`", what):
        return f"{named} does not have the field '{missing[1]}'"
    expected = _EXPECTED.match(what)
    if expected is None:
        return f"{named}: {what}"
    types = " or ".join(_TYPES.get(name, name) for name in expected["types"].split(" | "))
    bound = expected["bound"].replace(">=", "of at least").replace("<=", "of at most").replace(".0", "")
    if inside:
        got = expected["got"] or "out of range"
        return f"{named} holds a value that is {_TYPES.get(got, got)}; expected {types}{bound}"
    return f"{named} is {_shown(_at(content, where))}; expected {types}{bound}"


def _at(content: Any, where: str) -> Any:
    """The value at one of msgspec's paths."""
    for name, index in _STEP.findall(where):
        content = content[name] if name else content[int(index)]
    return content


def _shown(value: Any) -> str:
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}…"
