"""What a recording does not say: the pronunciations that training holds against it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.models.phonebind import PHONEME_INDEX, PhoneBind
from kws_imagebind.text.phonemes import CONSONANTS, VOWELS, Pronunciation
from kws_imagebind.training.corpora.vocabulary import excluded_pronunciations

ROWS = 500  # pronunciations compared with all others at once
TRIES = 20  # at an edit that is neither one of the words that are tested on nor what it began with
TWICE = 0.3  # share of the made-up pronunciations that are two edits away
AT_END = 0.5  # share of the edits at the last phoneme: a weak end is what is misheard most


def near_neighbours(pronunciations: Sequence[Pronunciation], count: int, seed: int) -> NDArray[np.int32]:
    """(pronunciations, count): the nearest others of each by edit distance over phonemes, ties at random."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    written = ["".join(chr(64 + PHONEME_INDEX[phoneme]) for phoneme in said) for said in pronunciations]
    rng = np.random.default_rng(seed)
    nearest = []
    for start in range(0, len(written), ROWS):
        part = written[start : start + ROWS]
        order = rng.permutation(len(written))
        others = [written[index] for index in order]
        distance = cdist(part, others, scorer=Levenshtein.distance, dtype=np.uint8, score_cutoff=5)
        distance[order[None, :] == start + np.arange(len(part))[:, None]] = 255  # itself
        nearest.append(order[np.argpartition(distance, count, axis=1)[:, :count]].astype(np.int32))
    return np.concatenate(nearest)


@torch.inference_mode()
def confusable(model: PhoneBind, indices: Tensor, count: int) -> NDArray[np.int64]:
    """(pronunciations, count): the nearest others of each in the model's own space."""
    read = torch.cat([model.text(part) for part in indices.split(ROWS)])
    nearest = []
    for start, part in enumerate(read.split(ROWS)):
        alike = part @ read.T
        alike[torch.arange(len(part)), start * ROWS + torch.arange(len(part))] = -1  # itself
        nearest.append(alike.topk(count, 1).indices)
    return torch.cat(nearest).numpy()


def made_up(pronunciations: Sequence[Pronunciation], count: int, seed: int) -> list[Pronunciation]:
    """So many of each that differ from it in a phoneme or two; few are words. None is one that is tested on.

    >>> made_up([("L", "AE", "M", "P")], 2, seed=1)
    [('AE', 'M', 'W'), ('L', 'AE', 'M', 'NG')]
    """
    rng = random.Random(seed)
    return [_unlike(said, rng) for said in pronunciations for _ in range(count)]


def _unlike(said: Pronunciation, rng: random.Random) -> Pronunciation:
    for _ in range(TRIES):
        found = _edited(_edited(said, rng) if rng.random() < TWICE else said, rng)
        if found != said and found not in excluded_pronunciations():
            return found
    raise ValueError(f"nothing differs from /{' '.join(said)}/ in a phoneme or two")


def _edited(said: Pronunciation, rng: random.Random) -> Pronunciation:
    """One phoneme becomes another of its kind; an outer consonant may fall away, and a last one be added."""
    place = len(said) - 1 if rng.random() < AT_END else rng.randrange(len(said))
    phoneme = said[place]
    if phoneme in CONSONANTS and place in (0, len(said) - 1) and len(said) > 2 and rng.random() < 1 / 3:
        return said[:place] + said[place + 1 :]
    if phoneme in VOWELS and place == len(said) - 1 and rng.random() < 1 / 3:
        return (*said, rng.choice(CONSONANTS))
    return (*said[:place], rng.choice(VOWELS if phoneme in VOWELS else CONSONANTS), *said[place + 1 :])
