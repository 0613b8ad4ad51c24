"""Which words PhoneBind may learn from: frequent English words, without every form of the words it is tested on.

The 35 words of Speech Commands, whatever sounds like one of them, their inflections, and the words built on one of
them (happiness, bedroom, downtown) are kept out, so that every number on Speech Commands is zero-shot. `is_excluded` is
the one rule; synthesis, alignment and the tests all call it.
"""

from __future__ import annotations

import re
from functools import cache

from kws_imagebind.text.phonemes import Pronunciation, lookup
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS

SIZE = 20_000  # words
PHRASES = 6_000  # of two or three short words
PHONEMES_PER_WORD = (2, 10)
_SUFFIXES = "s es 's d ed ing er ers est ly y ty teen teenth teens th ths n en ish".split()


@cache
def excluded_pronunciations() -> frozenset[Pronunciation]:
    """Every pronunciation of the 35 words."""
    return frozenset(variant for word in SPEECH_COMMANDS_WORDS for variant in lookup(word))


@cache
def inflections() -> frozenset[str]:
    """The 35 words, their regular inflections and derivations, and a few that no rule makes."""
    formed = {"learnt", "fifth", "twelfth", "gone", "went", "goes", "does", "forth", "forty", "housing", "treetop"}
    for word in SPEECH_COMMANDS_WORDS:
        stems = (word, word + word[-1], word[:-1], word[:-1] + "i")  # bed, bedd-ing, hous-ing, happi-er
        formed |= {stem + suffix for stem in stems for suffix in _SUFFIXES} | {word}
    return frozenset(formed)


@cache
def _common_words() -> frozenset[str]:
    """What the other half of a compound may be."""
    from wordfreq import top_n_list

    return frozenset(word for word in top_n_list("en", 20_000) if len(word) >= 3 and word.isalpha())


def is_built_on(word: str, target: str) -> bool:
    """Whether `word` derives from `target` or is a compound with it, in its letters and in its sound.

    >>> [word for word in ("happiness", "bedroom", "downtown", "bluebird", "nothing", "cattle", "upon")
    ...  if any(is_built_on(word, target) for target in ("happy", "bed", "down", "bird", "no", "cat", "up", "on"))]
    ['happiness', 'bedroom', 'downtown', 'bluebird']
    """
    stem = target[:-1] + "i" if target.endswith("y") else target
    starts = word.startswith((target, stem)) and (len(target) >= 4 or word[len(target) :] in _common_words())
    ends = word.endswith(target) and word[: -len(target)] in _common_words()
    if not starts and not ends:
        return False
    pairs = [(said, own) for said in lookup(word) for own in lookup(target)]
    begins = any(said[: len(own)] == own for said, own in pairs)
    finishes = any(said[-len(own) :] == own for said, own in pairs)
    return not pairs or (starts and begins) or (ends and finishes)  # what no dictionary has is judged by its letters


@cache
def is_excluded(word: str) -> bool:
    """Whether a lower-case word is one of the 35, sounds like one in any pronunciation, inflects or contains one.

    >>> [word for word in ("knight", "won", "learned", "trees", "lamp", "three") if is_excluded(word)]
    ['won', 'learned', 'trees', 'three']
    """
    return (
        word in inflections()
        or any(variant in excluded_pronunciations() for variant in lookup(word))
        or any(is_built_on(word, target) for target in SPEECH_COMMANDS_WORDS)
    )


def training_words(size: int = SIZE) -> dict[str, Pronunciation]:
    """The most frequent English words that may be trained on, most frequent first, with their usual pronunciation."""
    from wordfreq import top_n_list

    shortest, longest = PHONEMES_PER_WORD
    chosen: dict[str, Pronunciation] = {}
    for word in top_n_list("en", 20 * size):
        if not re.fullmatch(r"[a-z]{2,16}", word) or (len(word) <= 4 and not re.search("[aeiouy]", word)):
            continue  # short words without a vowel are initialisms, which every synthesiser spells its own way
        pronunciations = lookup(word)
        if pronunciations and shortest <= len(pronunciations[0]) <= longest and not is_excluded(word):
            chosen[word] = pronunciations[0]
            if len(chosen) == size:
                break
    return chosen
