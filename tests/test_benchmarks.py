"""The test set of made-up words: nobody knows them, no two sound alike, and espeak-ng's phonemes are read rightly."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
import torch

from benchmarks.new_words import SPOKEN, NewWord, arpabet, hits, new_words, spoken_words, trained
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.text.phonemes import PHONEMES, lookup

COUNTS = {"name": 30, "brand": 20, "phrase": 20}


@pytest.mark.parametrize(
    ("ipa", "expected"),
    [
        ("tˈɑːɹkɪn", "T AA R K IH N"),
        ("tʃˈuːz dʒˈʌdʒ", "CH UW Z JH AH JH"),
        ("bˈʌʔn̩", "B AH T AH N"),
        ("lˈɪɾəl fˈaɪɚ", "L IH T AH L F AY ER"),
        ("ɡɹˈeɪt θˈɪŋ", "G R EY T TH IH NG"),
    ],
)
def test_ipa_becomes_arpabet(ipa: str, expected: str) -> None:
    assert " ".join(arpabet(ipa)) == expected and set(expected.split()) <= set(PHONEMES)


def test_a_sound_that_is_unknown_is_said() -> None:
    with pytest.raises(ValueError, match="'ʘ' in 'aʘ'"):
        arpabet("aʘ")


def test_a_hit_is_the_best_of_its_group() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.1, 0.2], [0.5, 0.9, 0.1, 0.2], [0.9, 0.1, 0.2, 0.3]])
    assert hits(scores, [0, 1, 3]).tolist() == [False, True, False]
    assert hits(scores, [0, 1, 3], {0: [0, 2], 2: [0, 2], 1: [1, 3], 3: [1, 3]}).tolist() == [True, True, True]


def test_spoken_words_are_of_every_kind_all_along() -> None:
    words = [NewWord(f"{kind}{n}", kind, (), ()) for kind in SPOKEN for n in range(100)]
    chosen = spoken_words(words, SPOKEN)
    assert Counter(word.kind for word in chosen) == SPOKEN and len(chosen) % 35 == 0
    for start in range(0, len(chosen), 35):
        assert min(Counter(word.kind for word in chosen[start : start + 35]).values()) >= 9


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_new_words_are_new() -> None:
    encoder = PhoneBindEncoder.from_weights(device="cpu")
    words = new_words(encoder, COUNTS, seed=1)
    assert Counter(word.kind for word in words) == COUNTS and len({word.text for word in words}) == sum(COUNTS.values())
    texts, sounds = trained()
    assert len(texts) > 10_000
    heard: set[str] = set()
    for word in words:
        assert word.text not in texts and (" " in word.text) == (word.kind == "phrase")
        assert word.kind == "phrase" or not lookup(word.text)
        said = {" ".join(word.ours), " ".join(word.espeaks)}
        assert not said & sounds and not said & heard
        heard |= said
    assert words == new_words(encoder, COUNTS, seed=1) != new_words(encoder, COUNTS, seed=2)
