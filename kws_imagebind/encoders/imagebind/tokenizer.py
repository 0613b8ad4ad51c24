"""CLIP's byte-pair tokenizer: the text input of ImageBind.

Byte-pair encoding after Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909) over UTF-8 bytes, with the
vocabulary and the text cleaning of CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
"""

from __future__ import annotations

import gzip
import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from kws_imagebind.files import FileProblem, bundled_digest, check_bundled

CONTEXT = 77  # tokens of a text, start and end included
VOCABULARY = 49_408  # 256 bytes, the same bytes ending a word, 48,894 merges, start and end of text
START, END = VOCABULARY - 2, VOCABULARY - 1
FILE = "bpe_simple_vocab_16e6.txt.gz"

_BYTES = 256
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, _BYTES)]
_SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END}
_CONTRACTION = re.compile(r"'(?:re|ve|ll|[stmd])", re.IGNORECASE)
_TERMINAL_ESCAPE = re.compile(r"\x1b\[(?:\d*(?:;\d+)*)?[A-Za-z]")
_CURLY = {**dict.fromkeys("‘’‚‛ʼ", "'"), **dict.fromkeys("“”„‟", '"')}
_LIGATURES = {"ĳ": "ij", "Ĳ": "IJ", "ŉ": "ʼn"} | {
    letter: unicodedata.normalize("NFKC", letter) for letter in "Ǆǅǆﬀﬁﬂﬃﬄﬅﬆ"
}
_CONTROLS = [
    *range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F,  # C0
    *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD),  # shaping, byte-order mark, annotations
]  # fmt: skip
_REPLACED = str.maketrans(
    {
        **_CURLY,
        **_LIGATURES,
        # Half and full width forms (and the ideographic space) to the usual ones.
        **{chr(code): unicodedata.normalize("NFKC", chr(code)) for code in [0x3000, *range(0xFF01, 0xFFF0)]},
        **dict.fromkeys(map(chr, _CONTROLS)),
        # C1 controls are what text in Windows' code page 1252 looks like when it is read as Latin-1.
        **{chr(code): bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xA0)},
    }
)


def _vocabulary_path() -> Path:
    here = Path(__file__).parents[2]
    places = [here / "bpe" / FILE, here.parent / "bpe" / FILE]  # an installed wheel, a checkout
    for place in places:
        if place.is_file():
            return place
    raise FileProblem(f"CLIP's vocabulary {FILE} is missing in '{places[0].parent}'; install the package again")


def vocabulary_digest() -> str:
    """The SHA-256 of the vocabulary as it was released; the file is held to it when it is loaded.

    Raises:
        FileProblem: there is no vocabulary.
    """
    return bundled_digest(_vocabulary_path())


@cache
def _merges() -> dict[tuple[int, int], int]:
    """(left token, right token) -> merged token. The merges are ranked, and a lower token comes first."""
    letters = [chr(byte) for byte in _PRINTABLE] + [chr(_BYTES + i) for i in range(_BYTES - len(_PRINTABLE))]
    tokens = {letter: i for i, letter in enumerate(letters)}
    tokens |= {f"{letter}</w>": _BYTES + i for i, letter in enumerate(letters)}
    path = _vocabulary_path()
    check_bundled(path)
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = {}
    for token, line in enumerate(lines[1 : 1 + START - len(tokens)], start=len(tokens)):
        left, right = line.split()
        merges[tokens[left], tokens[right]] = tokens[left + right] = token
    return merges


@cache
def _byte_tokens() -> list[int]:
    """The token of each byte: CLIP numbers the printable ones first."""
    order = _PRINTABLE + sorted(set(range(_BYTES)) - set(_PRINTABLE))
    return [order.index(byte) for byte in range(_BYTES)]


@cache
def _word_tokens(word: str) -> tuple[int, ...]:
    """The tokens of one word: join the pair with the lowest merge until no pair has one."""
    codes = _byte_tokens()
    tokens = [codes[byte] for byte in word.encode("utf-8")]
    tokens[-1] += _BYTES  # the byte that ends a word is a token of its own
    merges = _merges()
    while len(tokens) > 1:
        best = min((merges.get(pair, VOCABULARY), pair) for pair in pairwise(tokens))
        merged, pair = best
        if merged == VOCABULARY:
            break
        tokens = _joined(tokens, pair, merged)
    return tuple(tokens)


def _joined(tokens: list[int], pair: tuple[int, int], merged: int) -> list[int]:
    out: list[int] = []
    i = 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            out.append(merged)
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


def clean(text: str) -> str:
    """A text as CLIP reads it: Unicode tidied, HTML entities resolved, one space between words, lower case.

    Unlike CLIP it does not guess at text that was decoded with the wrong code page ("cafÃ©").

    >>> clean("  Don’t\\n STOP &amp;amp; listen ")
    "don't stop & listen"
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a surrogate pair is not text
    text = html.unescape(html.unescape("\n".join(_tidied(text.split("\n")))))
    return " ".join(text.split()).lower()


def _tidied(lines: list[str]) -> Iterator[str]:
    """The repairs of the library CLIP calls (ftfy) that do not depend on guessing an encoding."""
    entities = True
    for line in lines:
        entities = entities and "<" not in line  # from the first tag on, the text is HTML already
        before = None
        while line != before:
            before = line
            if entities:
                line = html.unescape(line)
            line = _TERMINAL_ESCAPE.sub("", line)
            line = unicodedata.normalize("NFC", line.translate(_REPLACED))
        yield line


def _words(text: str) -> Iterator[str]:
    """Runs of letters, single digits, contractions, runs of anything else: what merges may not cross."""
    i = 0
    while i < len(text):
        end = i + 1
        special = next((name for name in _SPECIAL if text.startswith(name, i)), None)
        contraction = _CONTRACTION.match(text, i)
        kind = _kind(text[i])
        if special:
            end = i + len(special)
        elif contraction:
            end = contraction.end()
        elif kind in "L*":  # letters, symbols
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != " ":
            yield text[i:end]
        i = end


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)[0]
    return " " if letter.isspace() else category if category in "LN" else "*"


def encode(text: str) -> list[int]:
    """The tokens of one text, without start and end.

    >>> encode("a person saying yes")
    [320, 2533, 4455, 1958]
    """
    tokens: list[int] = []
    for word in _words(clean(text)):
        tokens.extend([_SPECIAL[word]] if word in _SPECIAL else _word_tokens(word))
    return tokens


def tokenize(texts: Sequence[str], context: int = CONTEXT) -> Tensor:
    """Texts as the rows that ImageBind's text tower takes: start, tokens, end, then zeros.

    A text that is too long is cut, and still ends with the end token.

    Args:
        texts: n texts.
        context: tokens of a row.

    Returns:
        (n, context) int64.

    >>> tokenize(["yes"])[0, :4].tolist()
    [49406, 1958, 49407, 0]
    """
    rows = torch.zeros(len(texts), context, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        tokens = [START, *encode(text)[: context - 2], END]
        row[: len(tokens)] = torch.tensor(tokens)
    return rows
