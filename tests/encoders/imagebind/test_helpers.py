"""`data.py` and the front end against the reference's numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import data
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets.base import DatasetError
from kws_imagebind.encoders.imagebind import frontend
from tests.golden import formula_weights as formula

GOLDEN = Path(__file__).parents[2] / "golden"
SHARED = Path(__file__).parents[4] / "shared" / "golden" / "frontend.npz"
SALT = "public"


# Of normalised log-mels. Quiet bands magnify the rounding of a float32 Fourier transform, which differs between CPUs:
# 2.8e-5 was seen on one, 2.7e-4 on another.
TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("recordings")
    paths = []
    for index in range(len(formula.WAVEFORMS)):
        samples, rate = formula.waveform(SALT, index)
        paths.append(str(folder / f"{index}.wav"))
        soundfile.write(paths[-1], samples.T, rate, subtype="FLOAT")
    return paths


@pytest.fixture(scope="module")
def mels(recordings: list[str]) -> torch.Tensor:
    return data.load_and_transform_audio_data(recordings, "cpu")


def test_audio_has_the_references_shape_and_numbers(mels: torch.Tensor) -> None:
    golden = np.load(GOLDEN / "mels.npz")
    assert mels.shape == (8, 3, 1, 128, 204)
    assert mels.dtype == torch.float32
    for index in map(int, golden["recordings"]):  # 0.37 s; 3.3 s, so windows overlap; 8 kHz; stereo
        expected = torch.from_numpy(golden[f"recording_{index}"])
        found = mels[index, : len(expected), 0, :, : expected.shape[-1]]
        assert torch.allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.skipif(not SHARED.exists(), reason="the full golden file is not here")
def test_audio_is_the_references_for_every_recording(mels: torch.Tensor) -> None:
    expected = torch.from_numpy(np.load(SHARED)["mel"])
    assert torch.allclose(mels, expected, atol=TOLERANCE, rtol=0)


def test_overlapping_windows_influence_each_other() -> None:
    samples, rate = formula.waveform(SALT, 3)
    waveform = torch.from_numpy(samples) + torch.linspace(0, 0.5, samples.shape[1])  # so that windows differ in mean
    second = frontend.cut_windows(waveform)[1]
    start, end = (int(time * rate) for time in frontend.window_times(samples.shape[1] / rate)[1])
    alone = waveform[0, start:end] - waveform[0, start:end].mean()
    assert (second - alone).abs().max() > 0.01


def test_waveform2melspec_takes_the_mean_off_its_argument(mels: torch.Tensor) -> None:
    samples, rate = formula.waveform(SALT, 0)
    waveform = torch.from_numpy(samples)
    mel = data.waveform2melspec(waveform, rate, 128, 204)
    assert mel.shape == (1, 128, 204)
    assert abs(waveform.mean()) < 1e-6
    assert torch.allclose(frontend.normalise(mel), mels[0, 0], atol=1e-4)


def test_cutting_windows_leaves_the_recording_alone() -> None:
    waveform = torch.rand(1, 50_000)
    before = waveform.clone()
    frontend.cut_windows(waveform)
    assert torch.equal(waveform, before)


def test_parameters_reach_the_front_end(recordings: list[str]) -> None:
    mel = data.load_and_transform_audio_data(
        recordings[3:5], "cpu", num_mel_bins=64, target_length=104, clip_duration=1, clips_per_video=2, mean=0, std=2
    )
    assert mel.shape == (2, 2, 1, 64, 104)
    assert torch.equal(mel[..., 98:], torch.zeros(2, 2, 1, 64, 6))  # one second has 98 frames


def test_nothing_gives_nothing() -> None:
    assert data.load_and_transform_text(None, "cpu") is None
    assert data.load_and_transform_audio_data(None, "cpu") is None
    assert data.load_and_transform_vision_data(None, "cpu") is None


def test_text_is_tokens() -> None:
    assert data.load_and_transform_text(["yes", "no"], "cpu").shape == (2, 77)


def test_clip_times_are_the_samplers() -> None:
    sampler = data.ConstantClipsPerVideoSampler(clip_duration=2, clips_per_video=3)
    assert data.get_clip_timepoints(sampler, 11.0) == [(0, 2), (3, 5), (6, 8)]
    assert data.get_clip_timepoints(sampler, 0.5) == [(0, 2)] * 3
    assert all(isinstance(time, Fraction) for pair in data.get_clip_timepoints(sampler, 3.3) for time in pair)


def test_a_recording_below_one_frame_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.zeros(300), 16_000)
    with pytest.raises(AudioError, match="300 samples"):
        data.load_and_transform_audio_data([str(tmp_path / "click.wav")], "cpu")


def test_images_are_cut_square_and_normalised(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((300, 500, 3), np.uint8)
    pixels[:, 100:400] = 255  # the middle square is white
    image.fromarray(pixels).save(tmp_path / "square.png")
    loaded = data.load_and_transform_vision_data([tmp_path / "square.png"], "cpu")
    assert loaded.shape == (1, 3, 224, 224)
    white = (1 - torch.tensor(frontend.IMAGE_MEAN)) / torch.tensor(frontend.IMAGE_STD)
    assert torch.allclose(loaded[0, :, 8:-8, 8:-8], white[:, None, None].expand(3, 208, 208))


def test_video_says_what_to_use() -> None:
    with pytest.raises(NotImplementedError, match="load_and_transform_vision_data"):
        data.load_and_transform_video_data(["film.mp4"], "cpu")


def test_paddings_differ_and_keep_the_sound() -> None:
    window = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    padded = {name: frontend.pad_window(window, name) for name in frontend.PADDINGS}
    assert [len(window) for window in padded.values()] == [16_000, 32_000, 32_000, 32_000]
    assert torch.equal(padded["centre"][8_000:24_000], window)
    assert torch.equal(padded["repeat"][16_000:], window)
    with pytest.raises(ValueError, match="available: log-mel, silence, repeat, centre"):
        frontend.pad_window(window, "reflect")


def test_classes_are_the_notebooks() -> None:
    assert len(data.CLASSES) == 37
    assert data.CLASSES[:3] == ["silence", "unknown", "backward"]
    assert data.CLASSES[2:] == sorted(data.CLASSES[2:])
    assert all(data.IDX_TO_CLASS[data.CLASS_TO_IDX[name]] == name for name in data.CLASSES)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 training clips of two words, one of each other split, and two noises, in the official layout."""
    root = tmp_path_factory.mktemp("data")
    home = root / "SpeechCommands" / "speech_commands_v0.02"
    for number in range(35):
        for word in ("yes", "no"):
            _write(home / word / f"{number:08x}_nohash_1.wav", 0.01 * number)
    _write(home / "yes" / "ffffffff_nohash_0.wav")
    _write(home / "no" / "eeeeeeee_nohash_0.wav")
    (home / "testing_list.txt").write_text("yes/ffffffff_nohash_0.wav\n")
    (home / "validation_list.txt").write_text("no/eeeeeeee_nohash_0.wav\n")
    for name in ("rain", "tap"):
        _write(home / "_background_noise_" / f"{name}.wav", seconds=3)
    return root


def _write(path: Path, offset: float = 0.0, seconds: float = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, offset + np.linspace(0, 0.1, int(16_000 * seconds)), 16_000)


def test_words_come_as_torchaudio_gives_them(corpus: Path) -> None:
    waveform, rate, label, speaker, take = data.SpeechCommands(corpus, "testing")[0]
    assert waveform.shape == (1, 16_000)
    assert (rate, label, speaker, take) == (16_000, "yes", "ffffffff", 0)
    assert len(data.SpeechCommands(corpus, "training")) == 70
    assert len(list(data.SpeechCommands(corpus))) == 72


@pytest.mark.parametrize("kind", [data.SilenceDataset, data.UnknownDataset])
def test_added_classes_are_seeded(corpus: Path, kind: type) -> None:
    def first(seed: int) -> list[torch.Tensor]:
        return [item[0] for item in kind(corpus, seed=seed)]

    assert len(first(0)) == 2  # 70 clips / 35 words
    assert all(torch.equal(a, b) for a, b in zip(first(0), first(0), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first(0), first(1), strict=True))
    assert kind(corpus)[0][2] == kind.__name__.removesuffix("Dataset").lower()
    assert kind(corpus)[1][0].shape == (1, 16_000)


def test_missing_noise_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="_background_noise_"):
        data.SilenceDataset(tmp_path)
