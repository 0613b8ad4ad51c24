"""Long recordings of known content: clips of single words one after another, with pauses, in background noise.

They tell how well words are found in time, and what a score is worth. Nothing is trained on them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.audio.files import load_audio
from kws_imagebind.datasets import Utterance
from kws_imagebind.spotting.windows import stretch
from kws_imagebind.training.corpora.shards import SAMPLE_RATE

PAUSES = (0.2, 1.2)  # s
NOISE = (20.0, 40.0)  # dB below the words, another level for each recording of noise

_FRAME = 160  # samples: 10 ms
_EDGE = 25.0  # dB below a word's loudest frame
_BRIDGED = 15  # frames of less loudness within a word

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Said:
    """A word in a recording: its label, who says it, and from when to when in seconds."""

    word: str
    speaker: str | None
    start: float
    end: float

    def is_at(self, seconds: float, tolerance: float) -> bool:
        """Whether a time lies within the word, give or take."""
        return self.start - tolerance <= seconds <= self.end + tolerance


@dataclass(frozen=True)
class Soundscape:
    """A recording (samples,) at 16 kHz and every word that is said in it, in the order of their times."""

    samples: Samples
    said: tuple[Said, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def compose(clips: Sequence[Utterance], noises: Sequence[Samples], seed: int = 0) -> Soundscape:
    """The clips in an order by lot, with pauses between them, in noise that changes from recording to recording.

    Args:
        clips: of one word each.
        noises: (samples,) recordings of background noise at 16 kHz; without any the pauses are digital silence.
        seed: of order, pauses and levels.
    """
    rng = random.Random(seed)
    parts: list[Samples] = []
    said: list[Said] = []
    position = 0
    for clip in rng.sample(list(clips), len(clips)):
        word = load_audio(clip.path, SAMPLE_RATE).numpy()
        pause = np.zeros(round(rng.uniform(*PAUSES) * SAMPLE_RATE), np.float32)
        begin = (position + len(pause)) / SAMPLE_RATE
        start, end = extent(word)
        said.append(Said(clip.label, clip.speaker, begin + start, begin + end))
        parts += [pause, word]
        position += len(pause) + len(word)
    speech = np.concatenate(parts)
    return Soundscape(speech + _background(speech, noises, rng), tuple(said))


def _background(speech: Samples, noises: Sequence[Samples], rng: random.Random) -> Samples:
    background = np.zeros_like(speech)
    loudness, position = 1.5 * float(np.sqrt((speech**2).mean())), 0  # a third of it is pauses and margins
    while noises and position < len(speech):
        noise = rng.choice(noises)[: len(speech) - position]
        gain = loudness * 10 ** (-rng.uniform(*NOISE) / 20) / max(float(np.sqrt((noise**2).mean())), 1e-9)
        background[position : position + len(noise)] = gain * noise
        position += len(noise)
    return background


def extent(clip: Samples) -> tuple[float, float]:
    """Where the word in a clip begins and ends, in seconds, by loudness: the stretch around its loudest frame.

    A frame belongs to it if it is within 25 dB of the loudest, and above the middle between that and the noise.
    """
    frames = clip[: len(clip) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.convolve(10 * np.log10((frames**2).mean(1) + 1e-12), np.full(3, 1 / 3), "same")
    top, floor = np.percentile(level, [98, 10])
    on = np.flatnonzero(level > max(top - _EDGE, (top + floor) / 2))
    if not len(on):
        return 0.0, len(clip) / SAMPLE_RATE
    start, end = stretch(on, int(level.argmax()), _BRIDGED)
    return start * _FRAME / SAMPLE_RATE, (end + 1) * _FRAME / SAMPLE_RATE
