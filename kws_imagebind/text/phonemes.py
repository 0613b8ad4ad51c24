"""Words to phonemes: ARPAbet, the CMU Pronouncing Dictionary, and the reading of what a user types.

A pronunciation is a tuple of the 39 ARPAbet phonemes without stress, as in ("L", "AE", "M", "P").
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

from kws_imagebind.files import check_bundled

Pronunciation = tuple[str, ...]

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R",
    "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
PHONEMES = tuple(sorted(VOWELS + CONSONANTS))

TABLE = Path(__file__).parent / "lexicon" / "cmudict.txt.gz"
MAX_VARIANTS = 8  # of a phrase: "read record" has 2 x 3, and nobody needs the product of ten words
MAX_PHONEMES = 64  # about six seconds of speech

_SLASHED = re.compile(r"/([^/]*)/")
_WORD = re.compile(r"[a-z](?:[a-z']*[a-z])?")


class PronunciationError(ValueError):
    """A text that cannot be turned into phonemes; the message says which and what would do."""


@cache
def _table() -> list[str]:
    """The lines 'word<tab>P P P', sorted by word: bisecting them is faster than parsing them."""
    check_bundled(TABLE)
    return gzip.decompress(TABLE.read_bytes()).decode("ascii").splitlines()


def without_stress(phonemes: str) -> Pronunciation:
    """'L AE1 M P' -> ('L', 'AE', 'M', 'P')."""
    return tuple(phoneme.rstrip("012") for phoneme in phonemes.split())


def lookup(word: str) -> tuple[Pronunciation, ...]:
    """Every pronunciation CMUdict has for one lower-case word, the usual one first; empty if it has none.

    >>> lookup("tomato")
    (('T', 'AH', 'M', 'EY', 'T', 'OW'), ('T', 'AH', 'M', 'AA', 'T', 'OW'))
    >>> lookup("zyzzyvic")
    ()
    """
    lines, key = _table(), f"{word}\t"
    start = end = bisect_left(lines, key)
    while end < len(lines) and lines[end].startswith(key):
        end += 1
    # Entries that differ in stress alone become one.
    return tuple(dict.fromkeys(without_stress(line[len(key) :]) for line in lines[start:end]))


def entries() -> Iterator[tuple[str, Pronunciation]]:
    """Every (word, pronunciation) of CMUdict in the order of the table."""
    for line in _table():
        word, phonemes = line.split("\t")
        yield word, without_stress(phonemes)


def parse_arpabet(text: str) -> Pronunciation:
    """ARPAbet as a person writes it, with or without stress and in either case.

    >>> parse_arpabet("l ae1 m p")
    ('L', 'AE', 'M', 'P')

    Raises:
        PronunciationError: names the first symbol that is no ARPAbet phoneme.
    """
    pronunciation = without_stress(text.upper())
    if not pronunciation:
        raise PronunciationError(f"'/{text}/' holds no phoneme; write ARPAbet such as '/L AE M P/'")
    for phoneme in pronunciation:
        if phoneme not in PHONEMES:
            raise PronunciationError(
                f"'{phoneme}' in '/{text}/' is not an ARPAbet phoneme; the {len(PHONEMES)} are {' '.join(PHONEMES)}"
            )
    return _bounded(pronunciation, text)


def is_arpabet(text: str) -> bool:
    """Whether a text gives its pronunciations itself, between slashes."""
    return text.strip().startswith("/")


def parse_slashed(text: str) -> tuple[Pronunciation, ...]:
    """One or more pronunciations between slashes.

    >>> parse_slashed("/T AH M EY T OW/ /T AH M AA T OW/")[1]
    ('T', 'AH', 'M', 'AA', 'T', 'OW')
    """
    if _SLASHED.sub("", text).strip():
        raise PronunciationError(f"'{text}' is not ARPAbet between slashes, such as '/L AE M P/'")
    return tuple(dict.fromkeys(parse_arpabet(inside) for inside in _SLASHED.findall(text)))


def words(text: str) -> list[str]:
    """The lower-case words of a text, without accents and punctuation.

    >>> words("Hey, Zoë!"), words("rock-n-roll"), words("don't")
    (['hey', 'zoe'], ['rock', 'n', 'roll'], ["don't"])

    Raises:
        PronunciationError: nothing in the text is an English letter, or a digit is.
    """
    plain = unicodedata.normalize("NFKD", text.replace("’", "'")).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    odd = sorted({letter for letter in plain if letter.isalnum() and not letter.isascii()})
    found = _WORD.findall(plain)
    if any(letter.isdigit() for letter in plain):
        raise PronunciationError(f"'{text}' holds digits; write them as words ('seven', not '7')")
    if odd or not found:
        raise PronunciationError(
            f"'{text}' cannot be pronounced: expected English letters, or ARPAbet such as '/L AE M P/'"
        )
    return found


def combine(choices: list[tuple[Pronunciation, ...]], text: str) -> tuple[Pronunciation, ...]:
    """The pronunciations of a phrase from those of its words, at most `MAX_VARIANTS`, the usual one first."""
    variants: dict[Pronunciation, None] = {}
    for picked in product(*choices):
        variants[_bounded(tuple(phoneme for word in picked for phoneme in word), text)] = None
        if len(variants) == MAX_VARIANTS:
            break
    return tuple(variants)


def _bounded(pronunciation: Pronunciation, text: str) -> Pronunciation:
    if len(pronunciation) > MAX_PHONEMES:
        raise PronunciationError(
            f"'{text[:40]}…' has {len(pronunciation)} phonemes; a keyword or short phrase has at most {MAX_PHONEMES}"
        )
    return pronunciation
