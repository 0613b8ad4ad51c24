"""ImageBind's front end: recordings to normalised log-mels, images to normalised pixels.

The reference takes three windows of two seconds from a recording; takes the mean off each; turns it
into 128 log-mel bands of at most 204 frames; and fills a shorter one up with zeros *in the log-mel*, which is the
level of a fairly loud sound, not of silence (`PADDINGS` has the alternatives).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.audio.mel import MelConfig, log_mel
from kws_imagebind.registry import to_install

MEL = MelConfig()  # Kaldi's own at 16 kHz: 25 ms Hann windows, 10 ms hop, 128 bands
FRAMES = 204  # of the audio tower's input: 2 s are 198 frames, the rest is padding
MEAN, STD = -4.268, 9.138  # of log-mels in the training set
WINDOW_SECONDS = 2
WINDOWS = 3  # of one recording

PADDINGS = ("log-mel", "silence", "repeat", "centre")

IMAGE_SIZE = 224  # pixels
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, red, green and blue
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


def window_times(
    seconds: float, window: float = WINDOW_SECONDS, count: int = WINDOWS
) -> list[tuple[Fraction, Fraction]]:
    """Start and end in seconds of the `count` windows the reference takes from a recording.

    They start at equal steps, but the last one stops short of the end: a recording's final third of what exceeds one
    window is never heard.

    >>> [float(start) for start, _ in window_times(5.0)]
    [0.0, 1.0, 2.0]
    >>> window_times(1.0)[0] == window_times(1.0)[2] == (0, 2)
    True
    """
    # The last start is a float in the reference, and its rounding decides which sample a window begins with.
    last_start = Fraction(max(seconds - Fraction(window), 0))
    step = last_start / count
    return [(step * i, step * i + Fraction(window)) for i in range(count)]


def cut_windows(
    channels: Tensor,
    sample_rate: int = MEL.sample_rate,
    seconds: float = WINDOW_SECONDS,
    count: int = WINDOWS,
) -> list[Tensor]:
    """The windows of one recording, centred: what the reference gives to its filter bank.

    The reference takes the mean (over all channels) off each window in place, then cuts the next from what that left
    behind, so windows that overlap influence each other. So it is here, on a copy.

    Args:
        channels: (channels, samples).
        sample_rate: in hertz.
        seconds: length of a window.
        count: how many.

    Returns:
        The first channel of each window, (samples,). A recording no longer than one window gives a single one, as
        all would be the same.
    """
    channels = channels.clone()
    duration = channels.shape[1] / sample_rate
    times = window_times(duration, seconds, count)
    windows = []
    for start, end in times if duration > seconds else times[:1]:
        window = channels[:, int(start * sample_rate) : int(end * sample_rate)]
        window -= window.mean()
        windows.append(window[0].clone())
    return windows


def pad_window(window: Tensor, padding: str, samples: int = WINDOW_SECONDS * MEL.sample_rate) -> Tensor:
    """A centred window (n,) filled up to `samples` in one of the ways of `PADDINGS`.

    "log-mel" leaves it alone, since the reference pads later; "silence" adds zeros at the end, "centre" on both
    sides; "repeat" says it again.

    >>> pad_window(torch.tensor([1.0, 2.0]), "repeat", 5).tolist()
    [1.0, 2.0, 1.0, 2.0, 1.0]
    >>> pad_window(torch.tensor([1.0, 2.0]), "centre", 5).tolist()
    [0.0, 1.0, 2.0, 0.0, 0.0]
    """
    missing = samples - len(window)
    if missing <= 0 or padding == "log-mel":
        return window
    if padding == "silence":
        return F.pad(window, (0, missing))
    if padding == "centre":
        return F.pad(window, (missing // 2, missing - missing // 2))
    if padding == "repeat":
        return window.repeat(-(-samples // len(window)))[:samples]
    raise ValueError(f"unknown padding '{padding}'; available: {', '.join(PADDINGS)}")


def mel_images(windows: Sequence[Tensor], config: MelConfig = MEL, frames: int = FRAMES) -> Tensor:
    """Log-mels of centred windows, cut or zero-padded to `frames`, not yet normalised.

    Args:
        windows: n waveforms (samples,), which may differ in length.
        config: of the filter bank.
        frames: of each log-mel.

    Returns:
        (n, 1, mels, frames) float32.

    Raises:
        AudioError: a window is shorter than one frame of 25 ms.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, window in enumerate(windows):
        by_length[len(window)].append(i)
    images = windows[0].new_zeros(len(windows), 1, config.mels, frames)
    for indices in by_length.values():
        mel = log_mel(torch.stack([windows[i] for i in indices]), config)[..., :frames]
        images[indices, 0, :, : mel.shape[-1]] = mel
    return images


def normalise(mel: Tensor, mean: float = MEAN, std: float = STD) -> Tensor:
    """Log-mels as the audio tower takes them, in place."""
    return mel.sub_(mean).div_(std)


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """An image file as the vision tower takes it: the middle square, 224 x 224 pixels, CLIP's normalisation.

    Returns:
        (3, 224, 224) float32.

    Raises:
        ModuleNotFoundError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"pictures need Pillow; {to_install('pillow', 'vision')}") from error
    with Image.open(path) as file:
        image = file.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (IMAGE_SIZE * width // short, IMAGE_SIZE * height // short)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - IMAGE_SIZE) / 2) for side in size)
    pixels = np.asarray(image.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)), dtype=np.float32)
    channels = torch.from_numpy(pixels / 255).permute(2, 0, 1)  # (3, 224, 224)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    return ((channels - mean) / std).contiguous()
