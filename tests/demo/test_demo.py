"""What the demo's tabs answer, without a browser: bad input gets a sentence, and visitors do not disturb each other."""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import soundfile

import kws_imagebind as kws
from kws_imagebind.cli import main
from kws_imagebind.datasets import Dataset
from kws_imagebind.datasets.sample import sample_folder
from kws_imagebind.demo import DemoError, check_installed
from kws_imagebind.demo.answers import MAX_LETTERS, MAX_SECONDS, MAX_WORDS, Answers, words_of
from kws_imagebind.encoders import Encoder

ROW = re.compile(r'<span class="word">([^<]*?)(?: <[^\n]*)?</span>.*?<span class="score">(-?[\d.]+)</span>', re.DOTALL)
RATE = 16_000
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return kws.load_encoder("phonebind")


@pytest.fixture(scope="module")
def sample() -> Dataset:
    return kws.load_dataset("sample")


@pytest.fixture
def answers(encoder: Encoder, sample: Dataset, tmp_path: Path) -> Answers:
    return Answers(encoder, sample, tmp_path / "cache", lots=random.Random(0))


def clip(word: str) -> str:
    return str(sorted((sample_folder() / word).glob("*.wav"))[0])


def rows(panel: str) -> list[tuple[str, float]]:
    return [(unescape(word), float(score)) for word, score in ROW.findall(panel)]


def is_a_sentence(panel: str, about: str) -> bool:
    """One notice that says what it is about, without a traceback or a folder of the machine."""
    text = unescape(re.sub("<[^>]+>", "", panel)).strip()
    assert panel.count('role="alert"') == 1 and "Traceback" not in text and "\n" not in text, text
    assert text.endswith(".") and not re.search(r"(^|\s)/\w+/", text.split("such as")[0]), text
    assert about in text, text
    return True


def test_enrolled_words_rank_with_their_examples(encoder: Encoder, sample: Dataset, tmp_path: Path) -> None:
    paths = sorted((sample_folder() / "yes").glob("*.wav"))
    enrolled = kws.enrol(encoder, {"yes": paths[1:4], "house": ()})
    answers = Answers(encoder, sample, tmp_path / "cache", enrolled=enrolled)
    heard = dict(rows(answers.spot(str(paths[0]), "Yes, no")[0]))
    text = dict(rows(Answers(encoder, sample, tmp_path / "cache").spot(str(paths[0]), "yes, no")[0]))
    assert heard["no"] == text["no"] and heard["yes"] != text["yes"]
    assert heard["yes"] == pytest.approx(kws.spot(paths[0], enrolled, encoder)[0][1], abs=6e-4)


@pytest.mark.parametrize("word", ["yes", "stop", "zero"])
def test_a_recording_is_ranked_as_spot_ranks_it(answers: Answers, encoder: Encoder, word: str) -> None:
    listed = "yes, no, stop; zero\nlamp, kettle=/K EH T AH L/"
    ranking, spectrogram, _ = answers.spot(clip(word), listed)
    expected = kws.spot(clip(word), ["yes", "no", "stop", "zero", "lamp", "kettle=/K EH T AH L/"], encoder)
    assert rows(ranking) == [(name, pytest.approx(score, abs=6e-4)) for name, score in expected]
    assert rows(ranking)[0][0] == word and f"<strong>{word}</strong>" in ranking and "of 6 words" in ranking
    assert "/K EH T AH L/" in ranking and "not probabilities" in ranking
    assert "data:image/png;base64," in spectrogram and "kHz" in spectrogram


def test_without_a_recording_the_page_says_what_to_do(answers: Answers) -> None:
    ranking, spectrogram, _ = answers.spot(None, "yes, no")
    assert "Record or upload" in ranking and 'role="alert"' not in ranking and not spectrogram


def silent(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE), RATE)


def too_long(path: Path) -> None:
    soundfile.write(path, np.zeros(int((MAX_SECONDS + 1) * RATE)), RATE)


def cut_short(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    path.write_bytes(path.read_bytes()[:9000])


def full_of_nan(path: Path) -> None:
    soundfile.write(path, np.full(RATE, np.nan), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "about"),
    [
        (silent, "only silence"),
        (too_long, "at most 30 s"),
        (cut_short, "cut short"),
        (full_of_nan, "NaN"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"no sound at all, only words" * 99), "cannot be decoded"),
        (lambda path: soundfile.write(path, np.ones(20), RATE), "at least 10 ms"),
        (lambda path: None, "record it again"),  # its time was up
    ],
)
def test_bad_recordings_get_a_sentence(
    answers: Answers, tmp_path: Path, make: Callable[[Path], None], about: str
) -> None:
    path = tmp_path / "a folder" / "mine.wav"
    path.parent.mkdir()
    make(path)
    ranking, spectrogram, _ = answers.spot(str(path), "yes, no")
    assert is_a_sentence(ranking, about) and "a folder" not in ranking and str(tmp_path) not in ranking
    assert not spectrogram or make is silent


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("", "The list of words is empty"),
        (" , ;\n ,", "The list of words is empty"),
        ("!!!", "'!!!' cannot be pronounced"),
        ("yes, 🎉", "'🎉' cannot be pronounced"),
        ("да, нет", "'да' cannot be pronounced"),
        ("yes, 7", "write them as words"),
        ("yes, no, YES", "'YES' is listed twice"),
        ("kettle=", "lacks a side of its '='"),
        ("kettle=/K EH QQ/", "'QQ'"),
        ("supercalifragilisticexpialidocious " * 9, "phonemes"),
        (",".join("word" + "a" * (i % 7) for i in range(MAX_WORDS + 1)), "at most 500"),
        ("a" * (MAX_LETTERS + 1), "at most 20,000"),
        ("a" * MAX_LETTERS, "letters"),
    ],
)
def test_bad_words_get_a_sentence_beside_the_spectrogram(answers: Answers, words: str, about: str) -> None:
    ranking, spectrogram, _ = answers.spot(clip("yes"), words)
    text = unescape(re.sub("<[^>]+>", "", ranking)).strip()
    assert ranking.count('role="alert"') == 1 and about in text and "\n" not in text and text.endswith(".")
    assert spectrogram


def test_what_a_visitor_types_is_no_markup(answers: Answers) -> None:
    ranking, _, _ = answers.spot(clip("bed"), '<img src=x onerror="alert()">, <b>bed</b>')
    assert "<img" not in ranking and "<b>" not in ranking and "&lt;b&gt;bed&lt;/b&gt;" in ranking
    assert "<i>" not in answers.spot(clip("bed"), "<i>7</i>")[0]


def test_hundreds_of_words_are_ranked_and_fold_away(answers: Answers) -> None:
    from kws_imagebind.text.phonemes import entries

    words = list(dict.fromkeys(word for word, _ in entries() if word.isalpha() and len(word) > 4))[::100][:MAX_WORDS]
    ranking, _, _ = answers.spot(clip("marvin"), ", ".join(["marvin", *words[: MAX_WORDS - 1]]))
    found = rows(ranking)
    assert len(found) == min(MAX_WORDS, len(words) + 1) > 400 and found[0][0] == "marvin"
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert len(rows(ranking.partition("<details>")[0])) == 12


def test_one_word_is_a_list_too(answers: Answers) -> None:
    assert "the only word" in answers.spot(clip("yes"), "yes")[0]


def test_a_list_is_read_as_people_write_one() -> None:
    assert words_of("tea  pot;lamp,\n\n kettle=/K EH T AH L/ ,") == ("tea pot", "lamp", "kettle=/K EH T AH L/")


def test_a_random_clip_comes_with_its_word(answers: Answers, sample: Dataset) -> None:
    told = {utterance.key: utterance for utterance in sample.utterances}
    seen = set()
    for _ in range(5):
        sound, heard, spectrogram = answers.draw()
        key = re.search(r"<code>([^<]+)</code>", heard)
        assert key is not None and sound is not None and "data:image/png" in spectrogram
        utterance = told[unescape(key[1])]
        seen.add(utterance.key)
        original, rate = soundfile.read(utterance.path, dtype="int16")
        assert sound[0] == rate and np.abs(sound[1].astype(int) - original).max() <= 1
        best = kws.spot(utterance.path, sample.keywords, answers.encoder)[0][0]
        assert f"<dt>Spoken</dt><dd>{utterance.label}</dd>" in heard and f"<dt>Heard</dt><dd>{best} " in heard
        assert (">right</span>" in heard) == (best == utterance.label) and rows(heard)[0][0] == best
    assert len(seen) > 1


def test_a_clip_that_is_misheard_is_called_wrong(encoder: Encoder, tmp_path: Path) -> None:
    for word, spoken in (("no", "yes"), ("yes", "no")):  # folders of the wrong names
        (tmp_path / "data" / word).mkdir(parents=True)
        shutil.copy(clip(spoken), tmp_path / "data" / word / "1.wav")
    dataset = kws.load_dataset("folder", root=tmp_path / "data")
    heard = Answers(encoder, dataset, tmp_path / "cache").draw()[1]
    assert ">wrong</span>" in heard and ">right</span>" not in heard and "place 2 of 2" in heard


def test_a_clip_that_cannot_be_read_gets_a_sentence(encoder: Encoder, tmp_path: Path) -> None:
    for word in ("yes", "no"):
        (tmp_path / "data" / word).mkdir(parents=True)
        (tmp_path / "data" / word / "1.wav").write_bytes(b"")
    answers = Answers(encoder, kws.load_dataset("folder", root=tmp_path / "data"), tmp_path / "cache")
    sound, heard, spectrogram = answers.draw()
    assert sound is None and not spectrogram and is_a_sentence(heard, "1.wav: the file is empty")
    assert is_a_sentence(list(answers.statistics(2, 0))[-1], "1.wav: the file is empty")


def test_statistics_say_what_evaluate_says(answers: Answers, encoder: Encoder, sample: Dataset) -> None:
    *steps, last = answers.statistics(100, 3)
    done = [int(match[1]) for step in steps if (match := re.search(r"(\d+) of 100 clips heard", step))]
    assert done == [0, 16, 32, 48, 64, 80, 96, 100] and len(done) == len(steps)
    audio = kws.embed(encoder, sample.subset(100, 3))
    expected = kws.evaluate(kws.ZeroShotClassifier(encoder, sample.keywords)(audio), audio, 3)
    told = unescape(re.sub("<[^>]+>", "", last))
    assert f"{100 * expected.accuracy.estimate:.1f} %" in told and "n = 100 clips; chance 2.9 %" in told
    assert f"[{100 * expected.accuracy.low:.1f}, {100 * expected.accuracy.high:.1f}]" in told
    assert "bundled sample, synthetic voices; 100 of 315 clips, drawn with seed 3" in told
    assert "by speaker (9 speakers)" in told and encoder.fingerprint in told
    cells = re.findall(r"<title>(\w+) heard as (\w+): (\d+) of", last)
    counts = expected.metrics.confusion.nonzero().tolist()
    assert {(spoken, heard): int(n) for spoken, heard, n in cells} == {
        (sample.labels[i], sample.labels[j]): int(expected.metrics.confusion[i, j]) for i, j in counts
    }


@pytest.mark.parametrize(("clips", "seed"), [(None, 0), (64, None), (1.5, 0), (float("nan"), 0), (float("inf"), 0)])
def test_statistics_without_numbers_get_a_sentence(answers: Answers, clips: float | None, seed: float | None) -> None:
    (only,) = answers.statistics(clips, seed)
    assert is_a_sentence(only, "whole numbers")


def test_statistics_of_no_clips_get_a_sentence_and_of_too_many_all_there_are(answers: Answers) -> None:
    for clips in (0, -5):
        assert is_a_sentence(list(answers.statistics(clips, 0))[-1], "expected 1 or more")
    assert "n = 315 clips" in list(answers.statistics(10**9, -1))[-1]


def test_a_cache_that_cannot_be_used_gets_a_sentence(encoder: Encoder, sample: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answers = Answers(encoder, sample, tmp_path / "file")
    assert 'role="alert"' in list(answers.statistics(5, 0))[-1] and 'role="alert"' in answers.draw()[1]


def test_visitors_at_once_get_the_answers_they_would_get_alone(answers: Answers) -> None:
    asked = [(clip(word), f"{word}, lamp, {other}") for word in ("yes", "no", "dog", "cat") for other in ("go", "six")]
    alone = [answers.spot(*each)[:2] for each in asked]
    with ThreadPoolExecutor(8) as visitors:
        together = list(visitors.map(lambda each: answers.spot(*each)[:2], asked * 3))
        # Two begin to measure while the cache is still empty.
        measured = list(visitors.map(lambda seed: list(answers.statistics(40, seed))[-1], [1, 1, 2, 2]))
    assert together == alone * 3
    assert measured[0] == measured[1] and measured[2] == measured[3] and measured[0] != measured[2]


def test_nothing_of_a_visitor_is_kept(answers: Answers, tmp_path: Path) -> None:
    shutil.copy(clip("yes"), tmp_path / "mine.wav")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    answers.spot(str(tmp_path / "mine.wav"), "yes, no")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_without_its_extra_the_command_says_which_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kws_imagebind.demo.find_spec", lambda package: None)
    with pytest.raises(DemoError, match="extra 'demo'"):
        check_installed()
    assert main(["demo", "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "gradio" in error and "extra 'demo'" in error


def test_an_address_that_cannot_be_had_is_named() -> None:
    from kws_imagebind.demo.app import launch

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*another --port"):
            launch(None, port=port)  # type: ignore[arg-type]
    with pytest.raises(DemoError, match=r"cannot listen on 192\.0\.2\.1 .*another --host"):  # RFC 5737: nobody's
        launch(None, host="192.0.2.1")  # type: ignore[arg-type]


def test_the_page_has_a_tab_that_listens_only_where_the_encoder_can() -> None:
    pytest.importorskip("gradio", reason="gradio, of the extra 'demo', is not installed")
    program = """
import kws_imagebind as kws
from kws_imagebind.demo.answers import Answers
from kws_imagebind.demo.app import build
answers = Answers(kws.load_encoder("phonebind"), kws.load_dataset("sample"), ".cache")
for listens in (True, False):
    shown = build(answers, listens).get_config_file()["components"]
    print([each["props"]["label"] for each in shown if each["type"] == "tabitem"])
"""
    # In a process of its own: Gradio leaves event loops open.
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    with_it, without = done.stdout.splitlines()
    assert with_it == "['Your voice', 'Live', 'A random clip', 'Statistics']", done.stderr
    assert without == "['Your voice', 'A random clip', 'Statistics']"
