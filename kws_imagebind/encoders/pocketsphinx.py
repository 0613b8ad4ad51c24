"""pocketsphinx as a `Scorer`: the classical recogniser, whose package brings an English acoustic model.

Its keyword spotter holds each word against a loop of all phonemes and gives the ratio of the two likelihoods: one pass
over a clip scores every word, on one scale for all clips, so ranks and thresholds (open set, pairs) work as well.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import EncoderError, check_waveforms
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.hub import needs
from kws_imagebind.encoders.scorer import WithoutVectors
from kws_imagebind.models.letter_to_sound import LetterToSound
from kws_imagebind.text.keywords import spoken
from kws_imagebind.text.phonemes import Pronunciation, combine, is_arpabet, lookup, parse_slashed, words

if TYPE_CHECKING:
    from pocketsphinx import Decoder

# Of entering a phoneme of the background loop; with the package's 0.1 the loop beats long words. Chosen on the 578
# validation clips of Speech Commands at hand, among 35 words: see docs/encoders.md.
PHONE_LOOP_PROBABILITY = 1e-20
THRESHOLD = 1e-300  # of a detection: lower than any score, so that every word of a clip gets one
MISSING = 10.0  # nats below the clip's lowest score for a word of which the beam lost every path
SCORE_SHIFT = 1 << 10  # sphinxbase's SENSCR_SHIFT: scores are kept in units of 1,024 steps of its log base
SHORTEST = 0.1  # s: below it there are too few frames for any word, and the clip is padded
PREPROCESSING = "kws-2"  # to be changed with anything that changes scores


class PocketSphinx(WithoutVectors):
    """The keyword spotter of pocketsphinx with its bundled English model.

    A word is read as pocketsphinx's own dictionary has it; one that it lacks is read as CMUdict has it, or else as
    letter-to-sound rules guess it. ARPAbet between slashes takes precedence. A word scores as its best pronunciation.

    Args:
        device: "auto" or "cpu", which is where it runs.

    Raises:
        EncoderError: the package is not installed, or another device is asked for.
    """

    name = "pocketsphinx"
    sample_rate = 16_000
    precision = "int"
    padding = "none"
    card = Card(
        name="pocketsphinx",
        url="https://github.com/cmusphinx/pocketsphinx",
        licence="BSD-2-Clause",
        parameters=None,
        bytes=None,
        sample_rate=16_000,
        trained_on=None,  # "en-us": its documentation names no corpora
        citation="Huggins-Daines et al. 2006, ICASSP",
    )

    def __init__(self, device: str = "auto") -> None:
        if device not in ("auto", "cpu"):
            raise EncoderError(f"pocketsphinx runs on the CPU only, not on '{device}'; leave --device out")
        try:
            import pocketsphinx
        except ModuleNotFoundError as error:
            raise needs("pocketsphinx", "pocketsphinx", "pocketsphinx") from error
        self._package = pocketsphinx
        self._model = Path(pocketsphinx.get_model_path("en-us"))
        self.fingerprint = f"pocketsphinx-{version('pocketsphinx')}-{PREPROCESSING}-{PHONE_LOOP_PROBABILITY:g}"
        size = sum(path.stat().st_size for path in (self._model / "en-us").rglob("*") if path.is_file())
        self.card = replace(self.card, bytes=size)
        self._ready: tuple[tuple[str, ...], Decoder, dict[str, int]] | None = None

    def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
        """Log likelihood ratios of each keyword and a loop of phonemes, in nats.

        Raises:
            EncoderError: a waveform is not one.
            PronunciationError: a keyword cannot be pronounced.
        """
        check_waveforms(waveforms)
        decoder, owners = self._listening_for(tuple(keywords))
        rows = [self._row(decoder, owners, waveform, len(keywords)) for waveform in waveforms]
        return torch.tensor(rows, dtype=torch.float32).view(len(rows), len(keywords))

    def pronunciations(self, text: str) -> tuple[Pronunciation, ...]:
        """Each way to say a text, the usual one first.

        Raises:
            PronunciationError: the text has no letters, has digits, is too long, or is no ARPAbet between its slashes.
        """
        if is_arpabet(text):
            return parse_slashed(text)
        return combine([self._word(word) for word in words(text)], text)

    def _word(self, word: str) -> tuple[Pronunciation, ...]:
        return tuple(self._own(word)) or lookup(word) or (self._letter_to_sound.pronounce(word),)

    def _own(self, word: str) -> Iterator[Pronunciation]:
        """What pocketsphinx's dictionary has: "tomato", "tomato(2)", ..."""
        number = 1
        while phonemes := self._dictionary.get(word if number == 1 else f"{word}({number})"):
            yield tuple(phonemes.split())
            number += 1

    @cached_property
    def _dictionary(self) -> dict[str, str]:
        lines = (self._model / "cmudict-en-us.dict").read_text(encoding="utf-8").splitlines()
        return dict(line.split(maxsplit=1) for line in lines if line.strip())

    @cached_property
    def _letter_to_sound(self) -> LetterToSound:
        return LetterToSound.load()

    def _listening_for(self, keywords: tuple[str, ...]) -> tuple[Decoder, dict[str, int]]:
        """A decoder with these keywords, kept for the next batch, and the keyword of each of its phrases."""
        if self._ready and self._ready[0] == keywords:
            return self._ready[1:]
        entries = [
            (f"keyword{index}x{number}", index, said)
            for index, keyword in enumerate(keywords)
            for number, said in enumerate(self.pronunciations(spoken(keyword)))
        ]
        with tempfile.TemporaryDirectory() as folder:
            dictionary, phrases = Path(folder) / "words.dict", Path(folder) / "words.kws"
            dictionary.write_text("".join(f"{name} {' '.join(said)}\n" for name, _, said in entries), encoding="ascii")
            phrases.write_text("".join(f"{name} /{THRESHOLD:g}/\n" for name, _, _ in entries), encoding="ascii")
            decoder = self._package.Decoder(
                hmm=str(self._model / "en-us"), dict=str(dictionary), lm=None, kws_plp=PHONE_LOOP_PROBABILITY,
                kws_delay=1, pl_window=0, cmn="batch", loglevel="FATAL",
            )  # fmt: skip
            decoder.add_kws("keywords", str(phrases))
            decoder.activate_search("keywords")
        owners = {name: index for name, index, _ in entries}
        self._ready = keywords, decoder, owners
        return decoder, owners

    def _row(self, decoder: Decoder, owners: dict[str, int], waveform: Tensor, count: int) -> list[float]:
        padded = F.pad(waveform, (0, max(0, round(SHORTEST * self.sample_rate) - len(waveform))))
        samples = (padded.clamp(-1, 1) * 32_767).round().to(torch.int16)
        decoder.reinit_feat()  # otherwise the mean of the clips before is subtracted, and their order matters
        decoder.start_utt()
        decoder.process_raw(samples.numpy().tobytes(), no_search=False, full_utt=True)
        decoder.end_utt()
        best: dict[int, float] = {}
        for found in decoder.seg() or ():
            index = owners[found.word.strip()]
            # The package hands the shifted score back as a probability.
            best[index] = max(best.get(index, -math.inf), SCORE_SHIFT * math.log(found.prob))
        lowest = min(best.values(), default=0.0) - MISSING
        return [best.get(index, lowest) for index in range(count)]
