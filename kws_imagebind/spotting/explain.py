"""What was heard around a hit or a miss: for people who wonder why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from kws_imagebind.audio.files import stream_audio
from kws_imagebind.audio.signal import AudioError, fit
from kws_imagebind.encoders.base import Encoder, FrameEncoder
from kws_imagebind.models.phonebind import BLANK
from kws_imagebind.spotting.detect import Detector
from kws_imagebind.spotting.windows import FAINTEST, FAR_BELOW, HOP, Heard
from kws_imagebind.text.phonemes import PHONEMES

AROUND = 0.5  # s to either side of a time that is asked for


@dataclass(frozen=True)
class Explanation:
    """The place where a word fits best, and what was heard there.

    Attributes:
        word: its label.
        time: seconds to the middle of the window.
        score: from 0 to 1; 0 where there was nothing to hear.
        threshold: the least score of a hit.
        cosine: with the word.
        others: the mean cosine with the ten nearest of other words.
        best: the word that scores most there.
        sounds: the phonemes of the window, as the encoder spells them; empty if it does not.
        level: dB of full scale.
        reason: why it is a hit or none.
    """

    word: str
    time: float
    score: float
    threshold: float
    cosine: float
    others: float
    best: str
    sounds: str
    level: float
    reason: str


def explain(
    path: str | os.PathLike[str], encoder: Encoder, detector: Detector, at: float | None = None
) -> list[Explanation]:
    """Where each word of a detector fits a recording best, in the order of the words.

    Args:
        path: a recording of any format that `load_audio` reads.
        encoder: the detector's own.
        detector: of the words.
        at: seconds; only places within half a second are looked at.

    Raises:
        AudioError: the recording cannot be used, or ends before `at`.
    """
    heard = detector.listen(path)
    if at is not None and at > heard.seconds:
        raise AudioError(f"{path}: lasts {heard.seconds:.1f} s, so nothing is heard at {at:g} s; name an earlier time")
    scores = detector.word_scores(heard)
    scores[torch.from_numpy(heard.levels <= FAINTEST)] = 0
    first, last = (0, len(scores)) if at is None else _around(at, len(scores))
    places = [first + int(column.argmax()) for column in scores[first:last].T]
    return list(_told(path, encoder, detector, heard, scores, places))


def _around(seconds: float, windows: int) -> tuple[int, int]:
    middle = min(max(0, round(seconds / HOP)), windows - 1)
    return max(0, middle - round(AROUND / HOP)), min(windows, middle + round(AROUND / HOP) + 1)


def _told(
    path: str | os.PathLike[str], encoder: Encoder, detector: Detector, heard: Heard, scores: Tensor, places: list[int]
) -> Iterator[Explanation]:
    for number, place in enumerate(places):
        best = int(scores[place].argmax())
        audible = heard.scores[place] > 0
        score = float(scores[place, number])
        yield Explanation(
            heard.labels[number],
            place * HOP,
            score if audible else 0.0,
            detector.thresholds[heard.labels[number]],
            float(heard.keywords[place, number]),
            float(heard.fillers[place]),
            heard.labels[best],
            spelled(path, encoder, place * HOP),
            float(heard.levels[place]),
            _reason(heard, place, number, best, score >= detector.thresholds[heard.labels[number]], bool(audible)),
        )


def _reason(heard: Heard, place: int, number: int, best: int, enough: bool, audible: bool) -> str:
    if heard.levels[place] <= FAINTEST:
        return "silence"
    if enough and not audible:
        return f"at the recording's edge, or {FAR_BELOW:g} dB below its loud parts"
    if not enough:
        nearer = heard.fillers[place] > heard.keywords[place, number]
        return "other words fit better" if nearer else "it fits, but not well enough"
    return "a hit" if best == number else f"'{heard.labels[best]}' scores more"


def spelled(path: str | os.PathLike[str], encoder: Encoder, middle: float) -> str:
    """The phonemes that an encoder spells in the window around a time: the likeliest one after another."""
    if not isinstance(encoder, FrameEncoder):
        return ""
    rate, size = encoder.sample_rate, round(encoder.window * encoder.sample_rate)
    start = round(middle * rate) - size // 2
    parts, place = [], 0
    for block in stream_audio(path, rate):
        if place + len(block) > start and place < start + size:
            parts.append(block[max(0, start - place) : start + size - place])
        place += len(block)
        if place >= start + size:
            break
    sound = torch.cat([torch.zeros(max(0, -start)), *parts])
    sound = fit(torch.cat([sound, torch.zeros(size - len(sound))]), size)
    _, spelling = encoder.encode_mel(encoder.mel(sound)[None])
    return " ".join(PHONEMES[symbol - 1] for symbol, _ in groupby(spelling[0].argmax(1).tolist()) if symbol != BLANK)
