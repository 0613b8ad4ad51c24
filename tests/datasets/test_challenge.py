"""The twelve-label tasks: the official archive's layout, the derived one, and what is cut from the noise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kws_imagebind.datasets import Dataset, DatasetError, load_dataset
from kws_imagebind.datasets.challenge import find_test_set, silence_crops
from kws_imagebind.datasets.registry import outsiders
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.evaluation.evaluate import evaluate
from kws_imagebind.readouts.base import Scores
from kws_imagebind.text.tasks import COMMANDS
from tests.conftest import ToneEncoder

CORPUS = "speech_commands_v0.02"


def _write(path: Path, seconds: float = 0.01, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, round(16_000 * seconds)), 16_000)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The layout of speech_commands_test_set_v0.02, with two clips a label."""
    root = tmp_path / "speech_commands_test_set_v0.02"
    for number, word in enumerate(COMMANDS):
        for take in range(2):
            _write(root / word / f"0cb74144_nohash_{take}.wav", seed=number * 2 + take)
    for take, word in enumerate(("bed", "tree")):
        _write(root / "_unknown_" / f"{word}_0cb74144_nohash_0.wav.wav", seed=50 + take)
        _write(root / "_silence_" / f"{take}.wav", seed=60 + take)
    (root / "._yes").mkdir()
    return root


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus whose testing split has 30 clips of two commands and 12 of two other words, with two noises."""
    folder = tmp_path / "data" / "SpeechCommands" / CORPUS
    lines = [f"{word}/{i:08x}_nohash_0.wav" for word in ("yes", "no") for i in range(15)]
    lines += [f"{word}/{i:08x}_nohash_0.wav" for word in ("bed", "tree") for i in range(6)]
    for line in lines:
        _write(folder / line)
    (folder / "testing_list.txt").write_text("\n".join(lines) + "\n")
    (folder / "validation_list.txt").write_text("")
    _write(folder / "_background_noise_" / "hum.wav", 5.0, 1)
    _write(folder / "_background_noise_" / "tap.wav", 3.0, 2)
    _write(folder / "_background_noise_" / "click.wav", 0.5, 3)  # too short for a crop
    return tmp_path / "data"


@pytest.mark.parametrize("inner", ["", "speech_commands_test_set_v0.02"])
def test_the_official_archive_is_read_with_its_odd_names(archive: Path, inner: str) -> None:
    dataset = load_dataset("speech-commands", root=archive.parent / inner, task="v2-12")
    assert len(dataset) == 24 and dataset.keywords == (*COMMANDS, "silence", "unknown")
    assert Counter(dataset.labels[i] for i in dataset.targets) == dict.fromkeys((*COMMANDS, "silence", "unknown"), 2)
    unknown = [each for each in dataset.utterances if each.label == "unknown"]
    assert [each.key for each in unknown] == [f"_unknown_/{w}_0cb74144_nohash_0.wav.wav" for w in ("bed", "tree")]
    assert {each.speaker for each in dataset.utterances if each.label != "silence"} == {"0cb74144"}
    assert "official archive of the twelve labels" in dataset.note
    assert find_test_set(archive.parent, "v0.01") is None


def test_training_clips_in_the_archive_are_told_by_their_speaker(archive: Path, tone_encoder: ToneEncoder) -> None:
    dataset = load_dataset("speech-commands", root=archive, task="v2-12")
    audio = embed(tone_encoder, dataset)
    scores = Scores(torch.rand(24, 12), dataset.labels)
    assert evaluate(scores, audio).n == 24  # 'bed_0cb74144' is the speaker 0cb74144, of the testing split


def test_the_derived_task_has_a_tenth_of_other_words_and_of_noise(corpus: Path) -> None:
    dataset = load_dataset("speech-commands", root=corpus, task="v2-12")
    counts = Counter(utterance.label for utterance in dataset.utterances)
    assert counts == {"yes": 15, "no": 15, "unknown": 3, "silence": 3}
    assert {each.key.split("/")[0] for each in dataset.utterances if each.label == "unknown"} <= {"bed", "tree"}
    assert load_dataset("speech-commands", root=corpus, task="v2-12") == dataset  # drawn alike each time
    assert "3 of its other words as 'unknown' and 3 noise crops as 'silence', drawn with seed 0" in dataset.note


def test_a_corpus_of_its_own_words_is_asked_for_when_neither_is_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no Speech Commands v0\.01.*112 MB .*test_set_v0\.01\.tar\.gz"):
        load_dataset("speech-commands", root=tmp_path, task="v1-12")


def test_crops_are_a_second_long_within_their_recordings_and_differ_by_split(corpus: Path) -> None:
    noise = corpus / "SpeechCommands" / CORPUS / "_background_noise_"
    crops = silence_crops(noise, 60, "testing")
    assert len({crop.key for crop in crops}) == 60 and {crop.speaker for crop in crops} == {
        "_background_noise_/hum", "_background_noise_/tap",
    }  # fmt: skip
    for crop in crops:
        assert crop.crop is not None
        assert 0 <= crop.crop[0] <= soundfile.info(crop.path).duration - 1 and crop.crop[1] == 1.0
    assert {crop.key for crop in silence_crops(noise, 60, "validation")} != {crop.key for crop in crops}
    with pytest.raises(DatasetError, match="holds no recording of background noise"):
        silence_crops(corpus, 3, "testing")


@pytest.mark.parametrize("cached", [False, True])
def test_crops_of_one_file_are_heard_apart(
    corpus: Path, tone_encoder: ToneEncoder, tmp_path: Path, cached: bool
) -> None:
    noise = corpus / "SpeechCommands" / CORPUS / "_background_noise_"
    crops = silence_crops(noise, 8, "testing")
    dataset = Dataset("speech-commands", crops, ("silence", "yes"), "custom")
    cache = tmp_path / "cache" if cached else None
    for _ in range(2):
        audio = embed(tone_encoder, dataset, cache=cache)
        for crop, vector in zip(crops, audio.features, strict=True):
            assert crop.crop is not None
            whole, rate = soundfile.read(crop.path, dtype="float32")
            first = round(crop.crop[0] * rate)
            expected = tone_encoder.encode_audio([torch.from_numpy(whole[first : first + rate])])[0]
            torch.testing.assert_close(vector, expected)


def test_outsiders_are_other_words_and_noise_and_no_keyword(corpus: Path) -> None:
    others = outsiders(load_dataset("speech-commands", root=corpus, keywords="YES,no"))
    assert Counter(each.label for each in others.utterances) == {"bed": 6, "tree": 6, "silence": 20}


def test_the_seed_notebooks_candidates_come_in_its_order(corpus: Path) -> None:
    dataset = load_dataset("speech-commands", root=corpus, task="v2-37")
    assert dataset.labels[:3] == ("silence", "unknown", "backward") and len(dataset.labels) == 37
    assert len(dataset) == 42
