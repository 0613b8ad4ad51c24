"""Running speech of known content: sentences of many people, with pauses between them, in noise or in none.

It says how often a keyword is heard that nobody said, and what is missed of those that are said among other words.
The people are divided in two, once for all: one half may choose thresholds, the other half reports.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.audio.files import load_audio
from kws_imagebind.text.phonemes import lookup
from kws_imagebind.training.corpora.alignment import Recording, read_manifest
from kws_imagebind.training.corpora.people import half
from kws_imagebind.training.corpora.shards import SAMPLE_RATE

# Keywords that reports ask for, and that therefore choose nothing: words of the sentences, wake words that some
# recordings hold alone, and what nobody says.
SAID = tuple(
    """
    time love work hand great need think much people nothing little something better again father morning chapter party
    beautiful anything another however already everything family probably tomorrow idea together remember afternoon
    canada american
    """.split()
)
WAKE = (
    "alexa", "computer", "jarvis", "snowboy", "athena", "amelia", "smart mirror", "view glass", "hey chatterbox"
)  # fmt: skip
NEVER = ("terminator", "alabama", "cappuccino", "hello kitchen")
KEYWORDS = (*SAID, *WAKE, *NEVER)

PAUSES = (0.25, 1.5)  # s between sentences
LEVELS = (-32.0, -20.0)  # dB of full scale, of a sentence's speech
FLOOR = -75.0  # dB of full scale, of the quietest room
MINUTES = 10.0  # of one scene

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """Something said in a scene, from when to when in seconds; `alone` is a word that is said by itself."""

    recording: Recording
    start: float
    end: float

    @property
    def alone(self) -> bool:
        return self.recording.kind == "word"

    def holds(self, keyword: str) -> bool:
        """Whether these very words are said in it."""
        wanted, words = tuple(keyword.split()), self.recording.words
        return any(words[first : first + len(wanted)] == wanted for first in range(len(words)))

    def resembles(self, keyword: str) -> bool:
        """Whether a word of it holds the sound of the keyword, as 'computers' does: neither right nor wrong to hear."""
        return any(_within(said, own) for said in _said(keyword) for own in _readings(self.recording.words))


@dataclass(frozen=True)
class Scene:
    """Some minutes of speech (samples,) at 16 kHz and all that is said in it, in the order of their times."""

    samples: Samples
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def sentences(folder: Path, side: str, sources: Sequence[str]) -> list[Recording]:
    """The sentences of one half of the people whose every word is written down."""
    return [
        recording
        for recording in read_manifest(folder)
        if recording.kind == "sentence"
        and recording.whole
        and recording.source in sources
        and half(recording.speaker) == side
    ]


def scenes(recordings: Sequence[Recording], seed: int = 0, minutes: float = MINUTES) -> Iterator[Scene]:
    """The recordings in an order by lot, each once, at levels by lot, in scenes of about so many minutes.

    A pause is as quiet as the sentence before it is at its quietest.
    """
    rng = random.Random(seed)
    draw = np.random.default_rng(seed)
    parts: list[Samples] = []
    spans: list[Span] = []
    position = 0
    for recording in rng.sample(list(recordings), len(recordings)):
        sound = at_level(load_audio(recording.path, SAMPLE_RATE).numpy(), rng.uniform(*LEVELS))
        pause = draw.normal(0, quietest(sound), round(rng.uniform(*PAUSES) * SAMPLE_RATE)).astype(np.float32)
        spans.append(Span(recording, position / SAMPLE_RATE, (position + len(sound)) / SAMPLE_RATE))
        parts += [sound, pause]
        position += len(sound) + len(pause)
        if position >= 60 * minutes * SAMPLE_RATE:
            yield Scene(np.concatenate(parts), tuple(spans))
            parts, spans, position = [], [], 0
    if parts:
        yield Scene(np.concatenate(parts), tuple(spans))


def at_level(sound: Samples, decibels: float) -> Samples:
    """A sound whose louder half of frames has this mean level."""
    frames = sound[: len(sound) // 160 * 160].reshape(-1, 160)
    power = np.sort((frames.astype(np.float64) ** 2).mean(1))
    loud = float(power[len(power) // 2 :].mean()) if len(power) else 0.0
    gain = 10 ** (decibels / 20) / max(loud, 1e-10) ** 0.5
    return np.clip(gain * sound, -1, 1).astype(np.float32)


def quietest(sound: Samples) -> float:
    """The deviation of its quietest tenth of a second, and not less than that of a quiet room."""
    tenths = sound[: len(sound) // 1600 * 1600].reshape(-1, 1600)
    least = float(tenths.std(1).min()) if len(tenths) else 0.0
    return max(least, 10 ** (FLOOR / 20))


def with_noise(scene: Scene, noises: Sequence[Samples], decibels: float, seed: int = 0) -> Scene:
    """The scene in noise `decibels` below its speech, from recordings of noise that follow each other by lot."""
    rng = random.Random(seed)
    inside = np.concatenate([scene.samples[_slice(span)] for span in scene.spans])
    power = float((inside.astype(np.float64) ** 2).mean())
    background: list[Samples] = []
    while sum(map(len, background)) < len(scene.samples):
        noise = rng.choice(noises)
        background.append(noise / max(float(np.sqrt((noise.astype(np.float64) ** 2).mean())), 1e-9))
    gain = power**0.5 * 10 ** (-decibels / 20)
    mixed = scene.samples + gain * np.concatenate(background)[: len(scene.samples)]
    return Scene((mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32), scene.spans)


def _slice(span: Span) -> slice:
    return slice(round(span.start * SAMPLE_RATE), round(span.end * SAMPLE_RATE))


@cache
def _said(words: str) -> tuple[tuple[str, ...], ...]:
    """Each way to say a word or phrase, of the dictionary's first of each word but the first word's all."""
    parts = [lookup(word) for word in words.split()]
    if not all(parts):
        return ()
    rest = tuple(phoneme for part in parts[1:] for phoneme in part[0])
    return tuple((*first, *rest) for first in parts[0])


def _readings(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for word in words:
        yield from _said(word)


def _within(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return any(whole[first : first + len(part)] == part for first in range(len(whole) - len(part) + 1))
