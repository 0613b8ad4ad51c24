"""Is a word a good keyword? How long it is, what sounds like it, and what to expect."""

from __future__ import annotations

import gzip
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.datasets.base import counted
from kws_imagebind.encoders.base import Encoder, EncoderError, FrameEncoder
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.phonemes import PHONEMES, VOWELS, Pronunciation, entries
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS

NEIGHBOURS = 6  # words that are named
COMMON = Path(__file__).parents[1] / "weights" / "training_manifest.tsv.gz"  # a word a line, and more about it
TRIED = 400  # of the common words nearest by edit distance, that are held against the word by cosine
LIKE = 0.85  # cosine, from which two words are often confused
LONGEST = 16  # phonemes of the dictionary's words that are compared

# False alarms an hour of running speech and words missed, at the default threshold, by syllables, in 4.9 hours of
# people who chose nothing: python -m benchmarks.false_alarms; docs/listening.md.
EXPECTED = {
    1: "2.2 false alarms an hour of running speech; 77 % missed within sentences",
    2: "0.9 false alarms an hour of running speech; 2 % missed of words said alone, 54 % within sentences",
    3: "0.5 false alarms an hour of running speech; 7 % missed of words said alone, 64 % within sentences",
}


@dataclass(frozen=True)
class Advice:
    """What is known of a keyword before anything is heard.

    Attributes:
        word: its label.
        said: its pronunciations.
        phonemes: of the shortest.
        syllables: of the shortest.
        guessed: whether no dictionary has it.
        neighbours: common words that sound like it, with their cosines, the nearest first.
        inside: how many words of the dictionary hold it, as 'smart' holds 'art', and some of them.
    """

    word: str
    said: tuple[str, ...]
    phonemes: int
    syllables: int
    guessed: bool
    neighbours: tuple[tuple[str, float], ...]
    inside: tuple[int, tuple[str, ...]]

    @property
    def verdict(self) -> str:
        """In one sentence."""
        near = self.neighbours[0] if self.neighbours else ("", 0.0)
        if self.syllables < 2 or self.phonemes < 4:
            return "too short for running speech: take a longer word, or a phrase such as 'hey …'"
        if near[1] >= LIKE and self.syllables < 3:
            return f"may do in a quiet room; it is easily taken for '{near[0]}'"
        if self.syllables < 3:
            return "fair; a word of three syllables or more is safer"
        if self.inside[0] > 3:
            return f"good, but it is also heard in longer words such as '{self.inside[1][0]}'"
        return "good: long, and unlike other words" if near[1] < LIKE else f"good; '{near[0]}' sounds most like it"

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "neighbours": [{"word": word, "cosine": round(cosine, 3)} for word, cosine in self.neighbours],
            "inside": {"count": self.inside[0], "such_as": list(self.inside[1])},
            "verdict": self.verdict,
        }

    def text(self) -> str:
        """For people."""
        said = " or ".join(f"/{each}/" for each in self.said)
        guess = " (no dictionary has it: check this, or give ARPAbet)" if self.guessed else ""
        near = ", ".join(f"{word} {cosine:.2f}" for word, cosine in self.neighbours)
        such = f", such as {', '.join(self.inside[1])}" if self.inside[0] else ""
        inside = f"{counted(self.inside[0], 'word')}{such}"
        return "\n".join(
            [
                f"{self.word}: {self.verdict}",
                f"  read as      {said}{guess}",
                f"  length       {counted(self.phonemes, 'phoneme')}, {counted(self.syllables, 'syllable')}",
                f"  sounds like  {near} (cosine; {LIKE} and more are often confused)",
                f"  part of      {inside}",
                f"  at 0.5       {EXPECTED[min(3, max(1, self.syllables))]} (words of this length)",
            ]
        )


def check_word(encoder: Encoder, word: str) -> Advice:
    """What is known of a keyword: a word or phrase, or 'label=/ARPAbet/'.

    Raises:
        EncoderError: the encoder does not read phonemes.
        KeywordError, PronunciationError: the word cannot be used.
    """
    if not isinstance(encoder, FrameEncoder):
        raise EncoderError(
            f"encoder '{encoder.name}' does not read phonemes, so a word cannot be checked; phonebind does"
        )
    readout = ZeroShotClassifier(encoder, [word])
    readings = encoder.pronunciations(readout.spoken[0])
    shortest = min(readings, key=len)
    names, table = _dictionary()
    own = readout.labels[0].casefold()
    distance = np.min([edit_distances(_indices(reading), table) for reading in readings], axis=0)
    near = np.argsort(distance, kind="stable")[:TRIED]
    others = [place for place in near if distance[place] and names[place] != own]  # not what is said alike
    cosines = readout(encoder.encode_text([f"/{' '.join(_said(table[place]))}/" for place in others])).values[:, 0]
    ranked = sorted(zip((names[place] for place in others), cosines.tolist(), strict=True), key=lambda pair: -pair[1])
    nearest = tuple(dict(reversed(ranked)).items())  # of a word that is said in two ways the nearer one
    nearest = tuple(sorted(nearest, key=lambda pair: -pair[1])[:NEIGHBOURS])
    return Advice(
        readout.labels[0],
        tuple(" ".join(reading) for reading in readings),
        len(shortest),
        sum(phoneme in VOWELS for phoneme in shortest),
        any(part in getattr(encoder, "guesses", {}) for part in own.split()),
        nearest,
        _inside(shortest, own),
    )


def edit_distances(word: NDArray[np.int8], table: NDArray[np.int8]) -> NDArray[np.int16]:
    """(phonemes,), (words, longest) padded with 0 -> (words,): how many phonemes to change, add or drop.

    >>> table = np.array([[3, 4, 5, 0], [3, 5, 0, 0], [1, 4, 5, 6]], np.int8)
    >>> edit_distances(np.array([3, 4, 5], np.int8), table).tolist()
    [0, 1, 2]
    """
    lengths = (table > 0).sum(1)
    before = np.broadcast_to(np.arange(table.shape[1] + 1, dtype=np.int16), (len(table), table.shape[1] + 1)).copy()
    for done, phoneme in enumerate(word, start=1):
        row = np.empty_like(before)
        row[:, 0] = done
        for column in range(1, before.shape[1]):
            changed = before[:, column - 1] + (table[:, column - 1] != phoneme)
            row[:, column] = np.minimum(np.minimum(row[:, column - 1], before[:, column]) + 1, changed)
        before = row
    return before[np.arange(len(table)), lengths]


@cache
def _dictionary() -> tuple[list[str], NDArray[np.int8]]:
    """The dictionary's common words, and their phonemes' numbers (words, longest), padded with 0."""
    common = _common()
    kept = [(word, said) for word, said in entries() if 2 <= len(said) <= LONGEST and word in common]
    table = np.zeros((len(kept), LONGEST), np.int8)
    for place, (_, said) in enumerate(kept):
        table[place, : len(said)] = _indices(said)
    return [word for word, _ in kept], table


@cache
def _common() -> frozenset[str]:
    """Words that people say: the frequent ones that the weights learnt, and those of Speech Commands.

    The dictionary holds many rare names, which nobody says near a microphone.
    """
    lines = gzip.decompress(COMMON.read_bytes()).decode("utf-8").splitlines()[1:]
    return frozenset({line.split("\t", 1)[0] for line in lines} | set(SPEECH_COMMANDS_WORDS))


_NUMBERS = {phoneme: number for number, phoneme in enumerate(PHONEMES, start=1)}


def _indices(said: Pronunciation) -> NDArray[np.int8]:
    return np.array([_NUMBERS[phoneme] for phoneme in said], np.int8)


def _said(row: NDArray[np.int8]) -> Pronunciation:
    return tuple(PHONEMES[number - 1] for number in row[row > 0].tolist())


def _inside(said: Pronunciation, own: str) -> tuple[int, tuple[str, ...]]:
    """Words of the dictionary that hold a pronunciation, but for the word itself and what sounds the same.

    How many there are, and some of them: common ones, if there are any.
    """
    wanted = f" {' '.join(said)} "
    holding = [
        word for word, other in entries() if len(other) > len(said) and word != own and wanted in f" {' '.join(other)} "
    ]
    several = list(dict.fromkeys(holding))
    common = _common()
    return len(several), tuple(sorted(several, key=lambda word: (word not in common, len(word), word))[:3])
