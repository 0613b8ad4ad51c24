"""A recording and a list of words: where in it are they said?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.encoders import Encoder, EncoderError, load_encoder
from kws_imagebind.encoders.base import WindowEncoder
from kws_imagebind.encoders.confidence import THRESHOLD, Confidence
from kws_imagebind.readouts.enrolment import Enrolment, Words, thresholds_of, word_scorer
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.windows import FRAME, HOP, Heard, listen, listen_to, stretch

APART = 0.5  # s between the middles of two words that follow each other
REACH = 0.25  # s from a window's middle to a word's loudest frame
EDGE = 25.0  # dB below a word's loudest frame, where it begins and ends
GAP = 8  # frames of less that do not end a word: the closure of a stop


@dataclass(frozen=True)
class Hit:
    """A word that was heard in a recording.

    Attributes:
        word: its label.
        start: seconds from the recording's beginning.
        end: seconds.
        score: how sure it is, from 0 to 1.
    """

    word: str
    start: float
    end: float
    score: float


def detect(
    path: str | os.PathLike[str],
    words: Words | Enrolment | os.PathLike[str],
    encoder: Encoder | None = None,
    threshold: float | None = None,
) -> list[Hit]:
    """The words that are said in a recording, in the order of their times.

    Windows of a second, a tenth of a second apart, slide over the recording, which may last for hours: little of it is
    in memory at a time. Where neighbouring windows agree on a word, and fit it better than words that are none of the
    keywords, there is a hit; of two that overlap the better one stays. Silence holds no word, nor does what is 40 dB
    below the loud parts of the recording.

    Args:
        path: a recording of any format that `load_audio` reads.
        words: labels, or 'label=/ARPAbet/'; a list, or a text such as 'yes,no'. Or enrolled words, or their file .kws.
        encoder: the bundled PhoneBind by default.
        threshold: the least score of a hit, from 0 to 1. A higher one has fewer false alarms and misses more words. By
            default 0.5, or each enrolled word's own.

    Raises:
        AudioError: the recording cannot be used.
        EncoderError: the encoder has no window, what its scores are worth is not known, or the threshold is not
            from 0 to 1.
        KeywordError, PronunciationError: a word cannot be used.
        EnrolmentError: enrolled words are of another encoder, or their file is damaged.
    """
    encoder = encoder or load_encoder("phonebind")
    return Detector(encoder, word_scorer(encoder, words), threshold)(path)


class Detector:
    """As `detect`, with the prompts of words and fillers encoded before: for many recordings of the same words.

    Args:
        encoder: a `WindowEncoder`.
        scorer: of the words.
        threshold: the least score of a hit; by default each word's own.

    Raises:
        EncoderError: as `detect`.
    """

    def __init__(
        self, encoder: Encoder, scorer: ZeroShotClassifier | Enrolment, threshold: float | None = None
    ) -> None:
        if not isinstance(encoder, WindowEncoder):
            raise EncoderError(f"encoder '{encoder.name}' does not find where in a recording a word is; phonebind does")
        if threshold is not None and not 0 <= threshold <= 1:
            raise EncoderError(f"threshold {threshold}; expected a number from 0 to 1, such as {THRESHOLD}")
        self.thresholds = thresholds_of(scorer, threshold)
        self._encoder, self._scorer, self._window = encoder, scorer, encoder.window
        self._confidence = encoder.confidence()
        self._fillers = filler_vectors(encoder, scorer)

    def __call__(self, path: str | os.PathLike[str]) -> list[Hit]:
        """The words said in a recording, in the order of their times."""
        return self.hits(self.listen(path))

    def listen(self, path: str | os.PathLike[str]) -> Heard:
        """What the windows of a recording fit, of which `hits` and `ranked` are readings."""
        return listen(path, self._encoder, self._scorer, self._fillers)

    def listen_to(self, blocks: Iterable[Tensor]) -> Heard:
        """As `listen`, of waveforms (samples,) at the encoder's sample rate that follow each other."""
        return listen_to(blocks, self._encoder, self._scorer, self._fillers)

    def scores(self, heard: Heard) -> NDArray[np.float64]:
        """(windows,) how sure it is that the best keyword was said there; 0 where there is nothing to hear."""
        return window_scores(heard, self._confidence)

    def hits(self, heard: Heard) -> list[Hit]:
        """The words said in what was heard."""
        return find_hits(heard, self._confidence, self.thresholds, self._window)


def find_hits(
    heard: Heard, confidence: Confidence, thresholds: float | Mapping[str, float], window: float
) -> list[Hit]:
    """Hits in the order of their times: where a word scores most, not within `APART` of a better one, nor much over it.

    Args:
        heard: what the windows fit.
        confidence: what that is worth.
        thresholds: the least score of a hit, of all words or of each.
        window: seconds; no hit is longer.
    """
    words, scores = heard.keywords.argmax(dim=1), window_scores(heard, confidence)
    each = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(heard.labels, thresholds)
    least = np.maximum([each[label] for label in heard.labels], 1e-9)[words.numpy()]
    hits: list[Hit] = []
    for place in _peaks(scores, least, round(APART / HOP)):
        start, end = _extent(heard, place * HOP, window)
        if not any(_overlap(hit, start, end) > 0.5 for hit in hits):
            hits.append(Hit(heard.labels[int(words[place])], start, end, float(scores[place])))
    return sorted(hits, key=lambda hit: hit.start)


def window_scores(heard: Heard, confidence: Confidence) -> NDArray[np.float64]:
    """(windows,) what the best keyword's cosine is worth; 0 where there is nothing to hear."""
    return confidence(heard.keywords.amax(1).double(), heard.fillers.double()).numpy() * heard.audible


def _peaks(scores: NDArray[np.float64], least: NDArray[np.float64], apart: int) -> list[int]:
    """Places that reach the `least` score there, the best first, each further than `apart` from a better one."""
    free = np.ones(len(scores), dtype=bool)
    chosen = []
    for place in np.argsort(-scores, kind="stable"):
        if scores[place] < least.min():
            break
        around = slice(max(0, place - apart), place + apart + 1)
        if (
            free[place]
            and scores[place] >= least[place]
            and scores[place] >= scores[max(0, place - 1) : place + 2].max()
        ):
            chosen.append(int(place))
            free[around] = False
    return chosen


def _extent(heard: Heard, middle: float, window: float) -> tuple[float, float]:
    """Where the sound around a window's middle begins and ends, in seconds; it lies within the window."""
    first, last = (round(max(0.0, middle + side * window / 2) / FRAME) for side in (-1, 1))
    frames = heard.frames[first:last]
    if not len(frames):
        return max(0.0, middle - window / 2), min(heard.seconds, middle + window / 2)
    centre = min(round(middle / FRAME) - first, len(frames) - 1)
    near = slice(max(0, centre - round(REACH / FRAME)), centre + round(REACH / FRAME) + 1)
    loudest = near.start + int(frames[near].argmax())
    start, end = stretch(np.flatnonzero(frames > frames[loudest] - EDGE), loudest, GAP)
    return (first + start) * FRAME, min(heard.seconds, (first + end + 1) * FRAME)


def _overlap(hit: Hit, start: float, end: float) -> float:
    """The share of the shorter one that two stretches have in common."""
    common = min(hit.end, end) - max(hit.start, start)
    return max(0.0, common) / max(min(hit.end - hit.start, end - start), FRAME)
