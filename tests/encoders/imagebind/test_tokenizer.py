"""The tokenizer against the reference's tokens, and against the libraries the reference uses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kws_imagebind.encoders.imagebind import tokenizer
from tests.golden import formula_weights

GOLDEN = Path(__file__).parents[2] / "golden"


def test_tokens_are_the_references() -> None:
    expected = np.load(GOLDEN / "tokens.npz")["tokens"]
    assert np.array_equal(tokenizer.tokenize(formula_weights.TEXTS).numpy(), expected)


def test_vocabulary_is_the_published_file() -> None:
    path = tokenizer._vocabulary_path()
    digest, name = (path.parent / "SHA256SUMS").read_text().split()
    assert name == path.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_vocabulary_has_every_token_once() -> None:
    merged = list(tokenizer._merges().values())
    assert merged == list(range(512, tokenizer.START))
    assert sorted(tokenizer._byte_tokens()) == list(range(256))


def test_a_long_text_keeps_its_end_token() -> None:
    row = tokenizer.tokenize(["word " * 100])[0]
    assert row[0] == tokenizer.START
    assert row[-1] == tokenizer.END


def test_written_special_tokens_are_special() -> None:
    assert tokenizer.encode("yes<|endoftext|>") == [1958, tokenizer.END]


ALPHABET = st.sampled_from("aAbB'’s\t \n\r.,!?0٣²Ⅷ½<>&;#éß日本ﬁａ１–—…\u0301\u00a0😀_-\"“ſİ\x07\x85\x91\x81\x7f\ufeff")


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET, max_size=24))
@example("&amp;amp;amp;lt;b")  # a line without '<' is resolved to the end, and then twice
@example("<i>&amp;amp;amp;amp;lt;b\n&amp;amp;amp;amp;lt;b")
@example("&amp;amp;amp;lt;\r<")
@example("\x1b[36;44mblue")
def test_cleaning_agrees_with_ftfy(text: str) -> None:
    ftfy = pytest.importorskip("ftfy")
    import html

    config = ftfy.TextFixerConfig(fix_encoding=False)
    expected = html.unescape(html.unescape(ftfy.fix_text(text, config)))
    assert tokenizer.clean(text) == " ".join(expected.split()).lower()


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET, max_size=24))
def test_words_agree_with_the_published_pattern(text: str) -> None:
    regex = pytest.importorskip("regex")
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    cleaned = tokenizer.clean(text)
    assert list(tokenizer._words(cleaned)) == regex.findall(pattern, cleaned, regex.IGNORECASE)
