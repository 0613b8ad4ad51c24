"""Distillation: the lesson is the mean of the teachers' cosines, and a student that learns it comes nearer to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kws_imagebind.audio.signal import fit
from kws_imagebind.models.phonebind import SAMPLES, PhoneBind, PhoneBindConfig, load, save
from kws_imagebind.text.phonemes import lookup
from kws_imagebind.training.corpora.shards import Corpus, Segment, write_shard
from kws_imagebind.training.phonebind import distillation
from kws_imagebind.training.phonebind.distillation import distilled, prepare
from kws_imagebind.training.phonebind.train import Recipe, Sampler, Trainer

WORDS = ("lamp", "river", "candle", "tomato", "window", "basket")
SMALL = PhoneBindConfig(width=16, blocks=1, stem=(4, 4), stem_blocks=0, text_width=16, text_blocks=1, dim=16, dropout=0)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    audio = [np.round(9_000 * rng.standard_normal(3_000 + 400 * index)).astype(np.int16) for index in range(12)]
    segments = [
        Segment(sound, "flite", "rms", WORDS[index % 6], lookup(WORDS[index % 6])[0])
        for index, sound in enumerate(audio)
    ]
    write_shard(tmp_path / "corpus", "synthetic", segments)
    return Corpus((tmp_path / "corpus").glob("*.tsv"))


@pytest.fixture
def teachers(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"teacher{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths, start=1):
        torch.manual_seed(seed)
        save(PhoneBind(SMALL), path, {})
    return paths


def clean(corpus: Corpus, index: int) -> torch.Tensor:
    return fit(torch.from_numpy(corpus.audio(index).astype(np.float32) / 32_768), SAMPLES)


def test_a_lesson_is_the_mean_of_the_teachers_cosines(corpus: Corpus, teachers: list[Path], tmp_path: Path) -> None:
    said = [lookup(word)[0] for word in WORDS]
    lessons = prepare(teachers, corpus, said, tmp_path)
    clips = [clean(corpus, index) for index in (0, 7)]
    with torch.inference_mode():
        each = [(m := load(path)).encode_audio(torch.stack(clips)) @ m.encode_text(said).T for path in teachers]
    found = lessons.cosines(np.array([0, 7]), np.arange(6))
    assert torch.allclose(found, torch.stack(each).mean(0), atol=0.01)  # bfloat16 heard it


def test_what_teachers_heard_is_kept_and_named_after_them(
    corpus: Corpus, teachers: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [lookup("lamp")[0]]
    first = prepare(teachers, corpus, said, tmp_path)
    monkeypatch.setattr(distillation, "_heard", lambda *_: pytest.fail("heard again"))
    again = prepare(teachers, corpus, said, tmp_path)
    assert np.array_equal(first.sounds, again.sounds)
    with pytest.raises(pytest.fail.Exception, match="heard again"):
        prepare(teachers[:1], corpus, said, tmp_path)


def test_the_loss_is_least_where_student_and_teachers_agree() -> None:
    expected = torch.tensor([[0.8, 0.3, -0.1]])
    taught, alike = distilled(expected, expected)
    softmax = (30 * expected).softmax(1)
    assert float(alike) == 0 and float(taught) == pytest.approx(float(-(softmax * softmax.log()).sum()), rel=1e-5)
    for other in (torch.tensor([[0.3, 0.8, -0.1]]), torch.tensor([[0.8, 0.35, -0.1]])):
        assert distilled(other, expected)[0] > taught and distilled(other, expected)[1] > 0


def test_a_student_comes_nearer_to_its_teachers(corpus: Corpus, teachers: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("rapidfuzz", reason="the 'train' extra is not installed")
    recipe = Recipe(
        steps=60, batch=8, rate=5e-3, warmup=2, random_negatives=4, neighbours=2, near_negatives=1, mining=1_000,
        forward=0, backward=0, spelling=0, taught=1, alike=30,
    )  # fmt: skip
    torch.manual_seed(3)
    learner = Trainer(PhoneBind(SMALL), Sampler(corpus, recipe), recipe)
    learner.lessons = prepare(teachers, corpus, learner.sampler.pronunciations, tmp_path)
    segments, words = np.arange(len(corpus)), np.arange(len(learner.indices))

    def error() -> float:
        clips = torch.stack([clean(corpus, index) for index in segments])
        learner.model.eval()
        with torch.inference_mode():
            cosines = learner.model.encode_audio(clips) @ learner.model.text(learner.indices).T
        assert learner.lessons is not None
        return float(F.mse_loss(cosines, learner.lessons.cosines(segments, words)))

    before = error()
    for step in range(recipe.steps):
        losses = learner.advance(*learner.batches[step])
    assert {"taught", "alike"} < set(losses)
    assert error() < 0.5 * before
