"""Waveforms at another sample rate, by windowed-sinc interpolation (torchaudio's)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from kws_imagebind.audio.signal import AudioError


def resample_blocks(blocks: Iterator[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """As `resample` of all blocks in one, for which each is resampled with some of its neighbours around it."""
    if from_rate == to_rate:
        yield from blocks
        return
    ratio = Fraction(to_rate, from_rate).limit_denominator(3000)
    step, out = ratio.denominator, ratio.numerator  # so many samples become so many
    # The filter reaches six zero crossings of the lower rate to either side.
    margin = step * math.ceil(8 * max(1.0, from_rate / to_rate) / step + 1)
    held, before = torch.zeros(0), 0  # what is not given out yet, after `before` samples that were
    for block in blocks:
        held = torch.cat([held, block])
        ready = (len(held) - before - margin) // step
        if ready < 1:
            continue
        yield resample(held, from_rate, to_rate)[before // step * out : (before // step + ready) * out]
        kept = max(0, before + ready * step - margin)
        held, before = held[kept:], before + ready * step - kept
    if len(held) > before:
        yield resample(held, from_rate, to_rate)[before // step * out :]


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
