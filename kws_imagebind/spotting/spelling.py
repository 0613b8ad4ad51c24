"""The second look: does a window spell a word, sound by sound?

A window's vector says what it resembles as a whole. Its spelling (CTC, Graves et al. 2006) says which phonemes are
heard when, so that a word of other sounds is turned away however alike the whole may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kws_imagebind.models.phonebind import BLANK, phoneme_indices
from kws_imagebind.text.phonemes import Pronunciation

NEVER = -1e4


class Speller:
    """How well windows spell words, wherever in the window a word lies.

    Args:
        readings: of each word, the ways to say it; a word without any matches nothing (0).
    """

    def __init__(self, readings: Sequence[Sequence[Pronunciation]]) -> None:
        said = [pronunciation for word in readings for pronunciation in word]
        self._words = len(readings)
        self.owners = torch.tensor([place for place, word in enumerate(readings) for _ in word], dtype=torch.long)
        self._indices = phoneme_indices(said) if said else torch.zeros(0, 1, dtype=torch.long)
        self._lengths = torch.tensor([len(pronunciation) for pronunciation in said], dtype=torch.long)
        self._repeats = torch.zeros_like(self._indices, dtype=torch.bool)
        self._repeats[:, 1:] = (self._indices[:, 1:] == self._indices[:, :-1]) & (self._indices[:, 1:] != BLANK)
        self.phonemes = torch.zeros(self._words)  # (words,) of the shortest reading
        for place, word in enumerate(readings):
            self.phonemes[place] = min(map(len, word), default=0)

    def __call__(self, spellings: Tensor) -> Tensor:
        """(n, times, symbols) log-probabilities -> (n, words): how much less likely each word is than anything else.

        It is the logarithm of a ratio, of the best path (Viterbi) through the word to what the window spells freely in
        the same time: at most 0. What comes before and after the word counts for nothing. A word scores as its best
        reading.
        """
        matches = torch.zeros(len(spellings), self._words)
        if not len(self.owners) or not len(spellings):
            return matches
        owners = self.owners.expand(len(spellings), -1)
        return matches.scatter_reduce(1, owners, self.paths(spellings), "amax", include_self=False)

    def paths(self, spellings: Tensor) -> Tensor:
        """(n, times, symbols) -> (n, readings): the same of each reading; `owners` says which word it is of."""
        relative = spellings - spellings.amax(2, keepdim=True)
        return self._best_paths(relative[:, :, self._indices], relative[:, :, BLANK])

    def _best_paths(self, sounds: Tensor, blank: Tensor) -> Tensor:
        """(n, times, readings, phonemes), (n, times) -> (n, readings): the best path through each reading."""
        on = torch.full_like(sounds[:, 0], NEVER)  # the best path that ends in a phoneme
        after = on  # or in the blank after it
        best = on[..., 0]
        ends = nn.functional.one_hot(self._lengths - 1, sounds.shape[3]) == 0
        for time in range(sounds.shape[1]):
            # A phoneme follows the one before it, or the blank between them, which two of the same need.
            step = torch.maximum(after, on.masked_fill(self._repeats.roll(-1, 1), NEVER))
            entered = torch.cat([torch.zeros_like(step[..., :1]), step[..., :-1]], 2)
            after = torch.maximum(after, on) + blank[:, time, None, None]
            on = torch.maximum(on, entered) + sounds[:, time]
            best = torch.maximum(best, on.masked_fill(ends, NEVER).amax(2))
        return best
