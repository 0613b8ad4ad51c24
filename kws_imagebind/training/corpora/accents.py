"""Accents that espeak-ng lacks, as shifts of its sounds: what a word may sound like while it stays the same word.

Keywords are short, and much of a short word is one vowel, which is what accents of English differ in: an Australian
"go" is nearer to an American "gow", a Texan "five" to "fahv". The shifts are the well-known ones of descriptions of
English (Wells 1982, "Accents of English"); each speaker makes most of those of an accent. The label stays the
dictionary's pronunciation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

from kws_imagebind.text.phonemes import CONSONANTS, VOWELS, Pronunciation

# ARPAbet in the phoneme names that all of espeak-ng's English accents have; the others are ARPAbet's in small letters.
ESPEAK_PHONEMES = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "EH": "E", "ER": "3:", "EY": "eI", "IH": "I",
    "IY": "i:", "OW": "oU", "OY": "OI", "UH": "U", "UW": "u:", "CH": "tS", "DH": "D", "HH": "h", "JH": "dZ", "NG": "N",
    "SH": "S", "TH": "T", "Y": "j", "ZH": "Z",
}  # fmt: skip
# A vowel before r is one phoneme there; the accents without r then leave it out. Other vowels are not followed by r.
BEFORE_R = {"AA": "A@", "AO": "O@", "EH": "e@", "IH": "i@", "UH": "U@"}
# ARPAbet to the espeak-ng sounds that it may become.
ACCENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Australian": {
        "EY": ("aI",), "AY": ("OI",), "OW": ("VU", "eU"), "AE": ("E", "E:"), "EH": ("e",), "IH": ("i",), "AA": ("O",),
    },
    "New Zealand": {"EH": ("e", "I"), "IH": ("@",), "AE": ("E",), "OW": ("VU",), "EY": ("aI",), "AA": ("O",)},
    "Southern American": {"AY": ("a:", "A:"), "EH": ("I", "e"), "OW": ("VU", "eU"), "AO": ("A:",), "IH": ("i",)},
    "Californian": {"OW": ("eU", "@U"), "AE": ("a#", "a"), "AO": ("A:",), "EH": ("a#", "E")},
    "London": {
        "EY": ("aI",), "AY": ("OI",), "OW": ("VU", "aU"), "AW": ("a:",), "AH": ("a#",), "AA": ("0",), "TH": ("f",),
    },
    "Northern English": {"AH": ("U",), "AE": ("a",), "OW": ("o:", "O:"), "EY": ("e:", "E:"), "AY": ("a:",)},
    "Irish": {"AH": ("U", "O"), "AY": ("OI",), "OW": ("o:",), "EY": ("e:",), "AE": ("a",), "TH": ("t",), "DH": ("d",)},
    "Indian": {
        "EY": ("e:",), "OW": ("o:",), "AH": ("@", "a#"), "AO": ("A:", "O"), "AE": ("E", "a"), "V": ("w",), "W": ("v",),
        "TH": ("t",), "DH": ("d",),
    },
    "Romance": {
        "IH": ("i:", "i"), "AE": ("a",), "AH": ("a",), "UH": ("u:", "u"), "EY": ("e", "e:"), "OW": ("o", "o:"),
        "AO": ("o:", "O"), "TH": ("t", "s"), "DH": ("d", "z"),
    },
    "German": {"W": ("v",), "TH": ("s",), "DH": ("z", "d"), "AE": ("E",), "AH": ("a",), "OW": ("o:",), "EY": ("e:",)},
    "East Asian": {"TH": ("s", "f"), "DH": ("z", "d"), "V": ("w", "b"), "AE": ("E",), "IH": ("i",), "AH": ("a",)},
}  # fmt: skip
# Sounds of `ACCENTS` that are nearly one of `ESPEAK_PHONEMES`.
NEARLY = {
    "@": "V", "a#": "V", "e": "E", "E:": "E", "i": "I", "0": "A:", "O": "O:", "u": "U", "e:": "eI", "o:": "oU",
    "o": "oU", "VU": "oU", "eU": "oU", "@U": "oU",
}  # fmt: skip
VOWEL_SHIFTS, CONSONANT_SHIFTS = 0.8, 0.3  # how likely a speaker makes each; consonants set too many words apart


def is_sayable(said: Pronunciation) -> bool:
    """Whether `mnemonics` can write it: an r after a vowel only where `BEFORE_R` has the two."""
    return all(right != "R" or left in CONSONANTS or left in BEFORE_R for left, right in pairwise(said))


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
        if _is_r_of_a_vowel(pronunciation, index):
            continue
        name = BEFORE_R[phoneme] if _is_r_of_a_vowel(pronunciation, index + 1) else sounds.get(phoneme, phoneme.lower())
        if phoneme in VOWELS and not stressed:
            name, stressed = f"'{name}", True
        names.append(name)
    return f"[[{'|'.join(names)}]]"


def without_accent(mnemonics: str) -> str:
    """What a listener might write: the sounds of an accent as the nearest usual ones.

    >>> without_accent("[[w|'@|n]]")
    "[[w|'V|n]]"
    """
    usual = []
    for name in mnemonics.strip("[]").split("|"):
        stress = "'" if name.startswith("'") else ""
        sound = name.removeprefix("'")
        usual.append(stress + NEARLY.get(sound, sound))
    return f"[[{'|'.join(usual)}]]"


def _is_r_of_a_vowel(said: Pronunciation, index: int) -> bool:
    """Whether an r belongs to the vowel before it, as in "star", and not to the one after, as in "story"."""
    if not 0 < index < len(said) or said[index] != "R" or said[index - 1] not in BEFORE_R:
        return False
    return index + 1 == len(said) or said[index + 1] not in VOWELS


def accented(pronunciation: Pronunciation, rng: random.Random) -> str:
    """What has espeak-ng say phonemes as a speaker of a random accent does."""
    shifts = rng.choice(list(ACCENTS.values()))
    made = {
        phoneme: rng.choice(sounds)
        for phoneme, sounds in shifts.items()
        if rng.random() < (VOWEL_SHIFTS if phoneme in VOWELS else CONSONANT_SHIFTS)
    }
    return mnemonics(pronunciation, made)
