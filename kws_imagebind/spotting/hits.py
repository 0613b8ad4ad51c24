"""From scores of windows to hits in time, one window after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.encoders import EncoderError
from kws_imagebind.encoders.confidence import THRESHOLD
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.enrolment import thresholds_of
from kws_imagebind.spotting.windows import FRAME, HOP, Loudness, stretch

APART = 0.5  # s between the middles of two words that follow each other
LONGEST_WAIT = 5.0  # s
REACH = 0.25  # s from a window's middle to a word's loudest frame
EDGE = 25.0  # dB below a word's loudest frame, where it begins and ends
GAP = 8  # frames of less that do not end a word: the closure of a stop

Threshold = float | Mapping[str, float]


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

    @property
    def time(self) -> float:
        """Seconds from the beginning to the word's middle."""
        return (self.start + self.end) / 2


def thresholds(threshold: Threshold | None, readout: Readout) -> dict[str, float]:
    """The least score of each word: one number for all, or one for some and for the others their own.

    A word's own is what an enrolment says, or else `THRESHOLD`.

    Raises:
        EncoderError: a number is not from 0 to 1, or a word is not in the list.
    """
    some = threshold if isinstance(threshold, Mapping) else {}
    least = thresholds_of(readout, None if isinstance(threshold, Mapping) else threshold)
    for word in some:
        if word not in least:
            raise EncoderError(f"threshold for '{word}', which is not among the words: {', '.join(least)}")
    least.update(some)
    for value in least.values():
        if not 0 <= value <= 1:
            raise EncoderError(f"threshold {value}; expected a number from 0 to 1, such as {THRESHOLD}")
    return least


class Decider:
    """Takes what each window of a stream scores, in order; gives the hits.

    A window is a hit where its best word reaches its threshold, no window within `patience` scores more, and the last
    hit lies further back than `refractory`. A hit that lies mostly on the one before goes as well.

    Args:
        labels: of the words.
        least: the least score, or that of each word.
        window: seconds; no hit is longer.
        patience: seconds that a better score is waited for.
        refractory: seconds after a hit without another one.

    Raises:
        EncoderError: a number is out of its range.
    """

    def __init__(
        self,
        labels: Sequence[str],
        least: Threshold,
        window: float,
        patience: float = APART,
        refractory: float = APART,
    ) -> None:
        for name, seconds in (("patience", patience), ("refractory", refractory)):
            if not 0 <= seconds <= (LONGEST_WAIT if name == "patience" else float("inf")):
                raise EncoderError(f"{name} of {seconds} s; expected 0 to {LONGEST_WAIT:g} s, such as {APART}")
        self._labels, self._window = tuple(labels), window
        each = least if isinstance(least, Mapping) else dict.fromkeys(labels, least)
        # A score of 0 says that there was nothing to hear.
        self._least = [max(float(each[label]), 1e-9) for label in labels]
        self._patience, self._refractory = round(patience / HOP), round(refractory / HOP)
        self.reset()

    def reset(self) -> None:
        """The next window is the first of another stream."""
        self._next = 0  # window to decide
        self._ahead: deque[tuple[int, float]] = deque()  # word and score of it and those after it
        self._before: deque[float] = deque(maxlen=self._patience)
        self._fired: int | None = None  # window of the last hit
        self._last: Hit | None = None

    def add(self, words: NDArray[np.intp], scores: NDArray[np.float64], loudness: Loudness) -> list[Hit]:
        """What is decided with the windows that follow: (n,) best words and scores.

        Args:
            words: (n,) numbers of the best words.
            scores: (n,) from 0 to 1.
            loudness: of the stream, around the windows that are decided.
        """
        self._ahead.extend(zip(words.tolist(), scores.tolist(), strict=True))
        return self._decide(self._patience, loudness)

    def finish(self, loudness: Loudness) -> list[Hit]:
        """What is decided when no window follows."""
        return self._decide(0, loudness)

    def _decide(self, waiting: int, loudness: Loudness) -> list[Hit]:
        hits = []
        while len(self._ahead) > waiting:
            word, score = self._ahead[0]
            if score >= self._least[word] and self._is_best(score) and (hit := self._hit(word, score, loudness)):
                self._fired, self._last = self._next, hit
                hits.append(hit)
            self._before.append(score)
            self._ahead.popleft()
            self._next += 1
        return hits

    def _is_best(self, score: float) -> bool:
        after = [other for _, other in list(self._ahead)[1 : self._patience + 1]]
        rested = self._fired is None or self._next - self._fired > self._refractory
        return rested and all(other < score for other in self._before) and all(other <= score for other in after)

    def _hit(self, word: int, score: float, loudness: Loudness) -> Hit | None:
        start, end = extent(loudness, self._next * HOP, self._window)
        if self._last and _overlap(self._last, start, end) > 0.5:
            return None
        return Hit(self._labels[word], start, end, score)


def extent(loudness: Loudness, middle: float, window: float) -> tuple[float, float]:
    """Where the sound around a window's middle begins and ends, in seconds; it lies within the window."""
    frames, known = loudness.frames, loudness.first
    first, last = (round(max(0.0, middle + side * window / 2) / FRAME) for side in (-1, 1))
    first = max(first, known)
    frames = frames[first - known : last - known]
    if not len(frames):
        end = (known + len(loudness.frames)) * FRAME
        return max(0.0, middle - window / 2), min(end, middle + window / 2)
    centre = min(max(0, round(middle / FRAME) - first), len(frames) - 1)
    near = slice(max(0, centre - round(REACH / FRAME)), centre + round(REACH / FRAME) + 1)
    loudest = near.start + int(frames[near].argmax())
    start, end = stretch(np.flatnonzero(frames > frames[loudest] - EDGE), loudest, GAP)
    return (first + start) * FRAME, (first + end + 1) * FRAME


def _overlap(hit: Hit, start: float, end: float) -> float:
    """The share of the shorter one that two stretches have in common."""
    common = min(hit.end, end) - max(hit.start, start)
    return max(0.0, common) / max(min(hit.end - hit.start, end - start), FRAME)


def one_threshold(thresholds: Mapping[str, float]) -> float | None:
    """The threshold that all words share.

    >>> one_threshold({"yes": 0.5, "no": 0.5}), one_threshold({"yes": 0.5, "no": 0.8})
    (0.5, None)
    """
    values = set(thresholds.values())
    return values.pop() if len(values) == 1 else None
