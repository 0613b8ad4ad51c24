"""The second look: the best path through a word's sounds, and what it is worth."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.encoders.confidence import ConfidenceError, SpeechConfidence, Weighing
from kws_imagebind.encoders.phonebind import WEIGHTS, PhoneBindEncoder
from kws_imagebind.models.phonebind import PHONEME_INDEX
from kws_imagebind.spotting.detect import Detector
from kws_imagebind.spotting.explain import explain, spelled
from kws_imagebind.spotting.judge import Judge
from kws_imagebind.spotting.spelling import Speller
from kws_imagebind.training.phonebind.running_speech import AN_HOUR, Asked, Examples, fit, peaks, score, windows
from tests.spotting.test_spotting import clip, joined, write


@pytest.fixture(scope="module")
def encoder() -> PhoneBindEncoder:
    return PhoneBindEncoder.from_weights(device="cpu")


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """CTC: repeats become one, then blanks go."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def best_by_trying_all(spelling: Tensor, said: tuple[str, ...]) -> float:
    """Over every stretch of time and every path that spells the word in it."""
    wanted = tuple(PHONEME_INDEX[phoneme] for phoneme in said)
    symbols = sorted({0, *wanted})
    relative = (spelling - spelling.amax(1, keepdim=True)).tolist()
    best = -np.inf
    for start, end in itertools.combinations(range(len(relative) + 1), 2):
        for path in itertools.product(symbols, repeat=end - start):
            if collapsed(path) == wanted and path[0] and path[-1]:
                best = max(best, sum(relative[start + at][symbol] for at, symbol in enumerate(path)))
    return best


@pytest.mark.parametrize("said", [("K", "AE", "T"), ("T", "T"), ("AE",), ("T", "AE", "T")])
def test_the_best_path_is_that_of_trying_all(said: tuple[str, ...]) -> None:
    draw = torch.Generator().manual_seed(len(said))
    spellings = torch.randn(4, 6, len(PHONEME_INDEX) + 1, generator=draw).mul(2).log_softmax(-1)
    found = Speller([[said]])(spellings)[:, 0].tolist()
    assert found == pytest.approx([best_by_trying_all(spelling, said) for spelling in spellings], abs=1e-4)


def test_a_word_scores_as_its_best_reading_and_one_without_any_matches_nothing() -> None:
    spellings = torch.randn(3, 8, len(PHONEME_INDEX) + 1).log_softmax(-1)
    one, other = ("K", "AE", "T"), ("D", "AO", "G", "Z")
    each = Speller([[one], [other]])(spellings)
    both = Speller([[], [one, other]])
    assert torch.equal(both(spellings)[:, 1], each.amax(1)) and not both(spellings)[:, 0].any()
    assert both.phonemes.tolist() == [0, 3] and Speller([[]])(spellings).shape == (3, 1)


def test_a_said_word_is_spelled_better_than_others(encoder: PhoneBindEncoder) -> None:
    words = ["seven", "marvin", "left", "happy"]
    judge = Judge(encoder, words)
    for place, word in enumerate(words):
        ear = judge.ear()
        fits = [*ear.hear(torch.from_numpy(clip(word, 1))), *ear.finish()]
        matches = torch.cat([each.spelled for each in fits if each.spelled is not None]).amax(0)
        assert int((matches / judge.speller.phonemes).argmax()) == place, word  # type: ignore[union-attr]


def test_silence_spells_no_word(encoder: PhoneBindEncoder) -> None:
    ear = Judge(encoder, ["left", "beautiful"]).ear()
    fits = [*ear.hear(torch.zeros(48_000)), *ear.finish()]
    matches = torch.cat([each.spelled for each in fits if each.spelled is not None])
    assert len(matches) == 31 and bool((matches == torch.tensor([-16.0, -32.0])).all())


def test_a_read_out_of_sounds_alone_is_judged_without_spelling(encoder: PhoneBindEncoder) -> None:
    class Enrolled:
        labels, protocol = ("yes", "left"), kws.ZeroShotClassifier(encoder, ["yes"]).protocol

        def __call__(self, audio: Tensor) -> kws.Scores:
            return kws.ZeroShotClassifier(encoder, ["yes", "left"])(audio)

    samples, _ = joined(0.8, clip("yes"), 0.8, clip("left"), 0.8)
    hits = list(kws.Listener(Enrolled(), encoder=encoder).listen([samples]))
    assert [hit.word for hit in hits] == ["yes", "left"]


def test_windows_of_a_whole_recording_are_those_of_the_ear(encoder: PhoneBindEncoder) -> None:
    samples, _ = joined(0.43, clip("yes"), 0.3, clip("left"), 0.21)
    asked, judge = Asked(encoder, ["yes", "left"]), Judge(encoder, ["yes", "left"])
    features, ear = asked.features(windows(encoder, samples)), judge.ear()
    fits = [*ear.hear(torch.from_numpy(samples)), *ear.finish()]
    spelling = torch.cat([each.spelled for each in fits if each.spelled is not None])
    np.testing.assert_allclose(features[..., 0], torch.cat([each.keywords for each in fits]), atol=1e-4)
    np.testing.assert_allclose(features[:, 0, 1], torch.cat([each.fillers for each in fits]), atol=1e-4)
    np.testing.assert_allclose(features[:, 0, 2], torch.cat([each.spread for each in fits]), atol=1e-4)
    np.testing.assert_allclose(features[..., 3], spelling, atol=0.05)  # half precision
    np.testing.assert_allclose(features[:, 0, 5], torch.cat([each.apart for each in fits]), atol=1e-3)


def test_the_fit_separates_what_can_be_and_keeps_its_rate_of_false_alarms() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array(["said"] * 200 + ["alone"] * 200 + ["speech"] * 4_000 + ["word"] * 200 + ["pause"] * 200)
    right = np.isin(kinds, ("said", "alone"))
    phonemes = rng.choice([3.0, 8.0], len(kinds))
    features = np.stack(
        [
            rng.normal(np.where(right, 0.6, 0.4), 0.1),
            rng.normal(0.35, 0.05, len(kinds)),
            rng.normal(0.2, 0.02, len(kinds)),
            -np.abs(rng.normal(np.where(right, 3, 15), 4)),
            phonemes,
            np.where(np.isin(kinds, ("alone", "word", "pause")) | (rng.random(len(kinds)) < 0.3), 25.0, 0.0),
        ],
        1,
    )
    found = Examples(features, kinds, hours=20.0)
    numbers = fit(found, found, np.array([3.0] * 5 + [8.0] * 5))
    speech = kinds == "speech"
    wrong, quiet = score(numbers, features[speech]) >= 0.5, features[speech][:, 5] > 20
    for own, side, rates in ((numbers.within, ~quiet, AN_HOUR["within"]), (numbers.alone, quiet, AN_HOUR["alone"])):
        assert own.keyword > 0 and own.fillers < 0 and own.spelling > 0
        for length, (_, rate) in zip((3.0, 8.0), rates, strict=True):
            count = wrong[side & (features[speech][:, 4] == length)].sum()
            assert count == pytest.approx(rate * 20 * 5, abs=5), length
    assert peaks(np.array([0.2, 0.5, 0.5, 0.1]), apart=1).tolist() == [1, 2]


def test_damaged_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.confidence.json"
    path.write_text("{}")
    assert SpeechConfidence.read(path) is None
    names = [field.name for field in fields(Weighing)]
    good, bad_numbers = dict.fromkeys(names, 1.0), dict.fromkeys(names, float("nan"))
    for bad in ({}, {"within": good}, {"within": good, "alone": bad_numbers}, {"within": 3, "alone": good}, good):
        path.write_text(json.dumps({"speech": bad}))
        with pytest.raises(ConfidenceError, match="fit them with"):
            SpeechConfidence.read(path)


def test_the_bundled_numbers_are_there(encoder: PhoneBindEncoder) -> None:
    numbers = encoder.speech_confidence()
    assert numbers is not None
    for own in (numbers.within, numbers.alone):
        assert own.keyword > 0 > own.fillers and own.spelling > 0
    assert json.loads(WEIGHTS.with_suffix(".confidence.json").read_text())["speech"]["examples"]


def test_an_explanation_says_why(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    samples, middles = joined(1.0, clip("left"), 1.0, clip("stop"), 1.0)
    path = write(tmp_path / "said.wav", samples)
    left, banana = explain(path, encoder, Detector(encoder, ["left", "banana"]))
    assert left.reason == "a hit" and left.time == pytest.approx(middles[0], abs=0.3) and left.sounds.startswith("L")
    assert banana.reason in ("other words fit better", "it fits, but not well enough") and banana.score < 0.5
    detector = Detector(encoder, ["left", "stop"])
    assert explain(path, encoder, detector)[1].score == pytest.approx(detector(path)[1].score, abs=1e-3)
    late = explain(path, encoder, detector, at=middles[1])
    assert all(abs(each.time - middles[1]) < 0.6 for each in late) and late[1].reason == "a hit"
    assert late[0].reason == "other words fit better"
    assert spelled(path, encoder, 0.0) == "" or len(spelled(path, encoder, 0.0).split()) < 3
