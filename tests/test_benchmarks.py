"""The test set of made-up words: nobody knows them, no two sound alike, and espeak-ng's phonemes are read rightly.

And memory is measured for the process that used it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.memory import peak, write
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux keeps each process's own peak")
def test_a_process_does_not_inherit_its_parents_peak_memory() -> None:
    ballast = np.ones(300_000_000, np.uint8)
    code = "from benchmarks.memory import peak; import resource; "
    code += "print(peak() // 10**6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert 10 < int(out[0]) < 200 < peak() // 10**6 and ballast[-1] == 1


def test_a_recording_is_made_as_long_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 3.5, rate=8_000, channels=2)
    samples, rate = soundfile.read(path)
    assert rate == 8_000 and samples.shape == (28_000, 2) and np.abs(samples).max() > 0.05
