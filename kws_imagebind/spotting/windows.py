"""A recording or a stream of any length, heard through a window that slides over it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kws_imagebind.audio.files import stream_audio
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.encoders.base import Encoder, FrameEncoder, WindowEncoder, check_vectors
from kws_imagebind.encoders.confidence import NEAREST
from kws_imagebind.readouts.base import Readout
from kws_imagebind.spotting.spelling import Speller

HOP = 0.1  # s between windows
SMOOTHED = 5  # windows; a word of half a second lies wholly in as many
BATCH = 64  # windows at once
MARGIN = 0.24  # s from the recording's ends; the windows whose middle is nearer to one hear the cut as a sound
FRAME = 0.01  # s: steps in which loudness is kept

UNLIKE = -4.0  # match for each phoneme that silence has with any word, as a sound that is quite another

# Scaling up what is quieter makes a picture of noise, not of a word.
FAINTEST = -80.0  # dB of full scale
FAR_BELOW = 40.0  # dB below the loud parts of the recording
LOUD = 95  # percentile of its windows' levels: its loud parts


@dataclass(frozen=True)
class Fits:
    """What windows that follow each other fit; window i is centred at i times `HOP`.

    Attributes:
        first: the number of the first of them.
        keywords: (windows, keywords) cosines, each the mean of `SMOOTHED` windows around.
        fillers: (windows,) the mean cosine with the `NEAREST` best fillers, smoothed as well.
        spread: (windows,) the standard deviation of the cosines with the fillers, smoothed: noise fits all words alike.
        levels: (windows,) dB of full scale, of the loudest tenth of a second.
        inside: (windows,) whether the middle is so far from the stream's ends that a cut is not heard as a sound.
        apart: (windows,) dB by which the middle is louder than what is before and after it.
        spelled: (windows, keywords) how well the keywords' sounds are heard one after another, smoothed too; 0 is best.
            None where the encoder does not spell.
    """

    first: int
    keywords: Tensor
    fillers: Tensor
    spread: Tensor
    levels: NDArray[np.float32]
    inside: NDArray[np.bool_]
    apart: Tensor
    spelled: Tensor | None

    def __len__(self) -> int:
        return len(self.levels)


@dataclass(frozen=True)
class Heard:
    """What every window of a whole recording fits; window i is centred at i times `HOP`.

    Attributes:
        seconds: that the recording lasts.
        labels: of the keywords.
        keywords: (windows, keywords) cosines, each the mean of `SMOOTHED` windows around.
        fillers: (windows,) the mean cosine with the `NEAREST` best fillers, smoothed as well.
        spread: (windows,) the standard deviation of the cosines with the fillers, smoothed as well.
        spelled: (windows, keywords) how well the keywords' sounds are heard one after another, smoothed too; or None.
        apart: (windows,) dB by which the middle is louder than what is before and after it.
        levels: (windows,) dB of full scale, of the loudest tenth of a second.
        frames: (frames,) dB of full scale, of each `FRAME`.
        words: (windows,) the number of the best keyword.
        scores: (windows,) how sure it is that it was said, from 0 to 1.
    """

    seconds: float
    labels: tuple[str, ...]
    keywords: Tensor
    fillers: Tensor
    spread: Tensor
    spelled: Tensor | None
    apart: Tensor
    levels: NDArray[np.float32]
    frames: NDArray[np.float32]
    words: NDArray[np.intp]
    scores: NDArray[np.float64]

    @property
    def audible(self) -> NDArray[np.bool_]:
        """(windows,) where there is something to hear: not silence, not far below the rest, and not mostly outside."""
        heard = self.levels > FAINTEST
        loud = np.percentile(self.levels[heard], LOUD) if heard.any() else 0.0
        inside = _inside(np.arange(len(self.levels)), self.seconds)
        return heard & inside & (self.levels > loud - FAR_BELOW)


def _inside(windows: NDArray[np.int64], seconds: float) -> NDArray[np.bool_]:
    middles = windows * HOP
    return np.minimum(middles, seconds - middles) > min(MARGIN, seconds / 2 - HOP)


class Ear:
    """Sound goes in, a block at a time; what its windows fit comes out, as soon as it is known.

    That is when a window's last sample is there, and two more windows over which it is smoothed: 0.7 s after its
    middle. A few seconds are in memory, however long the stream. Where an encoder hears frames (`FrameEncoder`), each
    frame is computed once and shared by the windows that it lies in.

    Args:
        encoder: a `WindowEncoder`.
        readout: of the keywords.
        fillers: (fillers, dim) vectors of other words.
        speller: of the keywords, for an encoder that spells.
    """

    def __init__(self, encoder: Encoder, readout: Readout, fillers: Tensor, speller: Speller | None = None) -> None:
        assert isinstance(encoder, WindowEncoder)
        self._encoder, self._readout, self._fillers = encoder, readout, fillers
        self._speller = speller if isinstance(encoder, FrameEncoder) else None
        self.labels, self.sample_rate = tuple(readout.labels), encoder.sample_rate
        self._size, self._hop = round(encoder.window * encoder.sample_rate), round(HOP * encoder.sample_rate)
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard: the next block begins another stream."""
        self.samples = 0  # of the stream so far
        self._given = 0  # windows that were encoded
        self._held = torch.zeros(self._size // 2)  # from the next window's first sample on
        self._mels = _Mels(self._encoder, self._size) if isinstance(self._encoder, FrameEncoder) else None
        if self._mels:
            self._mels.add(self._held)
        self._smoother = _Smoother(len(self.labels) if self._speller else 0)

    @property
    def spells(self) -> bool:
        """Whether it looks at the sounds of the keywords one by one."""
        return self._speller is not None

    @property
    def seconds(self) -> float:
        """That the stream has lasted."""
        return self.samples / self._encoder.sample_rate

    @torch.inference_mode()
    def hear(self, block: Tensor) -> Iterator[Fits]:
        """What becomes known with a waveform (samples,) at the encoder's sample rate."""
        for part in block.split(BATCH * self._hop):
            self.samples += len(part)
            self._add(part)
            ready = (self.samples - (self._size - self._size // 2)) // self._hop + 1
            yield from self._encode(ready - self._given)

    @torch.inference_mode()
    def finish(self) -> Iterator[Fits]:
        """What remains when the stream has ended, as if silence followed."""
        self._add(torch.zeros(self._size + self._hop))
        yield from self._encode(self.samples // self._hop + 1 - self._given)
        yield from self._smoother.finish(self.seconds)

    def _add(self, samples: Tensor) -> None:
        self._held = torch.cat([self._held, samples])
        if self._mels:
            self._mels.add(samples)

    def _encode(self, count: int) -> Iterator[Fits]:
        """The next windows, of which there is the sound."""
        while count > 0:
            windows = self._held.unfold(0, self._size, self._hop)[: min(count, BATCH)]
            mels = self._mels.windows(len(windows), self._hop) if self._mels else None
            yield from self._smoother.add(self._score(windows, mels), self.seconds)
            self._held = self._held[len(windows) * self._hop :].clone()  # and not a view, which would keep it all
            self._given, count = self._given + len(windows), count - len(windows)

    def _score(self, windows: Tensor, mels: Tensor | None) -> _Raw:
        """What single windows fit. Silence fits nothing, and is not encoded."""
        levels = tenths(windows, self._encoder.sample_rate)
        loud = levels.amax(1) > FAINTEST
        spelled = len(self.labels) if self._speller else 0
        scores = torch.zeros(len(windows), len(self.labels) + 2 + spelled)
        if self._speller:
            scores[:, -spelled:] = UNLIKE * self._speller.phonemes
        if loud.any():
            scores[loud] = self._score_loud(windows[loud], mels[loud] if mels is not None else None)
        return _Raw(scores, levels)

    def _score_loud(self, windows: Tensor, mels: Tensor | None) -> Tensor:
        spellings = None
        if isinstance(self._encoder, FrameEncoder) and mels is not None:
            vectors, spellings = self._encoder.encode_mel(mels)
        else:
            vectors = self._encoder.encode_audio(list(windows))
        vectors = check_vectors(vectors, len(windows), self._encoder)
        return columns(vectors, spellings, self._readout, self._fillers, self._speller)


def columns(
    vectors: Tensor, spellings: Tensor | None, readout: Readout, fillers: Tensor, speller: Speller | None
) -> Tensor:
    """What single windows fit: (n, keywords + 2) or, where they are spelled, (n, 2 * keywords + 2).

    The cosines with the keywords, the mean of those with the best fillers, the spread of those with all fillers, and
    how well each keyword is spelled.
    """
    spread = (vectors @ fillers.T).std(1, correction=0, keepdim=True)
    found = [readout(vectors).values, nearest(vectors, fillers)[:, None], spread]
    return torch.cat([*found, speller(spellings)] if speller and spellings is not None else found, 1)


def nearest(vectors: Tensor, fillers: Tensor) -> Tensor:
    """(n, dim) vectors, (fillers, dim) -> (n,): the mean cosine with the `NEAREST` best fillers."""
    return (vectors @ fillers.T).topk(min(NEAREST, len(fillers)), dim=1).values.mean(1)


class _Mels:
    """Frames of a stream, each computed once."""

    def __init__(self, encoder: FrameEncoder, size: int) -> None:
        self._encoder, self._front_end = encoder, encoder.front_end
        self._rest = torch.zeros(0)  # samples that make no whole frame yet, or belong to the next one too
        self._frames = torch.zeros(0, self._front_end.mels)  # from the next window's first on
        self._in_window = self._front_end.frames(size)

    def add(self, samples: Tensor) -> None:
        joined = torch.cat([self._rest, samples])
        ready = self._front_end.frames(len(joined))
        if ready:
            self._frames = torch.cat([self._frames, self._encoder.mel(joined)])
        self._rest = joined[ready * self._front_end.hop :].clone()

    def windows(self, count: int, hop: int) -> Tensor:
        """(count, frames, mels) of the next windows, which are taken from the stream."""
        step = hop // self._front_end.hop
        windows = self._frames.unfold(0, self._in_window, step)[:count].transpose(1, 2)
        self._frames = self._frames[count * step :].clone()
        return windows


@dataclass(frozen=True)
class _Raw:
    """Single windows: (windows, columns) scores as `columns` gives them, and (windows, tenths) their levels."""

    scores: Tensor
    levels: Tensor


class _Smoother:
    """Windows that follow each other -> their running mean, each as soon as the windows after it are there.

    Args:
        spelled: how many of the last columns are of spelling.
    """

    def __init__(self, spelled: int) -> None:
        self._spelled = spelled
        self._held: _Raw | None = None
        self._first = 0  # the number of the first window held
        self._next = 0  # of the next one to give

    def add(self, raw: _Raw, seconds: float) -> Iterator[Fits]:
        if self._held is not None:
            held = self._held
            raw = _Raw(torch.cat([held.scores, raw.scores]), torch.cat([held.levels, raw.levels]))
        self._held = raw
        if seconds < 2 * (MARGIN + HOP):  # a short stream's windows wait for its end: its length says which are inside
            return
        yield from self._give(self._first + len(raw.levels) - SMOOTHED // 2, seconds, ended=False)

    def finish(self, seconds: float) -> Iterator[Fits]:
        if self._held is not None:
            yield from self._give(self._first + len(self._held.levels), seconds, ended=True)

    def _give(self, end: int, seconds: float, ended: bool) -> Iterator[Fits]:
        raw = self._held
        if raw is None or end <= self._next:
            return
        chosen = slice(self._next - self._first, end - self._first)
        means = smooth(raw.scores)[chosen]
        words = means.shape[1] - 2 - self._spelled
        numbers = np.arange(self._next, end)
        # What is known before the end lies half a window or more before it.
        inside = _inside(numbers, seconds) if ended else numbers * HOP > MARGIN
        yield Fits(
            self._next,
            means[:, :words],
            means[:, words],
            means[:, words + 1],
            raw.levels[chosen].amax(1).numpy(),
            inside,
            apart(raw.levels)[chosen],
            means[:, words + 2 :] if self._spelled else None,
        )
        self._next = end
        kept = max(0, end - SMOOTHED // 2 - self._first)
        self._first += kept
        self._held = _Raw(raw.scores[kept:].clone(), raw.levels[kept:].clone())


class Loudness:
    """dB of full scale of each `FRAME` of a stream, of which the last so many stay.

    >>> loudness = Loudness(rate=200, remembered=0.02)
    >>> loudness.add(torch.tensor([0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.1, -0.1]))
    >>> loudness.first, loudness.frames.round().tolist()
    (2, [-200.0, -20.0])

    Args:
        rate: samples a second.
        remembered: seconds to keep; all by default.
    """

    def __init__(self, rate: int, remembered: float | None = None) -> None:
        self.first = 0  # the number of the first frame that is kept
        self._size, self._rest = round(FRAME * rate), torch.zeros(0)
        self._kept = None if remembered is None else round(remembered / FRAME)
        self._levels = _Rows(1)

    def add(self, block: Tensor) -> None:
        joined = torch.cat([self._rest, block])
        whole = len(joined) // self._size * self._size
        if whole:
            self._levels.add(decibels(joined[:whole].view(-1, self._size).var(1, correction=0, keepdim=True)))
        self._rest = joined[whole:].clone()
        if self._kept is not None and len(self._levels) >= 2 * self._kept:
            self.first += self._levels.drop(len(self._levels) - self._kept)

    @classmethod
    def of(cls, frames: NDArray[np.float32]) -> Loudness:
        """The loudness of frames that were measured before."""
        loudness = cls(rate=round(1 / FRAME))
        loudness._levels.add(torch.from_numpy(frames)[:, None])
        return loudness

    @property
    def frames(self) -> NDArray[np.float32]:
        """(frames,) those that are kept."""
        return self._levels.all()[:, 0].numpy()


class _Verdict(Protocol):
    def __call__(self, fits: Fits, /) -> tuple[NDArray[np.intp], NDArray[np.float64]]: ...


def listen(path: str | os.PathLike[str], encoder: Encoder, readout: Readout, fillers: Tensor) -> Heard:
    """A recording through an encoder's window. Of the sound itself, a few seconds are in memory at a time.

    Args:
        path: a recording of any format that `load_audio` reads.
        encoder: a `WindowEncoder`.
        readout: of the keywords.
        fillers: (fillers, dim) vectors of other words.

    Raises:
        AudioError: the recording cannot be used.
    """
    return listen_to(stream_audio(path, encoder.sample_rate), Ear(encoder, readout, fillers))


def listen_to(blocks: Iterable[Tensor], ear: Ear, judge: _Verdict | None = None) -> Heard:
    """What an ear hears of waveforms (samples,) at its sample rate that follow each other.

    Args:
        blocks: the waveforms.
        ear: as new.
        judge: fits -> best words and scores; without one all scores are 0.

    Raises:
        AudioError: they hold no samples.
    """
    loudness, keywords, others = Loudness(ear.sample_rate), _Rows(len(ear.labels)), _Rows(4)
    spelled = _Rows(len(ear.labels)) if ear.spells else None
    judged: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []

    def keep(known: Iterable[Fits]) -> None:
        for fits in known:
            keywords.add(fits.keywords)
            if spelled is not None and fits.spelled is not None:
                spelled.add(fits.spelled)
            others.add(torch.stack([fits.fillers, fits.spread, fits.apart, torch.from_numpy(fits.levels)], 1))
            judged.append(judge(fits) if judge else (np.zeros(len(fits), np.intp), np.zeros(len(fits))))

    for block in blocks:
        loudness.add(block)
        keep(ear.hear(block))
    if not ear.samples:
        raise AudioError("a waveform without any sample; at least a window of sound is expected")
    keep(ear.finish())
    fits, spread, apart, levels = others.all().T
    words, scores = (np.concatenate(column) for column in zip(*judged, strict=True))
    return Heard(
        ear.seconds,
        ear.labels,
        keywords.all(),
        fits,
        spread,
        None if spelled is None else spelled.all(),
        apart,
        levels.numpy(),
        loudness.frames,
        words,
        scores,
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

    def drop(self, count: int) -> int:
        """Forgets the first so many rows; returns how many."""
        self._held[: self._count - count] = self._held[count : self._count].clone()
        self._count -= count
        return count

    def all(self) -> Tensor:
        return self._held[: self._count]

    def __len__(self) -> int:
        return self._count


def level(window: Tensor, rate: int) -> Tensor:
    """dB of full scale, of the loudest tenth of a second; a constant is not a sound."""
    return tenths(window[None], rate).amax(1)[0]


def tenths(windows: Tensor, rate: int) -> Tensor:
    """(n, samples) -> (n, tenths): dB of full scale, of each tenth of a second."""
    tenth = rate // 10
    return decibels(windows.unfold(1, tenth, tenth).var(2))


def apart(levels: Tensor) -> Tensor:
    """(windows, tenths) of windows that follow each other -> (windows,): how far a sound stands out.

    It is the level of the loudest of the four tenths in the middle, above that of the quietest three tenths that follow
    each other, before the middle or after it, whichever is the louder. The `SMOOTHED` windows around are looked at, for
    1.4 s in all where a window is a second; nothing is before the first window or after the last one.
    """
    reach, silence = SMOOTHED // 2, decibels(torch.zeros(()))
    padded = functional.pad(levels, (0, 0, reach, reach), value=float(silence))
    half = levels.shape[1] // 2
    before, after = padded[: len(levels), : half + 1], padded[2 * reach :, -half - 1 :]
    return standing_out(before, levels[:, max(0, half - 2) : half + 2], after)


def standing_out(before: Tensor, middle: Tensor, after: Tensor) -> Tensor:
    """(n, tenths) dB of what is before, of the middle and of what is after -> (n,) dB, as `apart`."""
    quiet = [_mean_power(side).amin(1) for side in (before, after)]
    return middle.amax(1) - torch.maximum(*quiet)


def _mean_power(levels: Tensor) -> Tensor:
    """(n, tenths) -> (n, tenths - 2) or, of fewer than three, (n, 1): the mean of three that follow each other."""
    power = (levels * (math.log(10) / 10)).exp()
    several = min(3, levels.shape[1])
    return decibels(power.unfold(1, several, 1).mean(2))


def decibels(power: Tensor) -> Tensor:
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
