"""The kind of run in words."""

from __future__ import annotations

import pytest

from kws_imagebind.reporting.protocol import described, kind
from kws_imagebind.reporting.results import Protocol, Results

SAW = ["LibriSpeech", "Speech Commands"]


@pytest.mark.parametrize(
    ("protocol", "short", "long"),
    [
        (
            Protocol(),
            "zero-shot",
            "zero-shot read-out: the words are given as text; what the encoder was trained on is",
        ),
        (Protocol(trained_on=["AudioSet"]), "zero-shot", "and the encoder was not trained on Speech Commands"),
        (Protocol(trained_on=SAW), "not zero-shot", "not zero-shot: the encoder was trained on Speech Commands"),
        (Protocol(zero_shot=False), "not zero-shot", "not zero-shot"),
        (Protocol(kind="few-shot", shots=5), "few-shot", "few-shot, 5 clips a word"),
        (Protocol(kind="few-shot", shots=1, draws=1), "few-shot", "few-shot, 1 clip a word, one draw"),
        (
            Protocol(kind="few-shot", shots=2, trained_on=SAW),
            "few-shot",
            "; the encoder was trained on Speech Commands",
        ),
        (Protocol(kind="probe", support=1234), "probe", "from labelled clips of these words, 1,234 clips"),
        (Protocol(kind="supervised"), "supervised", "supervised: learnt from these words"),
        (Protocol(kind="likelihood"), "likelihood", "likelihood"),
    ],
)
def test_every_kind_is_told_apart(protocol: Protocol, short: str, long: str) -> None:
    results = Results(encoder="a", protocol=protocol)
    assert kind(results) == short and long in described(results)


def test_what_is_not_recorded_is_not_claimed() -> None:
    assert kind(None) == described(None) == kind(Results()) == described(Results()) == "not recorded"
