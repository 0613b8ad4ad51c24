"""Accents that espeak-ng lacks, as shifts of its sounds: what a word may sound like while it stays the same word.

Keywords are short, and much of a short word is one vowel, which is what accents of English differ in: an Australian
"go" is nearer to an American "gow", a Texan "five" to "fahv". The shifts are the well-known ones of descriptions of
English (Wells 1982, "Accents of English"); each speaker makes most of those of an accent. The label stays the
dictionary's pronunciation.
"""

from __future__ import annotations

import random

from kws_imagebind.phonemes import VOWELS, Pronunciation
from kws_imagebind.training.syllables import mnemonics

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
VOWEL_SHIFTS, CONSONANT_SHIFTS = 0.8, 0.3  # how likely a speaker makes each; consonants set too many words apart


def accented(pronunciation: Pronunciation, rng: random.Random) -> str:
    """What has espeak-ng say phonemes as a speaker of a random accent does."""
    shifts = rng.choice(list(ACCENTS.values()))
    made = {
        phoneme: rng.choice(sounds)
        for phoneme, sounds in shifts.items()
        if rng.random() < (VOWEL_SHIFTS if phoneme in VOWELS else CONSONANT_SHIFTS)
    }
    return mnemonics(pronunciation, made)
