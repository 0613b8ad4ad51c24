"""`data.py` and the towers against Meta's own code, where imagebind-unofficial is installed (docs/imagebind.md)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

import data
from tests.golden import formula_weights as formula
from tests.models.test_imagebind import SALT, SHAPES, small_model

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("imagebind") is None, reason="imagebind-unofficial is not installed"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def oracle() -> tuple[ModuleType, ModuleType]:
    from benchmarks.imagebind import reference

    return reference()


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 8_000])
def test_recordings_of_any_length(oracle: tuple[ModuleType, ModuleType], tmp_path: Path, rate: int) -> None:
    generator = np.random.default_rng(rate)
    paths = []
    for i, seconds in enumerate([0.03, 0.5, 1.0, 1.9999, 2.0, 2.0001, 2.7, 3.3, 4.123, 7.77]):
        samples = (
            0.1 * generator.standard_normal((round(seconds * rate), 1 + i % 2)) + 0.02 * generator.standard_normal()
        )
        paths.append(str(tmp_path / f"{i}.wav"))
        soundfile.write(paths[-1], samples, rate, subtype="FLOAT")
    ours = data.load_and_transform_audio_data(paths, "cpu")
    theirs = oracle[0].load_and_transform_audio_data(paths, "cpu")
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=0)
    options = {
        "clip_duration": 1.5,
        "clips_per_video": 4,
        "num_mel_bins": 64,
        "target_length": 120,
        "mean": 0.0,
        "std": 2.0,
    }
    ours = data.load_and_transform_audio_data(paths, "cpu", **options)
    theirs = oracle[0].load_and_transform_audio_data(paths, "cpu", **options)
    assert torch.allclose(ours, theirs, atol=5e-4, rtol=0)  # not divided by 9.138


def test_spectrogram_and_its_effect_on_the_waveform(oracle: tuple[ModuleType, ModuleType]) -> None:
    ours, theirs = torch.rand(2, 20_000, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1)
    mel = data.waveform2melspec(ours, 16_000, 128, 204)
    assert torch.allclose(mel, oracle[0].waveform2melspec(theirs, 16_000, 128, 204), atol=1e-3, rtol=0)
    assert torch.equal(ours, theirs)


def test_times_of_clips(oracle: tuple[ModuleType, ModuleType]) -> None:
    from pytorchvideo.data.clip_sampling import ConstantClipsPerVideoSampler

    for duration in np.random.default_rng(0).uniform(0.1, 20, 200):
        theirs = ConstantClipsPerVideoSampler(clip_duration=2, clips_per_video=3)
        expected = oracle[0].get_clip_timepoints(theirs, duration)
        assert data.get_clip_timepoints(data.ConstantClipsPerVideoSampler(2, 3), duration) == expected
        assert data.get_clip_timepoints(theirs, duration) == expected  # either sampler goes with either helper


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (333, 501), (100, 50), (225, 1000)])
def test_images_of_any_size(oracle: tuple[ModuleType, ModuleType], tmp_path: Path, size: tuple[int, int]) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BOX).save(tmp_path / "image.png")
    ours = data.load_and_transform_vision_data([str(tmp_path / "image.png")], "cpu")
    theirs = oracle[0].load_and_transform_vision_data([str(tmp_path / "image.png")], "cpu")
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_tokens(oracle: tuple[ModuleType, ModuleType]) -> None:
    texts = [
        *formula.TEXTS,
        "I'LL we've",
        "ſtop 'ſ",
        "x²½Ⅷ٣",
        "a\u2028b\x07c",
        "ＦＵＬＬ ﬁ",
        "<|endoftext|> after",
        "a&amp;amp;amp;b",
    ]
    assert torch.equal(data.load_and_transform_text(texts, "cpu"), oracle[0].load_and_transform_text(texts, "cpu"))


def test_small_model(oracle: tuple[ModuleType, ModuleType]) -> None:
    theirs = oracle[1].ImageBindModel(**formula.SMALL_CONFIG).eval()
    everything = formula.state_dict(SALT, SHAPES, ("audio", "text", "vision", "depth", "thermal", "imu"))
    theirs.load_state_dict(everything)
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "audio": torch.randn(2, 3, 1, 128, 204, generator=generator),
        "text": data.load_and_transform_text(["yes", "a person saying no"], "cpu"),
        "vision": torch.randn(2, 3, 224, 224, generator=generator),
    }
    with torch.inference_mode():
        expected, found = theirs(inputs), small_model()(inputs)
        video = {"vision": torch.randn(2, 2, 3, 2, 224, 224, generator=generator)}
        expected["video"], found["video"] = theirs(video)["vision"], small_model()(video)["vision"]
    for modality in expected:
        assert torch.allclose(found[modality], expected[modality], atol=1e-3, rtol=0), modality
