"""Waveforms at another sample rate, by windowed-sinc interpolation (torchaudio's)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from kws_imagebind.audio.signal import AudioError


class Resampler:
    """Blocks that follow each other -> the same stream at another sample rate, as `resample` of all of it in one.

    Each block is resampled with some of its neighbours around it, so that there is no seam.

    >>> resampler = Resampler(48_000, 16_000)
    >>> blocks = [resampler.add(torch.ones(100)) for _ in range(30)]
    >>> sum(len(block) for block in blocks) + len(resampler.finish())
    1000

    Args:
        from_rate: hertz.
        to_rate: hertz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate, self.to_rate = from_rate, to_rate
        ratio = Fraction(to_rate, from_rate).limit_denominator(3000)
        self._step, self._out = ratio.denominator, ratio.numerator  # so many samples become so many
        # The filter reaches six zero crossings of the lower rate to either side.
        self._margin = self._step * math.ceil(8 * max(1.0, from_rate / to_rate) / self._step + 1)
        self._least = from_rate // 20  # samples that are worth resampling: blocks may be very short
        self._new: list[Tensor] = []
        self._held, self._before = torch.zeros(0), 0  # what is not given out yet, after `before` samples that were

    def add(self, block: Tensor) -> Tensor:
        """What is ready with a block (samples,): it may be nothing, or more than the block alone."""
        if self.from_rate == self.to_rate:
            return block
        self._new.append(block)
        if sum(map(len, self._new)) < self._least:
            return torch.zeros(0)
        held, before = self._joined(), self._before
        ready = (len(held) - before - self._margin) // self._step
        if ready < 1:
            return torch.zeros(0)
        given = self._resampled(before // self._step + ready)
        kept = max(0, before + ready * self._step - self._margin)
        self._held, self._before = held[kept:].clone(), before + ready * self._step - kept
        return given

    def finish(self) -> Tensor:
        """The rest of the stream, after which another may begin."""
        given = torch.zeros(0)
        if len(self._joined()) > self._before:
            given = self._resampled(None)
        self._held, self._before = torch.zeros(0), 0
        return given

    def _joined(self) -> Tensor:
        self._held, self._new = torch.cat([self._held, *self._new]), []
        return self._held

    def _resampled(self, end: int | None) -> Tensor:
        stop = None if end is None else end * self._out
        return resample(self._held, self.from_rate, self.to_rate)[self._before // self._step * self._out : stop]


def resample_blocks(blocks: Iterator[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """As `resample` of all blocks in one, for which each is resampled with some of its neighbours around it."""
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        if len(given := resampler.add(block)):
            yield given
    if len(given := resampler.finish()):
        yield given


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
