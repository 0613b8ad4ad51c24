"""Words that nobody has ever said: made-up names, brand names and phrases, by voices that training never hears.

    python -m benchmarks.new_words            # builds the clips in a temporary folder, measures, and throws them away
    python -m benchmarks.new_words --keep DIR # keeps them, in the layout of Speech Commands

needs espeak-ng, and festival with festvox-kdlpc16k for one of the voices. A thousand names follow from a seed: invented
words, invented brands with a brand's endings, and phrases of an ordinary word with another or with an invented one.
None is in CMUdict or in the training manifest, nor does one sound like an entry of it or like another of the thousand.
The first 140 are spoken by the 14 voices that only ever test. Each clip is to be told among 35 of them, and among all
the 1,000.

How an invented word is said is anybody's guess, and the synthesisers guess from the spelling by rules of their own. So
there are two readings of the candidates: by this project's letter-to-sound model, as a user who types the name has it,
and by espeak-ng's phonemes, written as ARPAbet, as a user has it who knows how the name is said. The first counts wrong
guesses of the spelling as errors; the second tells how well sounds are heard. One row keeps to the names that both read
alike.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

import kws_imagebind as kws
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.metrics.intervals import proportion_by_speaker
from kws_imagebind.text.phonemes import Pronunciation, lookup
from kws_imagebind.training.corpora.manifest import read_manifest
from kws_imagebind.training.corpora.sample import speaker
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.synthesis import SAMPLE_VOICES, VALIDATION_VOICES, Job, speak

VOICES = (*SAMPLE_VOICES, *VALIDATION_VOICES)
COUNTS = {"name": 400, "brand": 300, "phrase": 300}  # candidates
SPOKEN = {"name": 50, "brand": 40, "phrase": 50}
FEW = 35  # candidates of the small choice

ONSETS = "b bl br d dr f fl fr g gl gr h j k kl kr l m n p pl pr r s sk sl sm sn sp st t tr v w y z th sh ch".split()
VOWELS = "a a e e i i o o u ee oo ai oa".split()
MIDDLES = "b d f g k l m n p r s t v z nd nt mp rk ld st sk ll rr mb lt".split()
ENDS = "n m l r s t k x nd st ck sh p b d g v z".split()
BRANDS = "ix ora ly io eon ify ex ium ara ox ella ona".split()
ORDINARY = """
anchor basket bridge butter cabin candle carpet castle circle copper cotton desert dinner doctor engine falcon feather
forest garden ginger hammer harbor island jacket ladder lantern lemon magnet marble meadow mirror needle orange paper
pebble pencil pepper planet pocket purple rabbit ribbon river rocket saddle shadow silver spider summer thunder ticket
timber tunnel valley velvet violin window winter
""".split()

# espeak-ng's phonemes of American English, in IPA, as ARPAbet; the longest match first.
ARPABET = {
    "aɪɚ": "AY ER", "aɪə": "AY AH", "eɪ": "EY", "aɪ": "AY", "aʊ": "AW", "ɔɪ": "OY", "oʊ": "OW", "iː": "IY", "uː": "UW",
    "ɑː": "AA", "ɔː": "AO", "oː": "AO", "ɜː": "ER", "əl": "AH L", "tʃ": "CH", "dʒ": "JH", "n̩": "AH N", "i": "IY",
    "ɪ": "IH", "ᵻ": "IH", "ɛ": "EH", "æ": "AE", "a": "AA", "ɑ": "AA", "ɔ": "AO", "ʊ": "UH", "u": "UW", "ʌ": "AH",
    "ə": "AH", "ɐ": "AH", "ɚ": "ER", "o": "OW", "e": "EY", "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G",
    "f": "F", "v": "V", "θ": "TH", "ð": "DH", "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "h": "HH", "m": "M", "n": "N",
    "ŋ": "NG", "l": "L", "ɹ": "R", "r": "R", "j": "Y", "w": "W", "ɾ": "T", "ʔ": "T", "x": "K",
}  # fmt: skip
UNHEARD = "ˈˌː ‍̃-"  # stress, length, ties and gaps


@dataclass(frozen=True)
class NewWord:
    """A name of one of the kinds, how this project reads it, and how espeak-ng does."""

    text: str
    kind: str
    ours: Pronunciation
    espeaks: Pronunciation


def arpabet(ipa: str) -> Pronunciation:
    """espeak-ng's IPA as ARPAbet.

    >>> " ".join(arpabet("zˈoːɹveɪn"))
    'Z AO R V EY N'

    Raises:
        ValueError: there is a sound that English does not have.
    """
    found: list[str] = []
    rest = ipa
    while rest:
        if rest[0] in UNHEARD:
            rest = rest[1:]
            continue
        sound = next((rest[:size] for size in (3, 2, 1) if rest[:size] in ARPABET), None)
        if sound is None:
            raise ValueError(f"'{rest[0]}' in '{ipa}' is no sound of American English that espeak-ng is known to make")
        found += ARPABET[sound].split()
        rest = rest[len(sound) :]
    return tuple(found)


def espeak_ipa(texts: Sequence[str]) -> list[str]:
    """How espeak-ng's American voice reads each text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.txt"
        path.write_text("".join(f"{text}.\n\n" for text in texts))
        done = subprocess.run(
            ["espeak-ng", "-q", "--ipa", "-v", "en-us", "-f", str(path)], capture_output=True, text=True, check=True
        )
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if len(lines) != len(texts):
        raise RuntimeError(f"espeak-ng read {len(lines)} of {len(texts)} texts")
    return lines


@cache
def trained() -> tuple[frozenset[str], frozenset[str]]:
    """The texts and the pronunciations of the training manifest."""
    entries = list(read_manifest())
    return frozenset(entry.word for entry in entries), frozenset(" ".join(entry.pronunciation) for entry in entries)


def spellings(kind: str, rng: random.Random) -> Iterator[str]:
    """Inventions without end."""

    def invented() -> str:
        first = rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(MIDDLES)
        return first + (rng.choice(BRANDS) if kind == "brand" else rng.choice(VOWELS) + rng.choice(ENDS))

    while True:
        if kind != "phrase":
            yield invented()
        elif rng.random() < 0.5:
            yield " ".join(rng.sample(ORDINARY, 2))
        else:
            yield f"{invented()} {rng.choice(ORDINARY)}"


def new_words(encoder: PhoneBindEncoder, counts: dict[str, int], seed: int = 0) -> list[NewWord]:
    """So many words of each kind, of which training knows none and no two sound the same in either reading."""
    texts, sounds = trained()
    rng, found, said = random.Random(seed), [], set(sounds)
    for kind, count in counts.items():
        source, kept = spellings(kind, rng), 0
        while kept < count:
            drawn = dict.fromkeys(next(source) for _ in range(2 * count))
            fresh = [text for text in drawn if text not in texts and (" " in text or not lookup(text))]
            for text, ipa in zip(fresh, espeak_ipa(fresh), strict=True):
                ours, espeaks = encoder.pronunciations(text)[0], arpabet(ipa)
                if kept < count and not {" ".join(ours), " ".join(espeaks)} & said:
                    said |= {" ".join(ours), " ".join(espeaks)}
                    found.append(NewWord(text, kind, ours, espeaks))
                    kept += 1
    return found


def spoken_words(words: Sequence[NewWord], counts: dict[str, int]) -> list[NewWord]:
    """The first so many of each kind, by turns, so that any stretch of them holds every kind."""
    chosen = [[word for word in words if word.kind == kind][:count] for kind, count in counts.items()]
    order = sorted((place / len(part), word.text) for part in chosen for place, word in enumerate(part))
    by_text = {word.text: word for word in words}
    return [by_text[text] for _, text in order]


def record(words: Sequence[NewWord], folder: Path, seed: int = 11) -> int:
    """Has every voice say every word, as `word/SPEAKER_nohash_0.wav`; returns how many recordings were no use."""
    margin = np.zeros(round(0.04 * SAMPLE_RATE), np.int16)
    count = 0
    for number, voice in enumerate(VOICES):
        jobs = [Job(1000 * number + place, voice, word.text, word.ours) for place, word in enumerate(words)]
        for segment in speak(jobs, seed):
            path = folder / segment.word / f"{speaker(voice)}_nohash_0.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.concatenate([margin, segment.audio, margin]), SAMPLE_RATE, subtype="PCM_16")
            count += 1
    return len(words) * len(VOICES) - count


def hits(scores: torch.Tensor, truth: Sequence[int], groups: dict[int, list[int]] | None = None) -> NDArray[np.bool_]:
    """(n,) whether the true candidate scores most, of all or of its group."""
    found = []
    for row, own in zip(scores, truth, strict=True):
        among = groups[own] if groups else range(len(row))
        found.append(int(among[int(row[list(among)].argmax())]) == own)
    return np.array(found)


def measure(encoder: PhoneBindEncoder, words: Sequence[NewWord], spoken: Sequence[NewWord], folder: Path) -> None:
    audio = kws.embed(encoder, kws.load_dataset("folder", root=folder))
    place = {word.text: index for index, word in enumerate(words)}
    truth = [place[utterance.label] for utterance in audio.utterances]
    speakers = [utterance.speaker for utterance in audio.utterances]
    order = [place[word.text] for word in spoken]
    parts = [order[start : start + FEW] for start in range(0, len(order), FEW)]
    groups = {own: part for part in parts for own in part}
    agreed = np.array([words[own].ours == words[own].espeaks for own in truth])
    kinds = np.array([words[own].kind for own in truth])
    for reading in ("ours", "espeaks"):
        said = [f"{word.text}=/{' '.join(getattr(word, reading))}/" for word in words]
        scores = kws.ZeroShotClassifier(encoder, said)(audio).values
        few, many = hits(scores, truth, groups), hits(scores, truth)
        rows = {"all": np.ones(len(truth), bool), **{kind: kinds == kind for kind in COUNTS}}
        if reading == "ours":
            rows["both readings agree"] = agreed
        for name, kept in rows.items():
            who = [each for each, chosen in zip(speakers, kept, strict=True) if chosen]
            print(
                f"{reading:8} {name:20} top-1 of {FEW}: {proportion_by_speaker(few[kept], who)};  "
                f"of {len(words):,}: {proportion_by_speaker(many[kept], who)}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to leave the clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = PhoneBindEncoder.from_weights(device="cpu")
    words = new_words(encoder, COUNTS, arguments.seed)
    spoken = spoken_words(words, SPOKEN)
    same = sum(word.ours == word.espeaks for word in spoken)
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lost = record(spoken, folder)
        print(
            f"{len(spoken)} names by {len(VOICES)} voices, {lost} recordings left out (over 1.25 s, or not said); both "
            f" read {same} of the names alike; intervals are by voice"
        )
        measure(encoder, words, spoken, folder)


if __name__ == "__main__":
    main()
