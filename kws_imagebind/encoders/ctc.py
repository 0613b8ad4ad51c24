"""Any CTC model of transformers as a `Scorer`: how likely is each word, given the clip (Graves et al. 2006, ICML).

The score is log P(labels of the word | clip), summed over all alignments. It is a posterior of whole label sequences,
so words of different lengths and different clips are on one scale without any correction; `per_label` divides it by the
number of labels, as is usual where long and short phrases are ranked against each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import EncoderError, check_waveforms
from kws_imagebind.encoders.hub import (
    Checkpoint,
    choose,
    loading,
    needs,
    precision_name,
    running,
    sampling_rate,
)
from kws_imagebind.encoders.scorer import WithoutVectors
from kws_imagebind.models.letter_to_sound import LetterToSound
from kws_imagebind.text.keywords import label, spoken
from kws_imagebind.text.phonemes import PHONEMES, Pronunciation, combine, is_arpabet, lookup, parse_slashed, words

EXAMPLE = "facebook/wav2vec2-base-960h"
PREPROCESSING = "ctc-1"  # to be changed with anything that changes scores
IMPOSSIBLE = -1e4  # nats, of a word with more labels than the clip has frames
SHORTEST = 0.1  # s; the convolutions need a few frames

# ARPAbet in the International Phonetic Alphabet: spellings that phoneme models use, the usual one first.
IPA: dict[str, tuple[str, ...]] = {
    "AA": ("ɑː", "ɑ", "ɒ", "a"), "AE": ("æ", "a"), "AH": ("ʌ", "ə", "ɐ"), "AO": ("ɔː", "ɔ", "ɑː", "ɒ"),
    "AW": ("aʊ", "aw", "au"), "AY": ("aɪ", "aj", "ai"), "B": ("b",), "CH": ("tʃ", "t͡ʃ", "ʧ"), "D": ("d",),
    "DH": ("ð",), "EH": ("ɛ", "e"), "ER": ("ɚ", "ɝ", "ɜː", "əɹ", "ər"), "EY": ("eɪ", "ej", "e"), "F": ("f",),
    "G": ("ɡ", "g"), "HH": ("h",), "IH": ("ɪ", "i"), "IY": ("iː", "i"), "JH": ("dʒ", "d͡ʒ", "ʤ"), "K": ("k",),
    "L": ("l",), "M": ("m",), "N": ("n",), "NG": ("ŋ",), "OW": ("oʊ", "əʊ", "ow", "o"), "OY": ("ɔɪ", "oj"),
    "P": ("p",), "R": ("ɹ", "r"), "S": ("s",), "SH": ("ʃ",), "T": ("t",), "TH": ("θ",), "UH": ("ʊ", "u"),
    "UW": ("uː", "u"), "V": ("v",), "W": ("w",), "Y": ("j",), "Z": ("z",), "ZH": ("ʒ",),
}  # fmt: skip

Spell = Callable[[str], list[list[int]]]


class CtcScorer(WithoutVectors):
    """A CTC checkpoint as a `Scorer`.

    Its vocabulary decides how words are read: as letters, as ARPAbet, or as phonemes of the International Phonetic
    Alphabet, which come from CMUdict or letter-to-sound rules. A word scores as its likeliest pronunciation.
    """

    padding = "none; clips under 0.1 s are filled with silence"

    def __init__(
        self, checkpoint: Checkpoint, model: Any, extractor: Any, vocabulary: dict[str, int], blank: int,
        device: torch.device, per_label: bool = False,
    ) -> None:  # fmt: skip
        self._model, self._extractor, self._blank = model.to(device).eval(), extractor, blank
        self._device, self._dtype, self._per_label = device, next(model.parameters()).dtype, per_label
        self.name = f"ctc:{checkpoint.name}"
        self.sample_rate = sampling_rate(checkpoint, extractor)
        self.precision = precision_name(self._dtype)
        suffix = "-per-label" if per_label else ""
        self.fingerprint = f"{PREPROCESSING}-{checkpoint.fingerprint}-{self.precision}{suffix}"
        self.card = checkpoint.card(self.name, model, self.sample_rate)
        self._spell = speller(checkpoint.name, vocabulary, blank)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: str | None = None, device: str = "auto", precision: str = "auto", per_label: bool = False
    ) -> CtcScorer:
        """The scorer of a checkpoint.

        Args:
            checkpoint: a name on the Hugging Face hub ("facebook/wav2vec2-base-960h"), or a folder.
            device: "auto" takes an accelerator where there is one.
            precision: "fp32", which is "auto", "bf16", or "fp16" (not on a CPU).
            per_label: divide a word's score by its number of labels.

        Raises:
            EncoderError: transformers is not installed, or the checkpoint is missing or has no CTC head.
        """
        try:
            from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer
        except ModuleNotFoundError as error:
            raise needs("transformers", "ctc", "transformers") from error
        chosen = choose("ctc", checkpoint, EXAMPLE, device, precision)
        found = chosen.checkpoint
        with loading(found):
            config = chosen.load(AutoConfig)
            if not any("CTC" in each for each in config.architectures or ()):
                kind = ", ".join(config.architectures or (config.model_type,))
                raise EncoderError(
                    f"checkpoint '{found.name}' is a {kind} without a CTC head; expected a recogniser such as {EXAMPLE}"
                )
            extractor = chosen.load(AutoFeatureExtractor)
            vocabulary = _vocabulary(found, AutoTokenizer)
            blank = config.pad_token_id if config.pad_token_id is not None else 0
            model = chosen.model(AutoModelForCTC)
        return cls(found, model, extractor, vocabulary, blank, chosen.device, per_label)

    @torch.inference_mode()
    def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
        """Log likelihoods in nats (per label, if so asked).

        Raises:
            EncoderError: a waveform is not one, a word has no labels in the vocabulary, or memory ran out.
        """
        check_waveforms(waveforms)
        spelt = [(index, labels) for index, keyword in enumerate(keywords) for labels in self._spell(keyword)]
        scores = torch.full((len(waveforms), len(keywords)), IMPOSSIBLE)
        least = round(SHORTEST * self.sample_rate)
        by_length: dict[int, list[int]] = defaultdict(list)  # padding would change what group norms see
        for position, waveform in enumerate(waveforms):
            by_length[max(least, len(waveform))].append(position)
        for length, positions in by_length.items():
            clips = [F.pad(waveforms[position], (0, length - len(waveforms[position]))) for position in positions]
            with running(self.name):
                likely = self._log_probabilities(clips)
            scores[positions] = self._scored(likely, spelt, len(keywords))
        return scores

    def _log_probabilities(self, clips: Sequence[Tensor]) -> Tensor:
        """(clips, frames, vocabulary) float32 on the CPU."""
        heard = self._extractor([clip.numpy() for clip in clips], sampling_rate=self.sample_rate, return_tensors="pt")
        key = next(name for name in ("input_values", "input_features") if name in heard)
        logits = self._model(**{key: heard[key].to(self._device, self._dtype)}).logits
        return logits.float().log_softmax(-1).cpu()

    def _scored(self, likely: Tensor, spelt: Sequence[tuple[int, list[int]]], keywords: int) -> Tensor:
        """(clips, keywords) the best of each keyword's spellings."""
        clips, frames, _ = likely.shape
        best = torch.full((clips, keywords), IMPOSSIBLE)
        for index, labels in spelt:
            target = torch.tensor(labels).expand(clips, -1)
            loss = F.ctc_loss(
                likely.transpose(0, 1), target, torch.full((clips,), frames), torch.full((clips,), len(labels)),
                blank=self._blank, reduction="none",
            )  # fmt: skip
            found = -loss / (len(labels) if self._per_label else 1)
            best[:, index] = torch.maximum(best[:, index], found.clamp(min=IMPOSSIBLE))
        return best


def _vocabulary(checkpoint: Checkpoint, auto_tokenizer: Any) -> dict[str, int]:
    """Labels and their numbers, without the phonemiser that some tokenisers start."""
    import json

    path = checkpoint.folder / "vocab.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        nested = found.get("eng") if found and all(isinstance(value, dict) for value in found.values()) else None
        return nested or found
    return dict(auto_tokenizer.from_pretrained(checkpoint.folder).get_vocab())


def speller(name: str, vocabulary: dict[str, int], blank: int) -> Spell:
    """How a CTC vocabulary writes words: a function from a keyword to the label sequences that stand for it.

    >>> letters = {"<pad>": 0, "|": 1, **{chr(65 + i): i + 2 for i in range(26)}}
    >>> speller("toy", letters, 0)("go on")
    [[8, 16, 1, 16, 15]]

    Raises:
        EncoderError: the vocabulary is neither letters nor phonemes.
    """
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    for turn in (str.lower, str.upper):
        if all(turn(letter) in vocabulary for letter in alphabet) and "ʃ" not in vocabulary:
            return _letters(vocabulary, turn)
    for turn in (str.upper, str.lower):
        if sum(turn(phoneme) in vocabulary for phoneme in PHONEMES) >= len(PHONEMES) - 3:
            return _phonemes(name, vocabulary, {phoneme: (turn(phoneme),) for phoneme in PHONEMES})
    if sum(symbol in vocabulary for symbol in ("ʃ", "ŋ", "ɛ", "ɪ", "ð", "θ")) >= 4:
        return _phonemes(name, vocabulary, IPA)
    some = ", ".join(repr(each) for each in list(vocabulary)[:8])
    raise EncoderError(
        f"the vocabulary of checkpoint '{name}' is neither English letters nor ARPAbet nor IPA; it begins with {some}"
    )


def _letters(vocabulary: dict[str, int], turn: Callable[[str], str]) -> Spell:
    def spell(keyword: str) -> list[list[int]]:
        # Letters cannot write a pronunciation: the word itself stands for it.
        text = label(keyword) if is_arpabet(spoken(keyword)) else spoken(keyword)
        between = [vocabulary["|"]] if "|" in vocabulary else []
        labels: list[int] = []
        for word in words(text):
            labels += between if labels else []
            labels += [vocabulary[turn(letter)] for letter in word if turn(letter) in vocabulary]
        return [labels]

    return spell


def _phonemes(name: str, vocabulary: dict[str, int], spellings: dict[str, tuple[str, ...]]) -> Spell:
    rules = LetterToSound.load()

    def number(phoneme: str) -> list[int]:
        for symbols in spellings[phoneme]:
            if symbols in vocabulary:
                return [vocabulary[symbols]]
            if len(symbols) > 1 and all(symbol in vocabulary for symbol in symbols):
                return [vocabulary[symbol] for symbol in symbols]
        raise EncoderError(f"the vocabulary of checkpoint '{name}' has no symbol for the phoneme {phoneme}")

    def pronounced(word: str) -> tuple[Pronunciation, ...]:
        return lookup(word) or (rules.pronounce(word),)

    def spell(keyword: str) -> list[list[int]]:
        text = spoken(keyword)
        said = parse_slashed(text) if is_arpabet(text) else combine([pronounced(word) for word in words(text)], text)
        return [[label for phoneme in each for label in number(phoneme)] for each in said]

    return spell
