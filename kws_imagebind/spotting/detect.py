"""A recording and a list of words: where in it are they said?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.audio.files import stream_audio
from kws_imagebind.encoders import Encoder, as_encoder
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.enrolment import Words
from kws_imagebind.spotting.hits import Decider, Hit, Threshold, thresholds
from kws_imagebind.spotting.judge import LEAST, Judge
from kws_imagebind.spotting.stream import Listener
from kws_imagebind.spotting.windows import HOP, Heard, Loudness, listen_to


def detect(
    path: str | os.PathLike[str],
    words: Words | Readout | os.PathLike[str],
    encoder: Encoder | str | None = None,
    threshold: Threshold | None = None,
) -> list[Hit]:
    """The words that are said in a recording, in the order of their times.

    Windows of a second, a tenth of a second apart, slide over the recording, which may last for hours: little of it is
    in memory at a time. Where neighbouring windows agree on a word, and fit it better than words that are none of the
    keywords, there is a hit; of two that overlap the better one stays. Silence holds no word, nor does what is 40 dB
    below the loud parts of the last minute. A `Listener` does the same with a stream.

    Args:
        path: a recording of any format that `load_audio` reads.
        words: labels, or 'label=/ARPAbet/'; a list, or a text such as 'yes,no'. Or enrolled words, or their file .kws.
        encoder: an encoder or its name; the bundled PhoneBind by default.
        threshold: the least score of a hit, from 0 to 1; or one for each word. A higher one has fewer false alarms and
            misses more words. By default 0.5, or each enrolled word's own.

    Raises:
        AudioError: the recording cannot be used.
        EncoderError: the encoder has no window, what its scores are worth is not known, or the threshold is not
            from 0 to 1.
        KeywordError, PronunciationError: a word cannot be used.
        EnrolmentError: enrolled words are of another encoder, or their file is damaged.
    """
    return Detector(as_encoder(encoder), words, threshold)(path)


class Detector:
    """As `detect`, with the prompts of words and fillers encoded before: for many recordings of the same words.

    Args:
        encoder: a `WindowEncoder`.
        words: as `detect`.
        threshold: the least score of a hit, or one for each word; by default each word's own.

    Attributes:
        thresholds: the least score of each word; they may be changed.

    Raises:
        EncoderError: as `detect`.
    """

    def __init__(
        self, encoder: Encoder, words: Words | Readout | os.PathLike[str], threshold: Threshold | None = None
    ) -> None:
        self._judge = Judge(encoder, words)
        self.thresholds = thresholds(threshold, self._judge.readout)

    def __call__(self, path: str | os.PathLike[str]) -> list[Hit]:
        """The words said in a recording, in the order of their times."""
        listener = Listener.of(self._judge, self.thresholds)
        return list(listener.listen(stream_audio(path, listener.sample_rate)))

    def listen(self, path: str | os.PathLike[str]) -> Heard:
        """What the windows of a recording fit, of which `hits` and `ranked` are readings."""
        return self.listen_to(stream_audio(path, self._judge.encoder.sample_rate))

    def listen_to(self, blocks: Iterable[Tensor]) -> Heard:
        """As `listen`, of waveforms (samples,) at the encoder's sample rate that follow each other."""
        self._judge.reset()
        return listen_to(blocks, self._judge.ear(), self._judge)

    def scores(self, heard: Heard) -> NDArray[np.float64]:
        """(windows,) how sure it is that the best keyword was said there; 0 where there is nothing to hear."""
        return heard.scores

    def word_scores(self, heard: Heard) -> Tensor:
        """(windows, words) how sure it is that each word was said there, wherever there is something to hear."""
        return self._judge.scores(heard)

    def hits(self, heard: Heard) -> list[Hit]:
        """The words said in what was heard."""
        return find_hits(heard, self.thresholds, self._judge.window)

    def rivals(self, heard: Heard, hits: Sequence[Hit]) -> list[list[tuple[str, float]]]:
        """Of each hit the other words that were left out for it: (word, score), the best first.

        Such a word reaches its threshold between the hit's start and end, and has no hit of its own within a window's
        length.

        Args:
            heard: the whole recording.
            hits: those in it.
        """
        scores = self.word_scores(heard).numpy() if hits else np.zeros((0, 0))
        return [self._rivals(heard, hits, hit, scores) for hit in hits]

    def _rivals(
        self, heard: Heard, hits: Sequence[Hit], hit: Hit, scores: NDArray[np.float64]
    ) -> list[tuple[str, float]]:
        windows = np.arange(round(hit.start / HOP), round(hit.end / HOP) + 1)
        windows = windows[(windows < len(scores)) & (heard.scores[windows.clip(max=len(scores) - 1)] > 0)]
        own = {each.word for each in hits if abs(each.time - hit.time) <= self._judge.window}
        best = scores[windows].max(0, initial=0.0)
        found = [(word, float(score)) for word, score in zip(heard.labels, best, strict=True) if word not in own]
        reached = [(word, score) for word, score in found if score >= max(self.thresholds[word], LEAST)]
        return sorted(reached, key=lambda pair: -pair[1])


def find_hits(heard: Heard, threshold: Threshold, window: float) -> list[Hit]:
    """The hits in what was heard of a whole recording, as a `Listener` finds them in a stream.

    Args:
        heard: what the windows fit, judged.
        threshold: the least score of a hit, or one for each word.
        window: seconds; no hit is longer.
    """
    decider, loudness = Decider(heard.labels, threshold, window), Loudness.of(heard.frames)
    return decider.add(heard.words, heard.scores, loudness) + decider.finish(loudness)
