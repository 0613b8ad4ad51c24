"""Trains the letter-to-sound model on CMUdict and writes its weights.

    python -m kws_imagebind.training.letter_to_sound

The words are CMUdict's of letters and apostrophes, each with its first pronunciation, all weighing the same: what the
model is for are names, and frequent words are in the dictionary anyway. The 35 words of Speech Commands are left out.
One word in twenty, by a hash of its spelling, is held out of training; the weights' figures are those of these words,
and both go into the metadata of the file. As CMUdict holds whole families ("abandon", "abandoned"), a held-out word
often has a relative among the training words; that is so of every published figure on random splits of CMUdict too.

What the net owes to its parts: deaf to its own drafts, the same weights read 32.7 % of the held-out words wrong instead
of 27.1 %. Blocks of plain convolutions (kernel 3, as many parameters) learnt more slowly, with a training loss of 0.276
in the fourth epoch against 0.231, and were given up there.
"""

from __future__ import annotations

import argparse
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import edit_distance
from tqdm import tqdm

from kws_imagebind.metrics.intervals import Interval, wilson
from kws_imagebind.models.letter_to_sound import (
    BLANK,
    SPELLING,
    SYMBOLS,
    WEIGHTS,
    LetterToSound,
    letter_indices,
)
from kws_imagebind.models.storage import packed, unpacked
from kws_imagebind.text.phonemes import Pronunciation, entries
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS

SYMBOL_INDEX = {symbol: index for index, symbol in enumerate(SYMBOLS)}
BATCHES_OF_SIMILAR_LENGTH = 50  # are cut from as many batches' words at a time, so that little is padding

Dictionary = dict[str, list[Pronunciation]]


@dataclass(frozen=True)
class Recipe:
    """How the bundled weights were trained: about 15 minutes on one core."""

    epochs: int = 14
    batch: int = 256  # words
    learning_rate: float = 3e-3  # at its peak, after a tenth of the steps; it ends near zero
    weight_decay: float = 0.01
    drafts: float = 0.5  # the weight of the drafts' mean loss beside the answer's
    gradient_norm: float = 1.0
    seed: int = 0


def is_held_out(word: str) -> bool:
    """Whether a word is one of the twentieth that training never sees; depends on nothing but its spelling.

    >>> [word for word in ("lamp", "lantern", "kettle", "candle") if is_held_out(word)]
    []
    """
    return zlib.crc32(word.encode()) % 20 == 0


def dictionary() -> Dictionary:
    """Every word of CMUdict that is letters and apostrophes, with its pronunciations, the usual one first."""
    words: Dictionary = {}
    for word, pronunciation in entries():
        if SPELLING.fullmatch(word) and word not in SPEECH_COMMANDS_WORDS:
            words.setdefault(word, []).append(pronunciation)
    return words


def batches(words: Sequence[str], size: int, rng: random.Random) -> Iterator[list[str]]:
    """All words once in a random order, but each batch of similar lengths."""
    shuffled, cut = list(words), []
    rng.shuffle(shuffled)
    for start in range(0, len(shuffled), size * BATCHES_OF_SIMILAR_LENGTH):
        similar = sorted(shuffled[start : start + size * BATCHES_OF_SIMILAR_LENGTH], key=len)
        cut += [similar[first : first + size] for first in range(0, len(similar), size)]
    rng.shuffle(cut)
    yield from cut


def losses(model: LetterToSound, words: Sequence[str], pronunciations: Sequence[Pronunciation]) -> list[Tensor]:
    """The CTC loss of every draft, the answer's last, each a mean over the words' losses per phoneme."""
    letters, frames = letter_indices(words), model.frames_of(words)
    targets = torch.tensor([SYMBOL_INDEX[phoneme] for said in pronunciations for phoneme in said])
    lengths = torch.tensor([len(said) for said in pronunciations])
    with torch.autocast("cpu", torch.bfloat16):
        drafts = model(letters)
    # zero_infinity: the few abbreviations with more phonemes than frames ("fyi", "dfw") teach nothing.
    return [
        F.ctc_loss(draft.transpose(0, 1), targets, torch.tensor(frames), lengths, BLANK, zero_infinity=True)
        for draft in drafts
    ]


def train(words: Dictionary, recipe: Recipe) -> LetterToSound:
    """A model trained on the first pronunciation of each word."""
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    model = LetterToSound()
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * -(-len(words) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.1)
    progress = tqdm(total=steps, desc="letter-to-sound", unit="step")
    for _ in range(recipe.epochs):
        for batch in batches(list(words), recipe.batch, rng):
            *drafts, answer = losses(model, batch, [words[word][0] for word in batch])
            loss = answer + recipe.drafts * torch.stack(drafts).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
            optimizer.step()
            schedule.step()
            progress.set_postfix(loss=f"{answer.item():.3f}", refresh=False)
            progress.update()
    progress.close()
    return model.eval()


@dataclass(frozen=True)
class Errors:
    """What a model gets wrong. Any pronunciation that CMUdict lists for a word counts as right.

    Attributes:
        phonemes: edits to the nearest listed pronunciation, of its phonemes. The limits take phonemes for independent
            draws; errors come several to a word, so the true ones are somewhat wider.
        words: words with any edit, of all words.
    """

    phonemes: Interval
    words: Interval

    def __str__(self) -> str:
        return f"phoneme error rate {self.phonemes}; word error rate {self.words}"


def evaluate(model: LetterToSound, words: Dictionary) -> Errors:
    """The error rates of a model on words it should not have seen."""
    edits = phonemes = wrong = 0
    for guess, listed in zip(model.pronounce_all(list(words)), words.values(), strict=True):
        distance, length = min((edit_distance(guess, said), len(said)) for said in listed)
        edits, phonemes, wrong = edits + distance, phonemes + length, wrong + (distance > 0)
    # A broken model can need more edits than there are phonemes; no proportion is above one.
    return Errors(wilson(min(edits, phonemes), phonemes), wilson(wrong, len(words)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help="passes over the words (%(default)s)")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="where the weights go (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the batches are too small to share
    words = dictionary()
    seen = {word: listed for word, listed in words.items() if not is_held_out(word)}
    held_out = {word: listed for word, listed in words.items() if is_held_out(word)}
    model = train(seen, Recipe(epochs=options.epochs))
    model.load_state_dict(unpacked(packed(model.state_dict(), "int8")))  # judged as the file will hold it
    errors = evaluate(model, held_out)
    model.save(options.output, {"trained_on": f"{len(seen)} words of CMUdict", "held_out": str(errors)})
    print(f"{options.output}: trained on {len(seen):,} words; of those held out: {errors}")


if __name__ == "__main__":
    main()
