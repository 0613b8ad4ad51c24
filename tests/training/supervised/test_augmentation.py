"""Random changes of clips: they stay within what was asked, and the same chance gives the same change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kws_imagebind.training.supervised.augmentation import augment, background, change_speed, mask, shift
from kws_imagebind.training.supervised.recipes import NOTHING, Augmentation, TrainingError, customised, recipe_of


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_chance_gives_the_same_clips() -> None:
    clips, noise = torch.randn(8, 1_600), torch.randn(5_000)
    everything = Augmentation(speed=0.1, frequency_mask=5, time_mask=9)
    one, two, other = (augment(clips, everything, 16_000, noise, chance(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other) and one.shape == clips.shape


def test_nothing_changes_nothing() -> None:
    clips = torch.randn(3, 1_600)
    assert torch.equal(augment(clips, NOTHING, 16_000, torch.randn(5_000), chance()), clips)
    pictures = torch.randn(3, 1, 40, 98)
    assert torch.equal(mask(pictures, NOTHING, chance()), pictures)


def test_a_shift_moves_a_click_by_no_more_than_asked() -> None:
    clicks = torch.zeros(400, 1_001)
    clicks[:, 500] = 1
    moved = shift(clicks, 100, chance())
    places = moved.argmax(1) - 500
    assert moved.sum(1).unique().tolist() == [1.0]
    assert int(places.min()) >= -100 and int(places.max()) <= 100 and places.unique().numel() > 100


def test_a_shift_fills_with_silence() -> None:
    moved = shift(torch.ones(50, 100), 30, chance())
    lengths = moved.sum(1)
    assert set(moved.unique().tolist()) <= {0.0, 1.0} and 70 <= float(lengths.min()) < 100


def test_noise_comes_as_often_and_as_loud_as_asked() -> None:
    added = background(torch.zeros(4_000, 50), torch.ones(500), Augmentation(noise=0.8, loudest_noise=0.1), chance())
    heard = added.amax(1) > 0
    assert float(heard.float().mean()) == pytest.approx(0.8, abs=0.02)
    loud = added.amax(1)[heard]
    assert float(loud.max()) <= 0.1 and float(loud.mean()) == pytest.approx(0.05, abs=0.003)


def test_speed_moves_a_tone_by_no_more_than_asked() -> None:
    time = torch.arange(16_000) / 16_000
    tones = torch.sin(2 * torch.pi * 1_000 * time).expand(40, -1)
    changed = change_speed(tones, 0.1, chance())
    peaks = np.abs(np.fft.rfft(changed.numpy() * np.hanning(16_000))).argmax(1)
    assert changed.shape == tones.shape and peaks.min() >= 895 and peaks.max() <= 1_105 and len(set(peaks)) == 5


def test_masks_hide_whole_bands_and_frames_and_no_more_than_asked() -> None:
    pictures = torch.ones(300, 1, 40, 98)
    found = mask(pictures, Augmentation(frequency_mask=5, time_mask=20, masks=2), chance())
    bands = (found.sum((1, 3)) == 0).sum(1)
    frames = (found.sum((1, 2)) == 0).sum(1)
    assert int(bands.max()) <= 10 and int(bands.max()) > 5 and int(frames.max()) <= 40 and int(frames.max()) > 20
    shown = (found[:, 0] > 0).sum((1, 2))
    assert torch.equal(shown, (40 - bands) * (98 - frames))


def test_recipes_are_the_published_ones() -> None:
    eight, one = recipe_of("bc-resnet:8"), recipe_of("bc-resnet:1")
    assert (eight.epochs, eight.batch, eight.optimiser, eight.rate, eight.warmup) == (200, 100, "sgd", 0.1, 5.0)
    assert (eight.momentum, eight.decay, eight.schedule, eight.front_end.mels) == (0.9, 1e-3, "cosine", 40)
    assert (eight.augmentation.shift, eight.augmentation.noise) == (0.1, 0.8)
    assert eight.augmentation.frequency_mask == 7 and one.augmentation.frequency_mask == 0
    seed = recipe_of("residual")
    assert (seed.optimiser, seed.rate, seed.epochs) == ("adam", 4e-3, 15)


def test_choices_that_make_no_sense_get_a_sentence() -> None:
    for choice, message in (
        ({"rate": -1.0}, "a rate above 0"),
        ({"speed": 2.0}, "a speed of 2"),
        ({"mels": 400}, "400 mel bands; expected 16 to 128"),
        ({"mels": 40, "front_end": "stft"}, "--mels 40 is for log-mels; leave it out with --front-end stft"),
        ({"batch": 1}, "2 clips in"),
        ({"balance": "some"}, "unknown balance 'some'; available: none, weights, sampling"),
    ):
        with pytest.raises(TrainingError, match=message):
            customised(recipe_of("residual"), **choice)  # type: ignore[arg-type]
    assert customised(recipe_of("residual"), front_end="stft").front_end.shape == (129, 124)
    assert customised(recipe_of("residual"), mels=32).front_end == replace(recipe_of("residual").front_end, mels=32)
    assert customised(recipe_of("residual"), augmented=False).augmentation == NOTHING
