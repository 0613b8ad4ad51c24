"""Waveforms to the spectrograms that trained networks see: log-mel bands, or bins of a Fourier transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from kws_imagebind.audio.mel import MelConfig, log_mel, power_spectrum
from kws_imagebind.audio.signal import AudioError, fit

Kind = Literal["log-mel", "stft"]
FLOOR = 1e-6  # added to a power before its logarithm, in the square of full scale


@dataclass(frozen=True)
class FrontEnd:
    """How a recording becomes the picture that a network sees.

    Attributes:
        kind: "log-mel", or "stft" for the log power of each bin of a short-time Fourier transform.
        sample_rate: in hertz.
        seconds: heard at once; a shorter recording is centred in silence, of a longer one the loudest stretch is taken.
        window: samples of a frame.
        hop: samples from frame to frame.
        mels: bands of "log-mel".
        mean: subtracted from every value; measured on the training clips.
        deviation: that every value is divided by then.
    """

    kind: Kind = "log-mel"
    sample_rate: int = 16_000
    seconds: float = 1.0
    window: int = 480
    hop: int = 160
    mels: int = 40
    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise AudioError(f"unknown front end '{self.kind}'; available: {', '.join(get_args(Kind))}")
        if self.samples < self.window or self.deviation <= 0:
            raise AudioError(f"a front end of {self.samples} samples, window {self.window}, deviation {self.deviation}")

    @property
    def samples(self) -> int:
        """Samples heard at once."""
        return round(self.seconds * self.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        """Frequencies and frames of a spectrogram.

        >>> FrontEnd().shape, FrontEnd("stft", window=256, hop=128).shape
        ((40, 98), (129, 124))
        """
        frames = 1 + (self.samples - self.window) // self.hop
        return (self.mels if self.kind == "log-mel" else self._bands.fft // 2 + 1), frames

    @property
    def _bands(self) -> MelConfig:
        return MelConfig(self.sample_rate, self.mels, self.window, self.hop, preemphasis=0.0)

    def fit(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Waveforms (samples,), each of its own length -> (n, samples)."""
        return torch.stack([fit(waveform, self.samples) for waveform in waveforms])

    def __call__(self, waveforms: Tensor) -> Tensor:
        """(B, samples) -> (B, 1, frequencies, frames), standardised."""
        if self.kind == "log-mel":
            values = log_mel(waveforms, self._bands)
        else:
            values = (power_spectrum(waveforms, self._bands) + FLOOR).log().transpose(1, 2)
        return ((values - self.mean) / self.deviation)[:, None]
