"""Waveforms to log-mel spectrograms, in the manner of Kaldi."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kws_imagebind.audio.signal import AudioError


@dataclass(frozen=True)
class MelConfig:
    """A log-mel front end in the manner of Kaldi's `compute-fbank-feats` (no dither, no energy, snipped edges).

    The defaults are Kaldi's own for 16 kHz speech, with a Hann window.
    """

    sample_rate: int = 16_000  # Hz
    mels: int = 128
    window: int = 400  # samples: 25 ms
    hop: int = 160  # samples: 10 ms
    low: float = 20.0  # Hz, lower edge of the first filter
    high: float = 8_000.0  # Hz, upper edge of the last filter
    preemphasis: float = 0.97

    @property
    def fft(self) -> int:
        """Points of the Fourier transform: the window's length, rounded up to a power of two."""
        return 1 << (self.window - 1).bit_length()

    def frames(self, samples: int) -> int:
        """How many whole windows fit into `samples` samples."""
        return max(0, 1 + (samples - self.window) // self.hop)

    def band(self, hertz: float) -> float:
        """The row of a spectrogram that a frequency lies in, 0 being the centre of the lowest filter.

        >>> round(MelConfig().band(MelConfig().low)), round(MelConfig().band(MelConfig().high))
        (-1, 128)
        """
        low, high = _mel(self.low), _mel(self.high)
        return float((_mel(hertz) - low) / (high - low) * (self.mels + 1) - 1)


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    """O'Shaughnessy's mel scale with Kaldi's constants."""
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * np.expm1(mel / 1127.0)


def _warp_frequency(hertz: np.ndarray, factor: float, nyquist: float) -> np.ndarray:
    """Piecewise-linear vocal-tract warp (Lee & Rose, 1996): `factor` up to a knee, then on to the Nyquist frequency."""
    knee = 0.6 * nyquist * min(1.0, 1.0 / factor)
    slope = (nyquist - factor * knee) / (nyquist - knee)
    return np.where(hertz <= knee, factor * hertz, nyquist - slope * (nyquist - hertz))


@lru_cache(maxsize=128)
def mel_filterbank(config: MelConfig, warp: float = 1.0) -> Tensor:
    """Triangular filters on the mel scale, shape (mels, fft // 2 + 1).

    `warp` moves every filter up in frequency by that factor, so that a vocal tract shorter by it sounds the same.
    """
    nyquist = config.sample_rate / 2
    if not 0 <= config.low < config.high <= nyquist:
        raise ValueError(f"mel filters need 0 <= low < high <= {nyquist:.0f} Hz; got {config.low} to {config.high}")
    edges = np.linspace(_mel(config.low), _mel(config.high), config.mels + 2)
    if warp != 1.0:
        edges = _mel(np.clip(_warp_frequency(_hertz(edges), warp, nyquist), 0.0, nyquist))
    bins = _mel(np.arange(config.fft // 2 + 1) * config.sample_rate / config.fft)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(0)
    filters[:, -1] = 0.0  # Kaldi leaves the Nyquist bin out
    return torch.from_numpy(filters.astype(np.float32))


def power_spectrum(waveforms: Tensor, config: MelConfig) -> Tensor:
    """(batch, samples) -> (batch, frames, fft // 2 + 1): the squared magnitude of each windowed frame."""
    if waveforms.shape[-1] < config.window:
        raise AudioError(
            f"{waveforms.shape[-1]} samples are shorter than one window of {config.window}; pad the waveform first"
        )
    frames = waveforms.unfold(-1, config.window, config.hop)  # (B, frames, window)
    frames = frames - frames.mean(-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)  # Kaldi repeats the first sample
    window = torch.hann_window(config.window, periodic=False, dtype=frames.dtype, device=frames.device)
    spectrum = torch.fft.rfft((frames - config.preemphasis * previous) * window, config.fft)
    return spectrum.real.square() + spectrum.imag.square()


def mel_power(waveforms: Tensor, config: MelConfig) -> Tensor:
    """(batch, samples) -> (batch, mels, frames): the power in each mel band."""
    filters = mel_filterbank(config).to(waveforms.device)
    return (power_spectrum(waveforms, config) @ filters.T).transpose(1, 2)


def log_mel(waveforms: Tensor, config: MelConfig) -> Tensor:
    """(batch, samples) -> (batch, mels, frames): natural logarithm of the mel power, as Kaldi computes it.

    >>> log_mel(torch.zeros(2, 16_000), MelConfig()).shape
    torch.Size([2, 128, 98])
    """
    return mel_power(waveforms, config).clamp_min(torch.finfo(torch.float32).eps).log()
