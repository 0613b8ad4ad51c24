"""Listening to a stream: blocks of sound go in, hits come out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.audio.resample import Resampler
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.encoders import Encoder, as_encoder
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.enrolment import Words
from kws_imagebind.spotting.hits import APART, Decider, Hit, Threshold, thresholds
from kws_imagebind.spotting.judge import Judge
from kws_imagebind.spotting.windows import BATCH, HOP, Loudness

REMEMBERED = 20.0  # s of loudness around the words that are waited for

Block = Tensor | NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int16]


class Listener:
    """Finds words in a stream, whatever the size of the blocks in which it comes.

    A hit comes out 0.7 s after the word's middle and `patience`. Some seconds of the stream are in memory.

    >>> import soundfile
    >>> samples, rate = soundfile.read("sample/left/04098292_nohash_0.wav", dtype="float32")
    >>> listener = Listener(["left", "right"])
    >>> hits = [hit for block in np.array_split(samples, 10) for hit in listener.hear(block, rate)] + listener.finish()
    >>> [hit.word for hit in hits]
    ['left']

    Args:
        words: labels, or 'label=/ARPAbet/'; a list, or a text such as 'umbrella,kettle'; enrolled words or their file
            .kws; or a read-out.
        threshold: the least score of a hit, from 0 to 1; or one for each word. By default 0.5, or each enrolled word's
            own.
        patience: seconds that a better score is waited for before a hit is given.
        refractory: seconds after a hit in which there is no other.
        encoder: an encoder or its name; the bundled PhoneBind by default.

    Raises:
        EncoderError: the encoder has no window, what its scores are worth is not known, or a number is out of range.
        KeywordError, PronunciationError: a word cannot be used.
    """

    def __init__(
        self,
        words: Words | Readout | os.PathLike[str],
        threshold: Threshold | None = None,
        patience: float = APART,
        refractory: float = APART,
        encoder: Encoder | str | None = None,
    ) -> None:
        self._start(Judge(as_encoder(encoder), words), threshold, patience, refractory)

    @classmethod
    def of(
        cls, judge: Judge, threshold: Threshold | None = None, patience: float = APART, refractory: float = APART
    ) -> Listener:
        """A listener with words that were encoded before."""
        listener = cls.__new__(cls)
        listener._start(judge, threshold, patience, refractory)
        return listener

    def _start(self, judge: Judge, threshold: Threshold | None, patience: float, refractory: float) -> None:
        self.labels, self.sample_rate = judge.labels, judge.encoder.sample_rate
        self._judge, self._ear = judge, judge.ear()
        least = thresholds(threshold, judge.readout)
        self._decider = Decider(judge.labels, least, judge.window, patience, refractory)
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard: the next block begins another stream, at the time 0."""
        self._ear.reset()
        self._judge.reset()
        self._decider.reset()
        self._loudness = Loudness(self.sample_rate, REMEMBERED)
        self._resampler: Resampler | None = None

    @property
    def seconds(self) -> float:
        """That the stream has lasted."""
        return self._ear.seconds

    @property
    def level(self) -> float:
        """dB of full scale of the loudest of the last ten frames of a hundredth of a second: for a meter."""
        frames = self._loudness.frames[-10:]
        return float(frames.max()) if len(frames) else -np.inf

    def hear(self, block: Block, rate: int | None = None) -> list[Hit]:
        """The hits that became known with a block that follows those before.

        Args:
            block: (samples,) or (samples, channels), floating point in [-1, 1] or int16; of any length.
            rate: its sample rate in hertz, by default the encoder's own.

        Raises:
            AudioError: it is no sound.
        """
        samples, rate = waveform(block), rate or self.sample_rate
        if self._resampler is not None and self._resampler.from_rate != rate:
            before = self._resampler.finish()
            self._resampler = None
            return self._add(before) + self.hear(block, rate)
        if self._resampler is None:
            self._resampler = Resampler(rate, self.sample_rate)
        return self._add(self._resampler.add(samples))

    def finish(self) -> list[Hit]:
        """The hits that remain when the stream has ended. The next block begins another stream."""
        hits = self._add(self._resampler.finish()) if self._resampler else []
        for fits in self._ear.finish():
            hits += self._decider.add(*self._judge(fits), self._loudness)
        hits += self._decider.finish(self._loudness)
        self.reset()
        return hits

    def listen(self, blocks: Iterable[Block], rate: int | None = None) -> Iterator[Hit]:
        """The hits of a whole stream, as they become known."""
        self.reset()
        for block in blocks:
            yield from self.hear(block, rate)
        yield from self.finish()

    def _add(self, samples: Tensor) -> list[Hit]:
        hits: list[Hit] = []
        for part in samples.split(round(BATCH * HOP * self.sample_rate)):
            self._loudness.add(part)
            for fits in self._ear.hear(part):
                hits += self._decider.add(*self._judge(fits), self._loudness)
        return hits


def waveform(block: Block) -> Tensor:
    """A block as (samples,) float32: channels are averaged, and 16 bits scaled to [-1, 1].

    >>> waveform(np.array([[16384, 0], [-32768, 0]], dtype=np.int16))
    tensor([ 0.2500, -0.5000])

    Raises:
        AudioError: it has more than two axes, or holds numbers that are not finite.
    """
    samples = torch.as_tensor(block)
    samples = samples.float() / 32_768 if samples.dtype == torch.int16 else samples.float()
    if samples.ndim == 2:
        samples = samples.mean(1)
    if samples.ndim != 1:
        raise AudioError(f"a block of shape {tuple(samples.shape)}; expected (samples,) or (samples, channels)")
    if not bool(samples.isfinite().all()):
        raise AudioError("a block holds samples that are NaN or infinite; expected sound in [-1, 1]")
    return samples
