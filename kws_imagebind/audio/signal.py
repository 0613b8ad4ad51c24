"""Waveforms: float32 tensors in [-1, 1] of shape (samples,), a batch of them (batch, samples)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SILENCE = 1e-5  # of full scale, a third of the smallest step of 16 bits


class AudioError(ValueError):
    """A recording that cannot be used; the message names the file, what is wrong and the remedy."""


def is_silent(waveform: Tensor) -> bool:
    """Whether a waveform (samples,) is digital silence: all its samples are the same.

    >>> import torch
    >>> is_silent(torch.zeros(16_000)), is_silent(torch.tensor([0.0, 1 / 32_768]))
    (True, False)
    """
    return float(waveform.max() - waveform.min()) < SILENCE


def fit(waveform: Tensor, samples: int) -> Tensor:
    """A waveform (n,) at exactly `samples` samples: centred in silence, or the loudest stretch of a longer one.

    >>> import torch
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
