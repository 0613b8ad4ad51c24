"""A recording of any length, heard through a window that slides over it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.audio.files import stream_audio
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.encoders.base import Encoder, WindowEncoder, check_vectors
from kws_imagebind.encoders.confidence import NEAREST
from kws_imagebind.readouts.base import Readout

HOP = 0.1  # s between windows
SMOOTHED = 5  # windows; a word of half a second lies wholly in as many
BATCH = 64  # windows at once
MARGIN = 0.24  # s from the recording's ends; the windows whose middle is nearer to one hear the cut as a sound
FRAME = 0.01  # s: steps in which loudness is kept

# Scaling up what is quieter makes a picture of noise, not of a word.
FAINTEST = -80.0  # dB of full scale
FAR_BELOW = 40.0  # dB below the loud parts of the recording
LOUD = 95  # percentile of its windows' levels: its loud parts


@dataclass(frozen=True)
class Heard:
    """What every window of a recording fits; window i is centred at i times `HOP`.

    Attributes:
        seconds: that the recording lasts.
        labels: of the keywords.
        keywords: (windows, keywords) cosines, each the mean of `SMOOTHED` windows around.
        fillers: (windows,) the mean cosine with the `NEAREST` best fillers, smoothed as well.
        levels: (windows,) dB of full scale, of the loudest tenth of a second.
        frames: (frames,) dB of full scale, of each `FRAME`.
    """

    seconds: float
    labels: tuple[str, ...]
    keywords: Tensor
    fillers: Tensor
    levels: NDArray[np.float32]
    frames: NDArray[np.float32]

    @property
    def audible(self) -> NDArray[np.bool_]:
        """(windows,) where there is something to hear: not silence, not far below the rest, and not mostly outside."""
        heard = self.levels > FAINTEST
        loud = np.percentile(self.levels[heard], LOUD) if heard.any() else 0.0
        middles = np.arange(len(self.levels)) * HOP
        inside = np.minimum(middles, self.seconds - middles) > min(MARGIN, self.seconds / 2 - HOP)
        return heard & inside & (self.levels > loud - FAR_BELOW)


def listen(path: str | os.PathLike[str], encoder: Encoder, scorer: Readout, fillers: Tensor) -> Heard:
    """A recording through an encoder's window. Of the sound itself, a few seconds are in memory at a time.

    Args:
        path: a recording of any format that `load_audio` reads.
        encoder: a `WindowEncoder`.
        scorer: of the keywords.
        fillers: (fillers, dim) vectors of other words.

    Raises:
        AudioError: the recording cannot be used.
    """
    return listen_to(stream_audio(path, encoder.sample_rate), encoder, scorer, fillers)


@torch.inference_mode()
def listen_to(blocks: Iterable[Tensor], encoder: Encoder, scorer: Readout, fillers: Tensor) -> Heard:
    """As `listen`, of waveforms (samples,) at the encoder's sample rate that follow each other.

    Raises:
        AudioError: they hold no samples.
    """
    assert isinstance(encoder, WindowEncoder)
    rate = encoder.sample_rate
    loudness = _Loudness(round(FRAME * rate))
    keywords, others, levels = _Rows(len(scorer.labels)), _Rows(1), _Rows(1)
    for windows in batches(sliding_windows(loudness.of(blocks), round(encoder.window * rate), round(HOP * rate))):
        scores, fits, loud = _score(windows, encoder, scorer, fillers)
        keywords.add(scores)
        others.add(fits[:, None])
        levels.add(loud[:, None])
    if not loudness.samples:
        raise AudioError("a waveform without any sample; at least a window of sound is expected")
    return Heard(
        loudness.samples / rate,
        scorer.labels,
        _smoothed(keywords.all()),
        _smoothed(others.all())[:, 0],
        levels.all()[:, 0].numpy(),
        loudness.frames(),
    )


class _Rows:
    """Rows (n, width) that are added a few at a time, in one block of memory that doubles when it is full.

    Many small tensors that stay would lie between the large ones of the encoder, which come and go, and keep their
    memory from being used again: 0.2 GB for an hour at 44.1 kHz.
    """

    def __init__(self, width: int) -> None:
        self._held, self._count = torch.empty(1024, width), 0

    def add(self, rows: Tensor) -> None:
        end = self._count + len(rows)
        while end > len(self._held):
            larger = torch.empty(2 * len(self._held), self._held.shape[1])
            larger[: self._count] = self._held[: self._count]
            self._held = larger
        self._held[self._count : end] = rows
        self._count = end

    def all(self) -> Tensor:
        return self._held[: self._count]


def _score(windows: list[Tensor], encoder: Encoder, scorer: Readout, fillers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines with the keywords, with the best fillers, and levels. Silence fits nothing, and is not encoded."""
    levels = torch.stack([level(window, encoder.sample_rate) for window in windows])
    loud = levels > FAINTEST
    keywords, others = torch.zeros(len(windows), len(scorer.labels)), torch.zeros(len(windows))
    if loud.any():
        chosen = [window for window, kept in zip(windows, loud.tolist(), strict=True) if kept]
        vectors = check_vectors(encoder.encode_audio(chosen), len(chosen), encoder)
        keywords[loud] = scorer(vectors).values
        others[loud] = nearest(vectors, fillers)
    return keywords, others, levels


def nearest(vectors: Tensor, fillers: Tensor) -> Tensor:
    """(n, dim) vectors, (fillers, dim) -> (n,): the mean cosine with the `NEAREST` best fillers."""
    return (vectors @ fillers.T).topk(min(NEAREST, len(fillers)), dim=1).values.mean(1)


def level(window: Tensor, rate: int) -> Tensor:
    """dB of full scale, of the loudest tenth of a second; a constant is not a sound."""
    tenths = window[: len(window) // (rate // 10) * (rate // 10)].view(-1, rate // 10)
    return _decibels(tenths.var(1).amax())


def _decibels(power: Tensor) -> Tensor:
    return 10 * power.clamp_min(1e-20).log10()


def sliding_windows(blocks: Iterator[Tensor], size: int, hop: int) -> Iterator[Tensor]:
    """Windows of `size` samples around every `hop`-th sample, silence being before and after the recording."""
    held, samples, given = torch.zeros(size // 2), 0, 0
    for block in blocks:
        held, samples = torch.cat([held, block]), samples + len(block)
        start = 0
        while start + size <= len(held) and given <= samples // hop:
            yield held[start : start + size]
            start, given = start + hop, given + 1
        held = held[start:].clone()  # and not a view, which would keep the whole block
    held = torch.cat([held, torch.zeros(size + hop)])
    for start in range(0, (samples // hop + 1 - given) * hop, hop):
        yield held[start : start + size]


def batches(windows: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    batch: list[Tensor] = []
    for window in windows:
        batch.append(window)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def smooth(values: Tensor) -> Tensor:
    """(windows, n) -> (windows, n): the mean of `SMOOTHED` windows around each, of fewer at the ends.

    >>> smooth(torch.tensor([[0.0], [0.0], [5.0], [0.0], [0.0], [0.0]]))[:, 0].tolist()
    [1.6666666269302368, 1.25, 1.0, 1.0, 1.25, 0.0]
    """
    sums = torch.cat([torch.zeros(1, values.shape[1], dtype=torch.float64), values.double().cumsum(0)])
    place = torch.arange(len(values))
    start, end = (place - SMOOTHED // 2).clamp_min(0), (place + SMOOTHED // 2 + 1).clamp_max(len(values))
    return ((sums[end] - sums[start]) / (end - start)[:, None]).float()


def _smoothed(values: Tensor) -> Tensor:
    """`smooth` in place, a few columns at a time: in double precision a long list of words takes much memory."""
    for columns in values.split(16, dim=1):
        columns.copy_(smooth(columns))
    return values


def stretch(on: NDArray[np.intp], place: int, gap: int) -> tuple[int, int]:
    """The first and last of the rising numbers `on` without a gap of more than `gap` between them and `place`.

    >>> stretch(np.array([1, 2, 9, 10, 12, 20]), place=10, gap=3)
    (9, 12)
    """
    own = int(np.searchsorted(on, place))
    breaks = np.flatnonzero(np.diff(on) > gap)  # between on[i] and on[i + 1]
    start = on[breaks[breaks < own].max() + 1] if (breaks < own).any() else on[0]
    end = on[breaks[breaks >= own].min()] if (breaks >= own).any() else on[-1]
    return int(start), int(end)


class _Loudness:
    """Counts and measures what passes."""

    def __init__(self, size: int) -> None:
        self.samples = 0
        self._size, self._rest = size, torch.zeros(0)
        self._levels = _Rows(1)

    def of(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            self.samples += len(block)
            joined = torch.cat([self._rest, block])
            whole = len(joined) // self._size * self._size
            if whole:
                self._levels.add(_decibels(joined[:whole].view(-1, self._size).var(1, keepdim=True)))
            self._rest = joined[whole:].clone()
            yield block

    def frames(self) -> NDArray[np.float32]:
        return self._levels.all()[:, 0].numpy()
