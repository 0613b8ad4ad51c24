"""Letters to phonemes, for the words CMUdict does not have: names, brands, inventions.

A word's letters pass a few 1-D convolution blocks; each letter then emits two frames of phoneme logits, and CTC reads
them (Graves et al. 2006, ICML). Nothing is generated step by step, so a word costs one pass of a 0.4 M parameter net.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.files import check_bundled, whole
from kws_imagebind.models.storage import Storage, packed, unpacked
from kws_imagebind.text.phonemes import PHONEMES, Pronunciation, PronunciationError

WEIGHTS = Path(__file__).parent.parent / "weights" / "letter_to_sound.safetensors"
MAX_LETTERS = 64  # "pneumonoultramicroscopicsilicovolcanoconiosis" has 45

BLANK = 0  # of CTC
SYMBOLS = ("", *PHONEMES)  # what each output class spells, the blank first

PADDING, EDGE = 0, 1  # EDGE stands before the first letter and after the last
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
LETTER_INDEX = {letter: index for index, letter in enumerate(LETTERS, start=EDGE + 1)}

SPELLING = re.compile(r"'*[a-z][a-z']*")  # what can be pronounced
_BATCH = 256  # words a pass


@dataclass(frozen=True)
class LetterToSoundConfig:
    """Sizes of the network; the defaults are those of the bundled weights."""

    width: int = 128
    blocks: int = 6
    kernel: int = 7  # letters
    expansion: int = 2  # of a block's hidden layer, times the width
    frames: int = 2  # of CTC per letter: 'x' is K S, and boundaries carry the M AH K of 'mc'
    dropout: float = 0.1


class Block(nn.Module):
    """Each letter's neighbours, weighted channel by channel, then a two-layer net; both added to what came in.

    It is a ConvNeXt block (Liu et al. 2022, arXiv:2201.03545) in one dimension. The depthwise convolution is written as
    a sum of shifts, which on a CPU and words this short takes 30 % off a block's training step.
    """

    def __init__(self, config: LetterToSoundConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.expansion
        self.taps = nn.Parameter(torch.randn(config.kernel, width) / config.kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # (B, L, width), (B, L, 1) -> (B, L, width)
        reach = len(self.taps) // 2
        # Padding becomes zero like what lies outside a word: a word sounds the same in any batch.
        padded = F.pad(x * mask, (0, 0, reach, reach))
        h = self.bias.expand_as(x)
        for shift, tap in enumerate(self.taps):
            h = torch.addcmul(h, padded[:, shift : shift + x.shape[1]], tap)
        return x + self.dropout(self.contract(F.gelu(self.expand(self.norm(h)))))


class LetterToSound(nn.Module):
    """Pronounces any string of letters. `LetterToSound.load()` gives the trained one."""

    def __init__(self, config: LetterToSoundConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LetterToSoundConfig()
        classes = config.frames * len(SYMBOLS)
        self.letters = nn.Embedding(len(LETTERS) + EDGE + 1, config.width, padding_idx=PADDING)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.spell = nn.Linear(config.width, classes)
        self.hear = nn.Linear(classes, config.width)

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> LetterToSound:
        """The trained model in a file that `save` wrote, in float32.

        Raises:
            FileProblem: the bundled file is missing or damaged.
        """
        if path == WEIGHTS:
            check_bundled(path)
        with safe_open(path, "pt") as file:
            config = LetterToSoundConfig(**json.loads(file.metadata()["config"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        with torch.random.fork_rng(devices=[]):  # first weights are random; leave the caller's random numbers alone
            model = cls(config)
        model.load_state_dict(unpacked(tensors))
        return model.eval()

    def save(self, path: Path, notes: dict[str, str], storage: Storage = "int8") -> None:
        """Writes safetensors with the sizes and `notes` in the metadata, whole or not at all."""
        with whole(path) as part:
            save_file(
                packed(self.state_dict(), storage), part, metadata={"config": json.dumps(asdict(self.config)), **notes}
            )
            part.chmod(0o644)  # safetensors keeps its files to their owner

    def forward(self, letters: Tensor) -> list[Tensor]:
        """Letter indices (batch, length) -> drafts of log-probabilities, each (batch, length * frames, symbols).

        One comes after every second block. The last is the answer; each earlier one is read by the blocks after it, so
        that a letter knows what its neighbours decided (self-conditioned CTC, Nozaki & Komatsu 2021, arXiv:2104.02724).
        Training scores them all.
        """
        mask = (letters != PADDING)[..., None]
        x = self.letters(letters)
        drafts = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, mask)
            if number % 2 == 0 or number == len(self.blocks):
                logits = self.spell(self.norm(x)).unflatten(-1, (self.config.frames, len(SYMBOLS)))
                drafts.append(logits.float().log_softmax(-1))
                if number < len(self.blocks):
                    x = x + self.hear(drafts[-1].exp().flatten(2))
        return [draft.flatten(1, 2) for draft in drafts]

    def pronounce_all(self, words: Sequence[str]) -> list[Pronunciation]:
        """One pronunciation for each of several words, each the same as if it were alone.

        Args:
            words: lower-case words of the letters a-z and apostrophes, as `phonemes.words` gives them.

        Raises:
            PronunciationError: a word has other characters, no letter, or more than `MAX_LETTERS`.
        """
        for word in words:
            _check(word)
        return _lone_thread().submit(self._pronounce_all, words).result()

    @torch.no_grad()
    def _pronounce_all(self, words: Sequence[str]) -> list[Pronunciation]:
        found = []
        for start in range(0, len(words), _BATCH):
            batch = words[start : start + _BATCH]
            answers = self(letter_indices(batch))[-1]
            found += [_read(answer[:end]) for answer, end in zip(answers, self.frames_of(batch), strict=True)]
        return found

    def pronounce(self, word: str) -> Pronunciation:
        """The pronunciation of one word, never empty; see `pronounce_all`.

        >>> LetterToSound.load().pronounce("blorptan")
        ('B', 'L', 'AO', 'R', 'P', 'T', 'AH', 'N')
        """
        return self.pronounce_all([word])[0]

    def frames_of(self, words: Sequence[str]) -> list[int]:
        """How many CTC frames belong to each word, both edges included."""
        return [self.config.frames * (len(word) + 2) for word in words]


_starting = threading.Lock()
_lone: list[ThreadPoolExecutor] = []  # one at most


def _lone_thread() -> ThreadPoolExecutor:
    """A thread in which torch computes alone, without the help of others.

    Sharing out work of microseconds costs more than it brings: on a busy machine each operation waits up to 20 ms for
    its helpers, which makes a word take 20 to 50 ms instead of 2 to 5. How many helpers there are is a setting of each
    thread, which `torch.set_num_threads` changes for the calling thread and for those that start later. So it is set
    once, in a thread of its own, and what threads start with is put back at once. Handing a word over takes 0.1 ms.
    """
    with _starting:
        if not _lone:
            lone, usual = ThreadPoolExecutor(1, "letter-to-sound"), torch.get_num_threads()
            lone.submit(torch.get_num_threads).result()  # the first question takes over the process's setting
            lone.submit(torch.set_num_threads, 1).result()
            torch.set_num_threads(usual)
            _lone.append(lone)
        return _lone[0]


def _forget_threads() -> None:
    """A forked process has none of its parent's threads."""
    global _starting
    _starting = threading.Lock()
    _lone.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def letter_indices(words: Sequence[str]) -> Tensor:
    """Words as one (batch, longest + 2) int64 tensor, an edge at either end, padded with 0.

    >>> letter_indices(["ad", "b"]).tolist()
    [[1, 2, 5, 1], [1, 3, 1, 0]]
    """
    rows = [torch.tensor([EDGE, *(LETTER_INDEX[letter] for letter in word), EDGE]) for word in words]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)


def _read(log_probabilities: Tensor) -> Pronunciation:
    """The best CTC path of (frames, symbols): repeats are one phoneme, blanks none.

    A prefix beam search of width 8 read 4 of the 6,173 held-out words otherwise and as many of them wrong.
    """
    path = log_probabilities.argmax(-1).unique_consecutive().tolist()
    said = tuple(SYMBOLS[symbol] for symbol in path if symbol != BLANK)
    if said:
        return said
    loudest = log_probabilities[:, BLANK + 1 :].amax(0).argmax()  # a word without a sound cannot be spotted
    return (SYMBOLS[BLANK + 1 + int(loudest)],)


def _check(word: str) -> None:
    if not SPELLING.fullmatch(word):
        raise PronunciationError(f"'{word[:40]}' is not a lower-case word of the letters a-z and apostrophes")
    if len(word) > MAX_LETTERS:
        raise PronunciationError(f"'{word[:40]}…' has {len(word)} letters; a word has at most {MAX_LETTERS}")
