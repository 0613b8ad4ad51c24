"""Which clips train, choose and are reported, and the memory map that they are decoded into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kws_imagebind.audio.signal import fit
from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets import Dataset, load_dataset
from kws_imagebind.datasets.base import Utterance
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.training.supervised.clips import decoded, noise_of, split
from kws_imagebind.training.supervised.recipes import TrainingError

from .tones import RATE, corpus, tone

REAL = Path(__file__).parents[4] / "shared" / "data"


def test_no_voice_is_in_two_parts_and_the_seed_draws_them(tones: Dataset) -> None:
    found = split(tones)
    parts = [found.training, found.validation, found.testing]
    voices = [{each.speaker for each in part.utterances} for part in parts if part]
    assert [len(each) for each in voices] == [4, 1, 1] and len(set().union(*voices)) == 6
    assert sum(len(part) for part in parts if part) == len(tones)
    assert split(tones) == found
    draws = {min(each.speaker or "" for each in split(tones, seed=seed).validation.utterances) for seed in range(12)}
    assert len(draws) > 2


def test_without_speakers_each_word_gives_its_share(tones: Dataset) -> None:
    unknown = replace(tones, utterances=tuple(replace(each, speaker=None) for each in tones.utterances))
    found = split(unknown)
    assert "speakers are unknown" in found.note and found.testing is not None
    for part, clips in ((found.training, 14), (found.validation, 5), (found.testing, 5)):
        assert all(sum(each.label == word for each in part.utterances) == clips for word in tones.labels)


def test_the_sample_is_divided_by_voice() -> None:
    found = split(load_dataset("sample"))
    assert found.testing is not None
    assert (len(found.training), len(found.validation), len(found.testing)) == (175, 70, 70)


def made(labels: list[str], speakers: list[str | None]) -> Dataset:
    utterances = tuple(
        Utterance(Path(f"{index}.wav"), label, speaker, f"{index}")
        for index, (label, speaker) in enumerate(zip(labels, speakers, strict=True))
    )
    return Dataset("mine", utterances, tuple(dict.fromkeys(labels)), "mine")


def test_one_clip_a_word_and_words_without_clips_get_a_sentence() -> None:
    with pytest.raises(TrainingError, match=r"none is left for training; training needs at least two clips of each"):
        split(made(["yes", "no"], [None, None]))
    with pytest.raises(TrainingError, match=r"no training clip says no; record some, or leave it out with --keywords"):
        split(made(["yes", "yes", "yes", "no"], [None] * 4))
    empty = replace(made(["yes"] * 4, [None] * 4), keywords=("yes", "lamp", "kettle"))
    with pytest.raises(TrainingError, match=r"no training clip says kettle, lamp; .* leave them out"):
        split(empty)
    with pytest.raises(TrainingError, match=r"a share of 0.7"):
        split(empty, share=0.7)


def test_two_clips_a_word_leave_none_to_report() -> None:
    found = split(made(["yes", "yes", "no", "no"], [None] * 4))
    assert (len(found.training), len(found.validation), found.testing) == (2, 2, None)


def test_more_clips_train_and_keep_their_own_names(tones: Dataset, tmp_path: Path) -> None:
    other = load_dataset("folder", corpus(tmp_path / "more", speakers=1, takes=2), keywords=tones.keywords)
    found = split(tones, [other])
    assert len(found.training) == len(split(tones).training) + 6 and "6 more training clips" in found.note
    assert any(each.key == "more/low/00000000_nohash_1.wav" for each in found.training.utterances)
    with pytest.raises(TrainingError, match="clips are training clips too"):
        split(tones, [tones])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
def test_a_corpus_with_splits_keeps_them() -> None:
    found = split(load_dataset("speech-commands", REAL, "training", keywords="down,go,left"))
    assert found.testing is not None
    assert [part.split for part in (found.training, found.validation, found.testing)] == [
        "training", "validation", "testing",
    ]  # fmt: skip
    twelve = split(load_dataset("speech-commands", REAL, "training", task="v2-12"))
    counts = [sum(each.label == word for each in twelve.training.utterances) for word in twelve.labels]
    words = sum(counts[:10])
    assert counts[10] in (-(-words // 10), -(-words // 10) - 1)  # silence: less the crops that a later split has too
    assert counts[11] == -(-words // 10)  # unknown: a tenth of the ten words


def test_the_map_holds_what_the_recordings_do(tones: Dataset, tmp_path: Path) -> None:
    clips = decoded(tones, FrontEnd(), tmp_path)
    assert clips.rows.shape == (len(tones), 16_000) and isinstance(clips.rows, np.memmap)
    rows, targets = clips.batch([0, 7, 3])
    for row, index in zip(rows, (0, 7, 3), strict=True):
        expected = fit(load_utterance(tones.utterances[index], RATE), 16_000)
        assert torch.allclose(row, expected, atol=2 / 32_768)
    assert targets.tolist() == tones.targets[[0, 7, 3]].tolist()
    before = sorted(tmp_path.iterdir())
    times = [path.stat().st_mtime_ns for path in before]
    decoded(tones, FrontEnd(), tmp_path)
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())] == times  # decoded once


def test_a_changed_recording_is_decoded_again(tmp_path: Path) -> None:
    dataset = load_dataset("folder", corpus(tmp_path / "data", speakers=1, takes=1))
    first = np.array(decoded(dataset, FrontEnd(), tmp_path).rows)
    soundfile.write(dataset.utterances[1].path, tone(500, 9, 0.4), RATE, subtype="PCM_16")
    again = np.array(decoded(dataset, FrontEnd(), tmp_path).rows)
    assert (first[0] == again[0]).all() and (first[1] != again[1]).any()


def test_noise_lies_beside_the_words(tones: Dataset, tmp_path: Path) -> None:
    assert noise_of(tones, RATE, 1.0) is None
    root = corpus(tmp_path / "noisy", speakers=1, takes=1)
    (root / "_background_noise_").mkdir()
    soundfile.write(root / "_background_noise_" / "hum.wav", tone(50, 1, 3.0), RATE)
    found = noise_of(load_dataset("folder", root), RATE, 1.0)
    assert found is not None and found.shape == (48_000,)
