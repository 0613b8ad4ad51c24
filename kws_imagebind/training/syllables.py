"""Made-up words of one and two syllables: what lies between the words of a language, spoken and told apart.

A keyword is short, and short words have few real neighbours to learn from: of "G OW" no dictionary keeps "G AW",
"G UH" and "D OW" once the words that are tested on are gone. Syllables fill the space evenly. Their onsets and codas
are those that training words have; no syllable sounds like one of the 35 words or a form of one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

from kws_imagebind.phonemes import CONSONANTS, VOWELS, Pronunciation
from kws_imagebind.training.vocabulary import excluded_forms, training_words

# Of a hundred, how many are of each shape; C is one consonant, K one or more.
SHAPES = {"CV": 16, "VC": 12, "CVC": 32, "KVK": 15, "CVCV": 10, "VCVC": 5, "CVCVC": 10}
# ARPAbet in the phoneme names that all of espeak-ng's English accents have.
ESPEAK_PHONEMES = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:", "EY": "eI", "IH": "I",
    "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:", "CH": "tS", "DH": "D", "HH": "h", "JH": "dZ", "NG": "N",
    "SH": "S", "TH": "T", "Y": "j", "ZH": "Z",
}  # fmt: skip
# A vowel before r is one phoneme there; the accents without r then leave it out. Other vowels are not followed by r.
BEFORE_R = {"AA": "A@", "AO": "O@", "EH": "e@", "IH": "i@", "UH": "U@"}


def mnemonics(pronunciation: Pronunciation, shifts: Mapping[str, str] | None = None) -> str:
    """What has espeak-ng say phonemes, the first vowel stressed; `shifts` has sounds other than the usual.

    >>> mnemonics(("S", "T", "AA", "R", "K"))
    "[[s|t|'A@|k]]"
    >>> mnemonics(("G", "AE", "P"), {"AE": "E"})
    "[[g|'E|p]]"
    """
    sounds = {**ESPEAK_PHONEMES, **(shifts or {})}
    names: list[str] = []
    stressed = False
    for index, phoneme in enumerate(pronunciation):
        if phoneme == "R" and index and pronunciation[index - 1] in BEFORE_R and not _onset(pronunciation, index):
            continue
        name = sounds.get(phoneme, phoneme.lower())
        follows = pronunciation[index + 1 : index + 2]
        if phoneme in BEFORE_R and follows == ("R",) and not _onset(pronunciation, index + 1):
            name = BEFORE_R[phoneme]
        if phoneme in VOWELS and not stressed:
            name, stressed = f"'{name}", True
        names.append(name)
    return f"[[{'|'.join(names)}]]"


def _onset(pronunciation: Pronunciation, index: int) -> bool:
    """Whether a vowel follows."""
    return pronunciation[index + 1 : index + 2] != () and pronunciation[index + 1] in VOWELS


@cache
def _edges() -> tuple[tuple[Pronunciation, ...], tuple[Pronunciation, ...]]:
    """The onsets and the codas of training words, each at least a few times there."""
    counts: tuple[dict[Pronunciation, int], dict[Pronunciation, int]] = ({}, {})
    for said in training_words().values():
        vowels = [index for index, phoneme in enumerate(said) if phoneme in VOWELS]
        if vowels:
            for table, edge in zip(counts, (said[: vowels[0]], said[vowels[-1] + 1 :]), strict=True):
                table[edge] = table.get(edge, 0) + 1
    onsets, codas = (tuple(sorted(edge for edge, n in table.items() if edge and n >= 5)) for table in counts)
    return onsets, codas


def _formed(shape: str, rng: random.Random) -> Pronunciation:
    onsets, codas = _edges()
    said: Pronunciation = ()
    for place, kind in enumerate(shape):
        ends = place == len(shape) - 1
        if kind == "V":
            said += (rng.choice(VOWELS),)
        else:
            clusters = codas if ends else onsets
            said += rng.choice([edge for edge in clusters if kind == "K" or len(edge) == 1])
    return said


def is_sayable(said: Pronunciation) -> bool:
    """Whether espeak-ng says it as it is written: an r after a vowel only where `BEFORE_R` has the two."""
    return all(right != "R" or left in CONSONANTS or left in BEFORE_R for left, right in pairwise(said))


def syllables(count: int, seed: int) -> Iterator[Pronunciation]:
    """Made-up words, repeats included: there are only so many of two phonemes."""
    rng = random.Random(seed)
    shapes, weights = list(SHAPES), list(SHAPES.values())
    while count > 0:
        said = _formed(rng.choices(shapes, weights)[0], rng)
        if is_sayable(said) and said not in excluded_forms():
            count -= 1
            yield said
