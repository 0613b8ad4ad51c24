"""results.json: what one schema writes it reads again, and what does not fit is refused with its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kws_imagebind.metrics.intervals import wilson
from kws_imagebind.reporting.predictions import PredictionsError
from kws_imagebind.reporting.results import (
    Accuracies,
    Estimate,
    Protocol,
    Results,
    from_dict,
    read_results,
    to_json,
)

OPEN_SET = {
    "rule": "margin",
    "outsiders": "silence",
    "inside": 3,
    "outside": 2,
    "outside_speakers": None,
    "sources": "recordings",
    "auroc": wilson(9, 10).as_dict(),
    "false_alarms_at_95": 0.5,
    "eer": 0.25,
    "curve": [[0, 0], [0.5, 1], [1, 1]],
}
# What the first release wrote, before there were `protocol` and `card`.
OLD: dict[str, Any] = {
    "task": "v2-10",
    "dataset": "speech-commands",
    "split": None,
    "note": "",
    "encoder": "tone",
    "n": 5,
    "classes": 2,
    "chance": 0.5,
    "templates": ["{}"],
    "average": "embedding",
    "metrics": {
        "accuracy": wilson(4, 5).as_dict(),
        "macro_accuracy": wilson(4, 5).as_dict(),
        "top5_accuracy": {**wilson(5, 5).as_dict(), "k": 2},
    },
    "expected_accuracy": 0.5,
    "kappa": None,
    "collapse": {"effective_predicted": 1.5, "effective_spoken": 2.0, "most_predicted": {"yes": 0.75}},
    "calibration": {
        "ece": 0.1,
        "brier": 0.2,
        "temperature": 0.05,
        "bins": [{"n": 5, "hits": 4, "confidence": 0.7}],
    },
    "open_set": [OPEN_SET],
    "rejection": {"silence": 0.5, "unknown": 0.01},
    "intervals": "95 %, Wilson",
    "warnings": ["mind the gap"],
    "per_class": {"yes": wilson(4, 4).as_dict(), "no": wilson(0, 0).as_dict()},
    "skipped": [{"path": "a.wav", "reason": "empty"}],
    "cached": 0,
    "seconds": 1.5,
    "clips_per_second": None,
    "versions": {"torch": "2.9"},
    "fingerprints": {"tone": "tone-1"},
    "precision": "fp32",
    "padding": "none",
    "seed": 3,
    "predictions_sha256": "ab",
}


def test_files_of_the_first_release_are_read_in_full_and_written_with_the_same_fields() -> None:
    found = from_dict(OLD)
    again = json.loads(to_json(found))
    assert {name: again[name] for name in OLD} == json.loads(json.dumps(OLD))
    assert set(again) - set(OLD) == {"protocol", "card"} and again["protocol"] is again["card"] is None
    assert found.made_by == Protocol(kind="zero-shot", templates=["{}"], average="embedding")
    assert found.zero_shot is None and not found.bare


def test_fields_of_a_later_version_are_ignored_and_missing_ones_are_empty(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"of_tomorrow": [1], "protocol": {"kind": "probe", "new": 1}}))
    found = read_results(tmp_path / "results.json")
    assert found == Results(protocol=Protocol(kind="probe")) and found.made_by is found.protocol
    assert Results().made_by is None and Results().bare and read_back(Results()) == Results()


def read_back(results: Results) -> Results:
    return from_dict(json.loads(to_json(results), parse_constant=pytest.fail))


def test_what_is_written_is_read_again_with_any_name_of_a_file() -> None:
    found = from_dict({**OLD, "skipped": [{"path": 'caf\udce9 "\\ \u2028', "reason": "é"}]})
    assert read_back(found) == found
    bytes_ = to_json(found).encode("utf-8", errors="backslashreplace")  # as it is written
    assert from_dict(json.loads(bytes_)) == found


def test_nothing_is_written_that_could_not_be_read() -> None:
    for wrong in (Results(n=-1), Results(metrics=Accuracies(accuracy=Estimate(estimate=2.0, low=0.0, high=1.0)))):
        with pytest.raises(PredictionsError):
            to_json(wrong)


@pytest.mark.parametrize(
    ("kind", "trained_on", "claimed", "expected"),
    [
        ("zero-shot", [], None, None),
        ("zero-shot", ["LibriSpeech"], None, True),
        ("zero-shot", ["LibriSpeech", "Speech Commands v0.02"], None, False),
        ("zero-shot", ["google/speech_commands"], True, False),  # what was trained on weighs more than a claim
        ("zero-shot", ["mini_speech_commands"], None, False),
        ("zero-shot", ["custom-speech-commands-dataset"], None, True),  # another corpus, of other words
        ("zero-shot", [], True, True),
        ("zero-shot", ["LibriSpeech"], False, False),
        ("few-shot", ["LibriSpeech"], None, False),
        ("supervised", [], True, False),
    ],
)
def test_whether_a_run_is_zero_shot_is_derived(
    kind: str, trained_on: list[str], claimed: bool | None, expected: bool | None
) -> None:
    protocol = {"kind": kind, "trained_on": trained_on, "zero_shot": claimed}
    assert from_dict({"protocol": protocol}).zero_shot is expected
    assert from_dict({"protocol": {**protocol, "trained_on": []}, "card": {"trained_on": trained_on}}).zero_shot is (
        expected
    )


def test_the_bundled_encoder_is_zero_shot() -> None:
    from kws_imagebind.encoders.phonebind import PhoneBindEncoder

    assert from_dict({"protocol": {}, "card": PhoneBindEncoder.card.as_dict()}).zero_shot is True


WRONG: dict[str, Any] = {
    r"the content is a list; expected an object": [],
    r"the content is null; expected an object": None,
    r"'task' is 3; expected text or null": {"task": 3},
    r"'split' is 3; expected text or null": {"split": 3},
    r"'n' is -1; expected a whole number of at least 0": {"n": -1},
    r"'chance' is 3; expected a number of at most 1": {"chance": 3},
    r"'templates\[1\]' is 1; expected text": {"templates": ["a", 1]},
    r"'templates' is null; expected a list": {"templates": None},
    r"'per_class' is a list; expected an object": {"per_class": ["yes"]},
    r"'per_class' holds a value that is a whole number; expected an object or null": {"per_class": {"yes": 0}},
    r"'metrics' is null; expected an object": {"metrics": None},
    r"'metrics.top5_accuracy': expected numbers for estimate, low and high": {
        "metrics": {"top5_accuracy": {"estimate": 0.5, "low": None, "high": 1}}
    },
    r"'metrics.accuracy.high' is 1.5; expected a number of at most 1": {
        "metrics": {"accuracy": {"estimate": 0.5, "low": 0.4, "high": 1.5}}
    },
    r"'warnings' is \"x\"; expected a list": {"warnings": "x"},
    r"'versions' holds a value that is null; expected text": {"versions": {"torch": None}},
    r"'fingerprints' is null; expected an object": {"fingerprints": None},
    r"'skipped' is 4; expected a list": {"skipped": 4},
    r"'seed' is true; expected a whole number or null": {"seed": True},
    r"'open_set\[0\]' does not have the field 'rule'": {"open_set": [{}]},
    r"'open_set\[0\]': expected a 'curve' of pairs": {"open_set": [{**OPEN_SET, "curve": [[0, 0], [0.5, 1]]}]},
    r"'open_set\[0\].auroc.low' is null; expected a number": {
        "open_set": [{**OPEN_SET, "auroc": {"estimate": 0.5, "low": None, "high": 1}}]
    },
    r"'open_set' is null; expected a list": {"open_set": None},
    r"'protocol.shots' is \"five\"; expected a whole number or null": {"protocol": {"shots": "five"}},
    r"'card.bytes' is -1; expected": {"card": {"bytes": -1}},
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_does_not_fit_is_refused_with_its_field(tmp_path: Path, reason: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(WRONG[reason]))
    with pytest.raises(PredictionsError, match=reason) as refusal:
        read_results(tmp_path / "results.json")
    assert str(tmp_path / "results.json") in str(refusal.value) and "\n" not in str(refusal.value)
    assert "$" not in str(refusal.value) and "`" not in str(refusal.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"n": NaN}', '{"n": 1', "\udcff", "", '{"chance": 1e999}'])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(PredictionsError, match=r"results\.json(:| is not JSON)"):
        read_results(tmp_path / "results.json")
