"""ImageBind's data helpers under their own names, for notebooks written for it.

Parameters, defaults, shapes and numbers are the reference's, without its dependencies. The work is done in
`kws_imagebind`; here are the quirks. Beside them stand the Speech Commands helpers of the notebook that this project
began as, with their draws seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kws_imagebind.audio.files import load_channels
from kws_imagebind.audio.mel import MelConfig
from kws_imagebind.audio.resample import resample
from kws_imagebind.datasets.waveforms import SilenceDataset, SpeechCommands, UnknownDataset
from kws_imagebind.encoders.imagebind import frontend
from kws_imagebind.encoders.imagebind.tokenizer import tokenize
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS

__all__ = [
    "CLASSES",
    "CLASS_TO_IDX",
    "IDX_TO_CLASS",
    "ClipInfo",
    "ConstantClipsPerVideoSampler",
    "SilenceDataset",
    "SpeechCommands",
    "UnknownDataset",
    "get_clip_timepoints",
    "load_and_transform_audio_data",
    "load_and_transform_text",
    "load_and_transform_video_data",
    "load_and_transform_vision_data",
    "waveform2melspec",
]

CLASSES = ["silence", "unknown", *SPEECH_COMMANDS_WORDS]
CLASS_TO_IDX = {name: index for index, name in enumerate(CLASSES)}
IDX_TO_CLASS = dict(enumerate(CLASSES))


def load_and_transform_text(text: Sequence[str] | None, device: torch.device | str) -> Tensor | None:
    """Texts as tokens: (n, 77) int64 on the device."""
    return None if text is None else tokenize(text).to(device)


def load_and_transform_vision_data(image_paths: Sequence[str] | None, device: torch.device | str) -> Tensor | None:
    """Image files as pixels: (n, 3, 224, 224) float32 on the device."""
    if image_paths is None:
        return None
    return torch.stack([frontend.load_image(path) for path in image_paths]).to(device)


def load_and_transform_audio_data(
    audio_paths: Sequence[str] | None,
    device: torch.device | str,
    num_mel_bins: int = 128,
    target_length: int = 204,
    sample_rate: int = 16000,
    clip_duration: float = 2,
    clips_per_video: int = 3,
    mean: float = -4.268,
    std: float = 9.138,
) -> Tensor | None:
    """Recordings as normalised log-mels: (n, clips_per_video, 1, num_mel_bins, target_length) float32 on the device.

    Only the first channel is heard. The windows of a recording no longer than `clip_duration` are all the same.
    """
    if audio_paths is None:
        return None
    config = _mel_config(sample_rate, num_mel_bins)
    recordings = []
    for path in audio_paths:
        channels, file_rate = load_channels(path)
        channels = resample(channels, file_rate, sample_rate)
        windows = frontend.cut_windows(channels, sample_rate, clip_duration, clips_per_video)
        mel = frontend.normalise(frontend.mel_images(windows, config, target_length), mean, std)
        recordings.append(mel.expand(clips_per_video, -1, -1, -1))
    return torch.stack(recordings).to(device)


def load_and_transform_video_data(*_: Any, **__: Any) -> Tensor:
    """Not here: keyword spotting needs no video.

    Raises:
        NotImplementedError: says what to use.
    """
    raise NotImplementedError(
        "this project decodes no video; save single frames as images for load_and_transform_vision_data, "
        "and the sound track as a WAV file for load_and_transform_audio_data"
    )


def waveform2melspec(waveform: Tensor, sample_rate: int, num_mel_bins: int, target_length: int) -> Tensor:
    """The log-mel of a waveform's first channel, cut or zero-padded, not normalised.

    As in the reference, `waveform` itself loses its mean: slices of one recording that overlap change each other.

    Args:
        waveform: (channels, samples); changed in place.
        sample_rate: in hertz.
        num_mel_bins: rows of the result.
        target_length: columns of the result, 10 ms each.

    Returns:
        (1, num_mel_bins, target_length) float32.
    """
    waveform -= waveform.mean()
    return frontend.mel_images([waveform[0]], _mel_config(sample_rate, num_mel_bins), target_length)[0]


def _mel_config(sample_rate: int, mels: int) -> MelConfig:
    return MelConfig(
        sample_rate=sample_rate,
        mels=mels,
        window=int(sample_rate * 0.025),
        hop=int(sample_rate * 0.010),
        high=sample_rate / 2,
    )


class ClipInfo(NamedTuple):
    """One clip of a recording, as the samplers of pytorchvideo describe it."""

    clip_start_sec: Fraction
    clip_end_sec: Fraction
    clip_index: int
    aug_index: int
    is_last_clip: bool


class ConstantClipsPerVideoSampler:
    """Stands in for pytorchvideo's sampler of that name: clips of one length, spread evenly."""

    def __init__(self, clip_duration: float, clips_per_video: int):
        self.clip_duration, self.clips_per_video = clip_duration, clips_per_video
        self._index = 0

    def __call__(self, last_clip_time: float | None, video_duration: float, annotation: Any = None) -> ClipInfo:
        times = frontend.window_times(video_duration, self.clip_duration, self.clips_per_video)
        start, end = times[self._index]
        clip = ClipInfo(start, end, self._index, 0, self._index == len(times) - 1)
        self._index = (self._index + 1) % len(times)
        return clip


def get_clip_timepoints(clip_sampler: Callable[..., Any], duration: float) -> list[tuple[Fraction, Fraction]]:
    """Start and end in seconds of every clip a sampler takes from a recording of `duration` seconds."""
    times: list[tuple[Fraction, Fraction]] = []
    is_last, end = False, Fraction(0)
    while not is_last:
        start, end, _, _, is_last = clip_sampler(end, duration, annotation=None)
        times.append((start, end))
    return times
