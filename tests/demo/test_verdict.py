"""What was said, or that it was none of the words; and what a session keeps of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.datasets.sample import sample_folder
from kws_imagebind.demo import panels
from kws_imagebind.demo.answers import EXAMPLES, Answers, example
from kws_imagebind.demo.verdict import KEPT, NONE, Entry, Verdict, as_csv, hits_csv, judge, remembered
from kws_imagebind.encoders import Encoder
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.hits import Hit
from kws_imagebind.text.tasks import COMMANDS

SPEAKER = "04098292_nohash_0.wav"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return kws.load_encoder("phonebind")


@pytest.fixture(scope="module")
def commands(encoder: Encoder) -> ZeroShotClassifier:
    return ZeroShotClassifier(encoder, COMMANDS)


class Uncalibrated:
    """PhoneBind without a window: it ranks, and does not know what its cosines are worth."""

    name, default_template = "plain", "{}"

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.sample_rate, self.dim, self.fingerprint = encoder.sample_rate, encoder.dim, "plain"

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        return self._encoder.encode_audio(waveforms)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._encoder.encode_text(texts)


def test_words_of_the_list_are_taken_and_others_are_none_of_these(
    encoder: Encoder, commands: ZeroShotClassifier
) -> None:
    found = {
        word: [judge(str(path), commands, encoder) for path in sorted((sample_folder() / word).glob("*.wav"))[:4]]
        for word in ("yes", "stop", "left", "marvin", "happy", "wow", "seven")
    }
    for word, verdicts in found.items():
        for verdict in verdicts:
            assert verdict.none == (verdict.answer == NONE) and verdict.least == 0.5
            assert verdict.nearest is not None and verdict.nearest[0] == verdict.ranked[0][0]
        right = sum(verdict.answer == (word if word in COMMANDS else NONE) for verdict in verdicts)
        assert right >= 3, (word, [verdict.answer for verdict in verdicts])


def test_the_score_of_a_short_clip_is_the_encoders_confidence(encoder: Encoder, commands: ZeroShotClassifier) -> None:
    from kws_imagebind.audio.files import load_audio
    from kws_imagebind.readouts.fillers import filler_scores, filler_vectors

    path = sample_folder() / "go" / SPEAKER
    vector = encoder.encode_audio([load_audio(path, encoder.sample_rate)])
    others = filler_scores(vector, filler_vectors(encoder, commands))[0].sort(descending=True).values[:10].mean()
    keyword = commands(vector).values[0].max()
    numbers = encoder.confidence()  # type: ignore[attr-defined]
    logit = float(numbers.keyword * keyword + numbers.fillers * others + numbers.bias)
    verdict = judge(str(path), commands, encoder)
    assert verdict.nearest == ("go", pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4))
    assert verdict.score == verdict.nearest[1]


@pytest.mark.parametrize("level", [0.001, 0.05, 0.9])
@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_noise_is_none_of_these(
    encoder: Encoder, commands: ZeroShotClassifier, tmp_path: Path, seconds: float, level: float
) -> None:
    noise = np.random.default_rng(1).standard_normal(round(seconds * 16_000)).clip(-1, 1) * level
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    verdict = judge(str(tmp_path / "noise.wav"), commands, encoder)
    assert verdict.none and verdict.answer == NONE and verdict.long == (seconds > 1.5)
    panel = panels.ranking(verdict, {}, 12)
    assert "<strong>None of these</strong>" in panel and "it needs 0.5" in panel and "best of" not in panel


def test_a_longer_recording_has_every_hit_that_detect_finds(
    encoder: Encoder, commands: ZeroShotClassifier, tmp_path: Path
) -> None:
    name, wav = example("Three words")
    (tmp_path / name).write_bytes(wav)
    verdict = judge(str(tmp_path / name), commands, encoder)
    assert list(verdict.hits) == kws.detect(tmp_path / name, COMMANDS, encoder)
    assert verdict.answer == "yes, left, stop" and not verdict.none
    assert list(verdict.ranked) == kws.spot(tmp_path / name, COMMANDS, encoder)
    panel = panels.ranking(verdict, {}, 12)
    assert panel.count("<rect") == 3 and "3 words found in" in panel
    for hit in verdict.hits:
        assert f"<td>{hit.word}</td><td>{hit.score:.2f}</td>" in panel


def test_an_encoder_that_does_not_know_only_ranks(encoder: Encoder, tmp_path: Path) -> None:
    plain = Uncalibrated(encoder)
    path = str(sample_folder() / "happy" / SPEAKER)
    verdict = judge(path, ZeroShotClassifier(plain, COMMANDS), plain)
    assert verdict.nearest is None and not verdict.none and verdict.answer == verdict.ranked[0][0]
    answer = Answers(plain, kws.load_dataset("sample"), tmp_path).spot(path, "yes, no")
    assert "One word always comes first" in answer.panel and "score" not in answer.panel.split("<ol")[0]
    assert answer.entry is not None and answer.entry.score == answer.entry.verdict.ranked[0][1]


def test_an_answer_of_many_words_is_cut() -> None:
    hits = tuple(Hit(f"w{index}", index, index + 0.5, 0.9) for index in range(9))
    assert Verdict(9.0, (("w0", 0.5),), ("w0", 0.9), {"w0": 0.5}, hits, True).answer == "w0, w1, w2, w3, w4, w5, …"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("One word", "stop"), ("Three words", "yes, left, stop"), ("Other word", NONE), ("Noise", NONE)],
)
def test_the_examples_show_what_there_is_to_see(encoder: Encoder, tmp_path: Path, name: str, expected: str) -> None:
    file, wav = example(name)
    (tmp_path / file).write_bytes(wav)
    answer = Answers(encoder, kws.load_dataset("sample"), tmp_path).spot(str(tmp_path / file), ", ".join(COMMANDS))
    assert name in EXAMPLES and answer.entry is not None
    assert (answer.entry.answer, answer.entry.what) == (expected, f"{name}.wav")


THRESHOLDS = {"yes": 0.5, 'say "tea", hot': 0.8}  # as enrolled words may have


def entry(recording: str, *hits: Hit, words: tuple[str, ...] = ("yes", "tea, hot")) -> Entry:
    verdict = Verdict(2.5, (("yes", 0.61),), ("yes", 0.25), THRESHOLDS, hits, long=True)
    return Entry(recording, "12:34:56", verdict, words)


def test_a_history_has_a_row_for_each_recording_and_an_end() -> None:
    history: list[Entry] = []
    for recording in ("a/1.wav", "a/1.wav", "a/2.wav", "a/1.wav"):
        history = remembered(history, entry(recording))
    assert [each.recording for each in history] == ["a/1.wav", "a/2.wav", "a/1.wav"]
    other = entry("a/1.wav", words=("no",))
    assert remembered(history, other)[-1] is other and len(remembered(history, other)) == 3
    for number in range(2 * KEPT):
        history = remembered(history, entry(f"{number}.wav"))
    assert len(history) == KEPT and history[-1].recording == f"{2 * KEPT - 1}.wav"
    panel = panels.history([entry("a/<b>.wav"), entry("c/audio.wav")])
    assert panel.index("recording, 2.5 s") < panel.index("&lt;b&gt;.wav, 2.5 s") and "<b>" not in panel
    assert panels.history([]) == ""


def test_a_downloaded_history_holds_every_hit() -> None:
    hits = (Hit("yes", 0.5, 0.9, 0.81), Hit('say "tea", hot', 1.5, 1.9, 0.93))
    read = list(csv.DictReader(io.StringIO(as_csv([entry("x/two.wav", *hits), entry("x/none.wav")]).decode())))
    assert [row["word"] for row in read] == ["yes", 'say "tea", hot', NONE]
    assert [row["recording"] for row in read] == ["two.wav", "two.wav", "none.wav"]
    assert (read[1]["start"], read[1]["end"], read[1]["score"]) == ("1.500", "1.900", "0.9300")
    assert [row["threshold"] for row in read] == ["0.5", "0.8", "0.5"]
    assert (read[2]["start"], read[2]["score"], read[2]["threshold"]) == ("", "0.2500", "0.5")
    assert {row["words"] for row in read} == {"yes, tea, hot"}
    assert list(csv.reader(io.StringIO(hits_csv(hits).decode())))[1] == ["yes", "0.500", "0.900", "0.8100"]


def test_words_with_thresholds_of_their_own_are_said_to_have_them(encoder: Encoder, tmp_path: Path) -> None:
    name, wav = example("Three words")
    (tmp_path / name).write_bytes(wav)
    for own, said in (({"left": 0.7}, "Each word has its own threshold"), ({}, "From 0.5 on it counts")):
        scorer = kws.enrol(encoder, {"yes": (), "left": (), "stop": ()}, own)
        verdict = judge(str(tmp_path / name), scorer, encoder)
        assert verdict.thresholds == {"yes": 0.5, "left": 0.5, "stop": 0.5} | own
        assert said in panels.ranking(verdict, {}, 12)
        rows = csv.DictReader(io.StringIO(as_csv([Entry(name, "1:00", verdict, tuple(scorer.labels))]).decode()))
        needed = {row["word"]: float(row["threshold"]) for row in rows}
        assert needed and needed == {word: verdict.thresholds[word] for word in needed}
