"""Enrolled words: their arithmetic on toys, their file, and what they do to real detection."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import kws_imagebind as kws
from kws_imagebind.cli import main
from kws_imagebind.datasets.base import ClipIdentity
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.enrolment import HOLD, EnrolledWord, Enrolment, EnrolmentError, background_of, enrol
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from tests.conftest import ToneEncoder

SAMPLE = Path(__file__).parents[2] / "sample"


def clips(word: str) -> list[Path]:
    return sorted((SAMPLE / word).glob("*.wav"))


@pytest.fixture(scope="module")
def encoder() -> kws.Encoder:
    return kws.load_encoder("phonebind", device="cpu")


def test_a_prototype_is_the_weighted_mean_of_text_and_examples() -> None:
    text, audio = torch.eye(4)[:1], torch.eye(4)[1:3]
    clips = ClipIdentity("a"), ClipIdentity("b")
    word = EnrolledWord("lamp", text, audio, clips, ("a.wav", "b.wav"), gain=0.5, offset=0.1)
    words = Enrolment((word, EnrolledWord("tree", torch.eye(4)[3:], torch.zeros(0, 4))), "toy", "toy-1")
    scores = words(torch.eye(4))
    total = HOLD + 2
    expected = np.array([[HOLD / total, 0], [0.5 / total, 0], [0.5 / total, 0], [0, 1]])
    expected[:, 0] += 0.2 / total
    np.testing.assert_allclose(scores.values.numpy(), expected, atol=1e-7)
    assert scores.labels == ("lamp", "tree") and isinstance(words, Readout)
    assert scores.protocol.kind == "few-shot" and len(scores.protocol.support) == 2 and scores.protocol.shots is None


def test_without_examples_it_is_the_zero_shot_classifier(encoder: kws.Encoder) -> None:
    words = enrol(encoder, {"either": (), "no": ()})  # two ways to say the first
    text = ZeroShotClassifier(encoder, ["either", "no"])
    features = F.normalize(torch.randn(9, 192, generator=torch.Generator().manual_seed(0)), dim=1)
    assert len(words.weights) == len(text.weights) > 2
    torch.testing.assert_close(words(features).values, text(features).values)
    assert words.protocol.kind == "zero-shot"


def test_other_words_score_the_same_with_examples_as_with_the_text(encoder: kws.Encoder) -> None:
    vectors, labels = background_of(encoder)
    others = vectors[[label not in ("up", "no") for label in labels]]
    words = enrol(encoder, {"up": clips("up")[:2], "no": clips("no")[:1]})
    for column, word in enumerate(words.words):
        alone = replace(words, words=(replace(word, text=torch.zeros(1, 192)),))  # leaves the share of the examples
        share = alone(others).values[:, 0] * (HOLD + len(word.audio)) / len(word.audio)
        text = (others @ word.text.T).amax(1)
        assert float(share.mean()) == pytest.approx(float(text.mean()), abs=0.02)
        assert float(share.std()) == pytest.approx(float(text.std()), rel=0.1)
        assert word.gain < 1  # recordings are nearer to each other than to texts
        assert words.labels[column] == word.label


def test_examples_of_one_voice_help_to_tell_its_other_recordings(encoder: kws.Encoder) -> None:
    """The sample's voices: with two clips of a word, other clips of it stand out more from clips of other words."""
    names = ("off", "up", "go", "no")
    paths = {word: clips(word) for word in names}
    words = enrol(encoder, {word: paths[word][:2] for word in names})
    rest = [(word, path) for word in names for path in paths[word][2:]]
    heard = encoder.encode_audio([kws.load_audio(path, 16_000) for _, path in rest])
    right = np.array([[word == name for name in names] for word, _ in rest])
    areas = [
        roc_auc_score(right.ravel(), scorer(heard).values.numpy().ravel())
        for scorer in (ZeroShotClassifier(encoder, names), words)
    ]
    assert areas[1] >= areas[0] > 0.9


def test_a_file_holds_all_that_spotting_needs(encoder: kws.Encoder, tmp_path: Path) -> None:
    words = enrol(encoder, {"yes": clips("yes")[:2], "no=/N OW/": (), "up": clips("up")[:1]}, {"YES": 0.7})
    words.save(tmp_path / "words.kws")
    again = Enrolment.load(tmp_path / "words.kws")
    assert again.labels == ("yes", "no", "up") and again.thresholds == {"yes": 0.7, "no": 0.5, "up": 0.5}
    assert torch.equal(again.weights, words.weights) and again.protocol == words.protocol
    assert (tmp_path / "words.kws").stat().st_size < 10_000
    path = clips("yes")[3]
    assert kws.spot(path, tmp_path / "words.kws", encoder=encoder) == kws.spot(path, words, encoder=encoder)
    assert kws.spot(path, str(tmp_path / "words.kws"))[0][0] == "yes"


def test_each_word_has_its_own_threshold_in_running_sound(encoder: kws.Encoder, tmp_path: Path) -> None:
    parts = [np.zeros(16_000, np.float32)]
    for word in ("yes", "up"):
        parts += [soundfile.read(clips(word)[4], dtype="float32")[0], np.zeros(16_000, np.float32)]
    soundfile.write(tmp_path / "both.wav", np.concatenate(parts), 16_000)
    words = enrol(encoder, {word: clips(word)[:3] for word in ("yes", "up")})
    scores = {hit.word: hit.score for hit in kws.detect(tmp_path / "both.wav", words)}
    assert list(scores) == ["yes", "up"]
    strict = enrol(encoder, {word: clips(word)[:3] for word in ("yes", "up")}, {"up": min(1.0, scores["up"] + 1e-4)})
    assert [hit.word for hit in kws.detect(tmp_path / "both.wav", strict)] == ["yes"]
    assert [hit.word for hit in kws.detect(tmp_path / "both.wav", strict, threshold=0.5)] == ["yes", "up"]


def test_words_are_added_replaced_and_removed(encoder: kws.Encoder) -> None:
    words = enrol(encoder, {"yes": clips("yes")[:1], "no": ()})
    more = words.updated(enrol(encoder, {"No": clips("no")[:2], "up": ()}))
    assert more.labels == ("yes", "No", "up") and [len(word.audio) for word in more.words] == [1, 2, 0]
    assert more.without(["no"]).labels == ("yes", "up")
    with pytest.raises(EnrolmentError, match="down is not enrolled"):
        more.without(["down"])
    with pytest.raises(EnrolmentError, match="no word would be left"):
        words.without(["yes", "no"])


def test_an_example_that_sounds_like_another_word_is_named(encoder: kws.Encoder) -> None:
    words = enrol(encoder, {"yes": clips("yes")[:2], "no": [*clips("no")[:2], clips("yes")[3]]})
    doubtful = [file for _, file, own, other, score in words.own_scores() if score > own]
    assert doubtful == [clips("yes")[3].name]


def test_another_encoder_is_refused(encoder: kws.Encoder, tone_encoder: ToneEncoder) -> None:
    words = enrol(encoder, {"yes": ()})
    with pytest.raises(EnrolmentError, match="were enrolled for phonebind"):
        words.check(tone_encoder)
    with pytest.raises(EnrolmentError, match="enrol all of them again"):
        words.updated(enrol(tone_encoder, {"440": ()}))
    with pytest.raises(EnrolmentError, match="bring their own templates"):
        kws.spot(clips("yes")[0], words, encoder=encoder, templates=["a {}"])


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_makes_a_file_that_spot_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips("yes")[0], "one.wav")
    shutil.copy(clips("yes")[1], "two.wav")
    code, out, err = command(
        capsys, "enrol", "w.kws", "--word", "yes=one.wav,two.wav", "--word", "no=/N OW/", "--threshold", "yes=0.6"
    )
    assert code == 0 and "wrote 2 words to w.kws" in err
    assert [line.split() for line in out.splitlines()[1:]] == [["yes", "2", "0.60"], ["no", "0", "0.50"]]
    code, out, _ = command(capsys, "spot", clips("yes")[2], "--words", "w.kws")
    assert code == 0 and out.startswith("yes")
    before = Path("w.kws").read_bytes()
    for wrong, said in (
        (("--word", "yes=missing.wav"), "there is no such file"),
        (("--word", "yes=one.wav,one.wav"), "the same recording as one.wav"),
        (("--word", "yes=one.wav", "--threshold", "no=0.5"), "a threshold for 'no', which is not among the words yes"),
        (("--word", "yes", "--threshold", "yes=2"), "expected a number from 0 to 1"),
        (("--word", "yes", "--threshold", "yes"), "expected WORD=NUMBER"),
        (("--threshold", "yes=0.4"), "give the word and its recordings again"),
        (("--remove", "lamp"), "lamp is not enrolled"),
        (("--word", "yes", "--word", "Yes=one.wav"), "listed twice"),
    ):
        code, _, err = command(capsys, "enrol", "w.kws", *wrong)
        assert code == 2 and said in err and len(err.splitlines()) == 1, wrong
        assert Path("w.kws").read_bytes() == before
    soundfile.write("silence.wav", np.zeros(16_000), 16_000)
    assert "only silence" in command(capsys, "enrol", "w.kws", "--word", "yes=silence.wav")[2]
    assert "'w.txt' is not a name" in command(capsys, "enrol", "w.txt", "--word", "yes")[2]
    assert "does not exist yet" in command(capsys, "enrol", "new.kws")[2]
    for damaged in (b"", b"hello", before[:-40], b"\xff" * 64):
        Path("bad.kws").write_bytes(damaged)
        code, _, err = command(capsys, "spot", "one.wav", "--words", "bad.kws")
        assert code == 2 and "does not hold enrolled words, or is damaged" in err
    assert "there is no such file" in command(capsys, "spot", "one.wav", "--words", "gone.kws")[2]
