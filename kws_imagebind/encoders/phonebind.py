"""The bundled encoder: spots any English word or short phrase that it can pronounce."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from kws_imagebind.audio.signal import fit
from kws_imagebind.encoders.base import PRECISIONS, EncoderError, check_waveforms, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.confidence import SUFFIX, Confidence, ConfidenceError, SpeechConfidence, remedy
from kws_imagebind.files import FileProblem, bundled_digest, check_bundled, sha256
from kws_imagebind.models import int8
from kws_imagebind.models.ensemble import Ensemble, load_members
from kws_imagebind.models.letter_to_sound import WEIGHTS as LETTER_TO_SOUND
from kws_imagebind.models.letter_to_sound import LetterToSound
from kws_imagebind.models.phonebind import SAMPLES, PhoneBind, at_full_scale, load, quantise
from kws_imagebind.text.phonemes import (
    PHONEMES,
    TABLE,
    Pronunciation,
    combine,
    is_arpabet,
    lookup,
    parse_slashed,
    words,
)

WEIGHTS = Path(__file__).parents[1] / "weights" / "phonebind.safetensors"
FURTHER = WEIGHTS.with_name("phonebind-large.safetensors")  # what `phonebind-large` has beside them
# To be changed with anything on the way from a file to the tower: reading, resampling, `fit`, the front end.
PREPROCESSING = "phonebind-1"

Read = TypeVar("Read")


class PhoneBindEncoder:
    """PhoneBind as an `Encoder`.

    A recording shorter than a second is centred in silence; the loudest second of a longer one is heard. A text is read
    as the word or phrase itself: CMUdict's pronunciation, a letter-to-sound guess for a word that CMUdict lacks, or
    ARPAbet between slashes.
    """

    name = "phonebind"
    sample_rate = 16_000
    default_template = "{}"
    window = SAMPLES / 16_000  # s
    card = Card(
        name="phonebind",
        url="kws_imagebind/weights/MODEL_CARD.md",
        licence="MIT",
        sample_rate=16_000,
        trained_on=("synthetic speech", "speechocean762", "LibriSpeech train-clean-100", "Picovoice benchmarks",
                    "custom-speech-commands-dataset", "Mycroft Precise community data", "CMU AN4",
                    "alphanumeric-audio-dataset"),
        citation="this project, fourth release",
    )  # fmt: skip
    padding = "clips under 1 s centred in silence, the loudest second of longer ones"
    weights = WEIGHTS  # the bundled ones

    def __init__(
        self, model: PhoneBind | Ensemble, fingerprint: str, device: torch.device, precision: str = "fp32"
    ) -> None:
        self._model = model.to(device).eval()
        self._weights: tuple[Path, str] | None = None  # and their digest
        self.guesses: dict[str, str] = {}  # words that CMUdict lacks, and how they are read
        self._device, self._dtype, self.precision = device, PRECISIONS.get(precision, torch.float32), precision
        if precision == "int8":
            for member in model.members if isinstance(model, Ensemble) else [model]:
                quantise(member)
        self.dim = model.dim
        self.front_end = replace(model.front_ends[0], mels=sum(each.mels for each in model.front_ends))
        self.spelled = (-(-self.front_end.frames(SAMPLES) // 3), len(PHONEMES) + 1)
        suffix = {"fp32": "", "int8": f"-int8-{int8.SCHEME}"}.get(precision, f"-{precision}")
        self.audio_fingerprint = f"{fingerprint}{suffix}"
        self.fingerprint = f"{self.audio_fingerprint}-{reading_fingerprint()}"

    @classmethod
    def from_weights(
        cls, weights: str | os.PathLike[str] | None = None, device: str = "auto", precision: str = "auto"
    ) -> PhoneBindEncoder:
        """The encoder of a safetensors file.

        Args:
            weights: the file, or the folder that holds one of the bundled one's name; by default the bundled one.
            device: "auto" takes an accelerator where there is one.
            precision: "fp32", which is "auto", "bf16", "int8" (only on a CPU) or "fp16" (not on a CPU, where it takes
                five times as long). The front end and the prompts' tower stay in float32.

        Raises:
            EncoderError: unknown precision or device, or a file is missing, damaged or not a PhoneBind.
        """
        chosen = resolve_device(device)
        precision = _resolve_precision(cls.name, precision, chosen)
        path = cls.weights if weights is None else Path(weights)
        path = path / cls.weights.name if path.is_dir() else path
        model, digest, size = cls._read(path)
        parameters = sum(each.numel() for each in model.parameters())
        encoder = cls(model, f"{PREPROCESSING}-{digest[:16]}", chosen, precision)
        encoder.card = replace(cls.card, parameters=parameters, bytes=size)
        encoder._weights = (path, digest)
        return encoder

    @classmethod
    def _read(cls, path: Path) -> tuple[PhoneBind | Ensemble, str, int]:
        """The model of a file, its digest, and its bytes."""
        model, digest = _checked(path, load)
        return model, digest, path.stat().st_size

    @property
    def confidence_file(self) -> Path:
        """Where what its scores are worth is kept: beside its weights.

        Raises:
            EncoderError: it was not loaded from a file.
        """
        return self._loaded[0].with_suffix(SUFFIX)

    @property
    def digest(self) -> str:
        """SHA-256 of its weights, of all files that they are in.

        Raises:
            EncoderError: it was not loaded from a file.
        """
        return self._loaded[1]

    @property
    def _loaded(self) -> tuple[Path, str]:
        if self._weights is None:
            raise EncoderError(
                f"this {self.name} was not loaded from a file, so what its scores are worth is not known"
            )
        return self._weights

    def confidence(self) -> Confidence:
        """What its cosines are worth, as was fitted for its weights.

        Raises:
            EncoderError: it was never fitted, or the file is damaged.
        """
        try:
            return Confidence.read(self.confidence_file, self.digest)
        except (ConfidenceError, FileProblem) as error:
            raise EncoderError(str(error)) from error

    def speech_confidence(self) -> SpeechConfidence | None:
        """What cosines and spellings are worth in running speech; None if that was not fitted for its weights.

        Raises:
            EncoderError: the file is damaged.
        """
        self.confidence()  # which checks that the file is for these weights
        try:
            return SpeechConfidence.read(self.confidence_file)
        except ConfidenceError as error:
            raise EncoderError(str(error)) from error

    def rejection(self) -> tuple[float, float]:
        """From which thresholds on a clip says nothing or another word, as was fitted for its weights.

        Raises:
            EncoderError: it never was.
        """
        self.confidence()  # which checks that the file is for these weights
        try:
            found = json.loads(self.confidence_file.read_text(encoding="utf-8"))["rejection"]
            return float(found["silence"]), float(found["unknown"])
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(
                f"'{self.confidence_file}' holds no thresholds for silence and unknown words; "
                f"{remedy(self.confidence_file)}"
            ) from error

    @torch.inference_mode()
    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        check_waveforms(waveforms)
        if not len(waveforms):
            return torch.zeros(0, self.dim)
        batch = torch.stack([fit(waveform, SAMPLES) for waveform in waveforms]).to(self._device, torch.float32)
        mel = self._model.mel(at_full_scale(batch))
        with self._autocast():
            return self._model.hear(mel)[0].float().cpu()

    @property
    def model(self) -> PhoneBind | Ensemble:
        """The network from mel power to vectors and spellings, as it is used here."""
        return self._model

    @torch.inference_mode()
    def mel(self, waveform: Tensor) -> Tensor:
        """(samples,) -> (frames, mels): the power of whole frames, each of which depends on its own samples alone."""
        return self._model.mel(waveform[None].to(self._device, torch.float32))[0].T.cpu()

    @torch.inference_mode()
    def encode_mel(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Windows of `mel` frames, each as long as `window`, as `encode_audio` encodes their sound; and their spelling.

        Args:
            windows: (n, frames, mels).

        Returns:
            (n, dim) vectors, and (n, frames / 3, phonemes + 1) the logarithm of how likely each of `PHONEMES` is at a
            time, after that of none of them (CTC).
        """
        with self._autocast():
            vectors, spelling = self._model.hear(windows.transpose(1, 2).to(self._device))
        return vectors.float().cpu(), spelling.float().log_softmax(-1).cpu()

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        if not len(texts):
            return torch.zeros(0, self.dim)
        return self._model.encode_text([self.pronunciations(text)[0] for text in texts]).cpu()

    def variants(self, text: str) -> tuple[str, ...]:
        """Each way to say a text, as ARPAbet between slashes."""
        return tuple(f"/{' '.join(said)}/" for said in self.pronunciations(text))

    def pronunciations(self, text: str) -> tuple[Pronunciation, ...]:
        """Each way to say a text, the usual one first.

        Raises:
            PronunciationError: the text has no letters, has digits, is too long, or is not ARPAbet between its slashes.
            EncoderError: the lexicon or the letter-to-sound weights are damaged.
        """
        if is_arpabet(text):
            return parse_slashed(text)
        return combine([self._word(word) for word in words(text)], text)

    def _word(self, word: str) -> tuple[Pronunciation, ...]:
        try:
            if known := lookup(word):
                return known
            guess = self._letter_to_sound.pronounce(word)
        except FileProblem as error:
            raise EncoderError(str(error)) from error
        self.guesses[word] = " ".join(guess)
        return (guess,)

    @cached_property
    def _letter_to_sound(self) -> LetterToSound:
        return LetterToSound.load()

    def _autocast(self) -> torch.autocast:
        reduced = self._dtype is not torch.float32
        return torch.autocast(self._device.type, self._dtype if reduced else torch.bfloat16, enabled=reduced)


class PhoneBindLarge(PhoneBindEncoder):
    """Several PhoneBinds as one encoder, whose cosines are the mean of theirs.

    The first is the `phonebind.safetensors` that lies beside its file, which holds the others. A word still scores as
    its best pronunciation: the one with the best mean.
    """

    name = "phonebind-large"
    card = replace(PhoneBindEncoder.card, name="phonebind-large")
    weights = FURTHER

    @classmethod
    def _read(cls, path: Path) -> tuple[PhoneBind | Ensemble, str, int]:
        default = path.with_name(WEIGHTS.name)
        first, digest = _checked(default, load)
        others, further = _checked(path, load_members)
        both = hashlib.sha256(f"{digest}{further}".encode()).hexdigest()
        return Ensemble([first, *others]), both, default.stat().st_size + path.stat().st_size


def _checked(path: Path, read: Callable[[Path], Read]) -> tuple[Read, str]:
    """What a file of weights holds, and its digest; of a bundled one, that which it should have.

    Raises:
        EncoderError: it is missing, damaged, or holds something else.
    """
    try:
        digest = check_bundled(path) if path in (WEIGHTS, FURTHER) else sha256(path)
        return read(path), digest
    except FileProblem as error:
        raise EncoderError(str(error)) from error
    except Exception as error:
        raise EncoderError(f"'{path}' does not hold PhoneBind weights ({error})") from error


def reading_fingerprint() -> str:
    """Changes with what a text is read with: CMUdict's table and the letter-to-sound weights, as they were released.

    Both are held to these digests when they are loaded.
    """
    return hashlib.sha256("".join(map(bundled_digest, (TABLE, LETTER_TO_SOUND))).encode()).hexdigest()[:8]


def _resolve_precision(name: str, precision: str, device: torch.device) -> str:
    if precision == "auto":
        return "fp32"
    available = ("fp32", "bf16", "int8") if device.type == "cpu" else ("fp32", "bf16", "fp16")
    if precision not in available or (precision == "int8" and not int8.is_supported()):
        raise EncoderError(f"{name} has no precision '{precision}' on {device.type}; choose {', '.join(available)}")
    return precision
