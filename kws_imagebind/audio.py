"""Sound: files to waveforms, waveforms to log-mel spectrograms.

A waveform is a float32 tensor in [-1, 1]; a batch of them has the shape (batch, samples).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SECONDS = 600.0  # of one recording; a spoken keyword takes one
MIN_SECONDS = 0.01  # one hop of a spectrogram

MAX_VALUES = 60_000_000  # of all channels: ten minutes of 48 kHz stereo, 240 MB decoded
LOUDEST = 1e9  # full scale is 1; what is louder than this is no sound

# In libsndfile's log, which also holds the file's name: so only in the lines that tell sizes or complain.
_CUT = re.compile(r"^[\w ]+: (\d+) \(should be (\d+)\)|^\*\*\* .*(?:truncated|does not match)", re.MULTILINE)
_STREAMED = 0x7FFFF000  # bytes; writers that cannot seek back declare about 2 or 4 GB
_UNKNOWN = 2**53  # frames; what libsndfile says of a stream that does not tell its length
_SLACK = 8  # bytes a chunk's size may be off for padding


class AudioError(ValueError):
    """A recording that cannot be used; the message names the file, what is wrong and what would do."""


def load_audio(path: str | os.PathLike[str], sample_rate: int, max_seconds: float = MAX_SECONDS) -> Tensor:
    """A recording as a mono float32 waveform of shape (samples,) at `sample_rate` hertz.

    Any file libsndfile reads will do (WAV of every width, FLAC, Ogg, MP3 and more); channels are averaged.

    Raises:
        AudioError: the file is missing, empty, cut short, no audio, holds NaN, or is too long or too short.
    """
    channels, file_rate = load_channels(path, max_seconds)
    return resample(channels.mean(0), file_rate, sample_rate)


def load_channels(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> tuple[Tensor, int]:
    """A recording as its file holds it: float32 (channels, samples) and the file's sample rate in hertz.

    Raises:
        AudioError: as `load_audio`.
    """
    path = Path(path)
    samples, file_rate = _decode(path, max_seconds)
    bad = samples.size - int(np.count_nonzero(np.abs(samples) < LOUDEST))
    if bad:
        raise AudioError(f"{path}: {bad} of {samples.size} samples are NaN, infinite or absurd; write the file again")
    return torch.from_numpy(samples.T), file_rate


def _decode(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """(frames, channels) float32 and the file's own sample rate, or an AudioError."""
    if not path.is_file():
        kind = "is a folder, not a recording" if path.is_dir() else "there is no such file"
        raise AudioError(f"{path}: {kind}")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        # As bytes, for a file name need not be valid UTF-8.
        with soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path) as file:
            _check_length(path, file, max_seconds)
            declared, file_rate, format, log = file.frames, file.samplerate, file.format, file.extra_info
            samples = file.read(declared, dtype="float32", always_2d=True)
    except AudioError:
        raise
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".").lower()
        raise AudioError(
            f"{path}: cannot be decoded ({reason}); expected WAV, FLAC, Ogg, MP3 or another format libsndfile reads, "
            "whole and undamaged"
        ) from error
    if len(samples) < declared or _is_cut(path, format, log):
        raise AudioError(f"{path}: the file is cut short (its header promises more sound than it holds); copy it again")
    if len(samples) < MIN_SECONDS * file_rate:
        raise AudioError(
            f"{path}: holds {len(samples)} samples; at least {1000 * MIN_SECONDS:.0f} ms of sound are expected"
        )
    return samples, file_rate


def _check_length(path: Path, file: soundfile.SoundFile, max_seconds: float) -> None:
    """Before anything is decoded: a small file can claim to be a very long one."""
    if file.frames > _UNKNOWN:
        raise AudioError(f"{path}: does not tell its length, as a file written through a pipe; save it as a WAV file")
    seconds = file.frames / file.samplerate
    if seconds > max_seconds:
        raise AudioError(f"{path}: lasts {seconds:,.0f} s; a recording of at most {max_seconds:,.0f} s is expected")
    values = file.frames * file.channels
    if values > MAX_VALUES:
        raise AudioError(
            f"{path}: {file.channels} channels at {file.samplerate:,} Hz hold {values / 1e6:,.0f} million samples; "
            f"at most {MAX_VALUES / 1e6:.0f} million are expected"
        )


def _is_cut(path: Path, format: str, log: str) -> bool:
    """libsndfile reads what is there of a truncated file without complaint, so ask what was promised.

    WAV, RF64, W64, AIFF, AU, Ogg and the formats whose decoder notices (FLAC, MP3, CAF) are covered; a few old formats
    carry no length to check.
    """
    for found in _CUT.finditer(log):
        if found[1] is None or int(found[2]) + _SLACK < int(found[1]) < _STREAMED:
            return True
    return format == "OGG" and _ogg_page_is_cut(path)


def _ogg_page_is_cut(path: Path) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, section 6) is not whole or not marked as the stream's last."""
    data = path.read_bytes()
    page = data[max(0, data.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    last = bool(page[5] & 4)
    return not last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """A waveform (..., samples) at another sample rate, by windowed-sinc interpolation (torchaudio's).

    Rates without a small common ratio are met to within two parts in ten thousand, a third of a cent, which no ear and
    no model can tell: the exact ratio 16,000 / 16,001 would need a filter of a gigabyte.
    """
    if from_rate == to_rate:
        return waveform
    ratio = Fraction(to_rate, from_rate).limit_denominator(3000)
    return _resampler(ratio.denominator, ratio.numerator)(waveform)


@lru_cache(maxsize=16)
def _resampler(from_rate: int, to_rate: int) -> Callable[[Tensor], Tensor]:
    """Kept, because its filter takes longer to design than to apply to a second of sound."""
    try:
        from torchaudio.transforms import Resample
    except Exception as error:  # a torchaudio that does not match torch fails with OSError, not ImportError
        raise AudioError(
            f"a recording at another sample rate must be resampled by torchaudio, which cannot be imported ({error}); "
            f"install the release that matches torch {torch.__version__}"
        ) from error
    # A filter designed in float32 is what torchaudio.functional.resample, and so ImageBind, uses.
    return Resample(from_rate, to_rate, dtype=torch.float32)


def fit(waveform: Tensor, samples: int) -> Tensor:
    """A waveform (n,) at exactly `samples` samples: centred in silence, or the loudest stretch of a longer one.

    >>> fit(torch.tensor([1.0, 2.0]), 5).tolist()
    [0.0, 1.0, 2.0, 0.0, 0.0]
    >>> fit(torch.tensor([0.0, 0.0, 3.0, 1.0, 0.0]), 2).tolist()
    [3.0, 1.0]
    """
    missing = samples - waveform.shape[-1]
    if missing >= 0:
        return F.pad(waveform, (missing // 2, missing - missing // 2))
    energy = F.pad(waveform.double().square().cumsum(0), (1, 0))
    start = int((energy[samples:] - energy[:-samples]).argmax())
    return waveform[start : start + samples]


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
