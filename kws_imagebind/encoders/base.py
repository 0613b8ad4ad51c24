"""What every encoder is: waveforms and texts in, unit vectors of one space out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from kws_imagebind.audio.mel import MelConfig
from kws_imagebind.encoders.confidence import Confidence, SpeechConfidence

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class EncoderError(ValueError):
    """An encoder that cannot be loaded or used as asked; the message says what is expected."""


@runtime_checkable
class Encoder(Protocol):
    """Turns recordings and texts into vectors whose cosine says how well they belong together.

    Attributes:
        name: as given to `load_encoder`.
        sample_rate: of the waveforms it takes, in hertz.
        dim: length of its vectors.
        fingerprint: changes with anything that changes any of its vectors: weights, preprocessing, precision, and
            what texts are read with (a lexicon, a vocabulary). Reports record it.
        default_template: the prompt around a word; the bare "{}" marks an encoder that hears sounds, not meaning.

    An encoder may have more attributes, which are used where they are there:
        card: an `encoders.cards.Card`; reports show it, and derive from it whether a run is zero-shot.
        audio_fingerprint: changes with anything that changes its *audio* vectors, and with nothing else. The cache of
            audio vectors goes by it, so a new lexicon does not encode all recordings again. Without it the cache goes
            by `fingerprint`.
        words: the only texts that it can read, where it cannot read any; learning from clips then does without texts.
        precision, padding: for the protocol of a report, such as "fp32", and what the encoder does with recordings of
            other lengths than its own.
    """

    name: str
    sample_rate: int
    dim: int
    fingerprint: str
    default_template: str

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Waveforms (samples,), each of its own length -> (n, dim) float32 on the CPU, unit norm."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (n, dim) float32 on the CPU, unit norm."""
        ...


@runtime_checkable
class ImageEncoder(Protocol):
    """An encoder that takes pictures as well."""

    def encode_image(self, images: Sequence[str | os.PathLike[str]]) -> Tensor:
        """Picture files -> (n, dim) float32 on the CPU, unit norm, in the space of the encoder's texts and sounds."""
        ...


@runtime_checkable
class VariantEncoder(Protocol):
    """An encoder for which one text may be said in several ways; a word then scores as its best one.

    It may also have `guesses`, a dictionary that `variants` adds the words to which it had to guess, with how it reads
    them; a classifier then says so.
    """

    def variants(self, text: str) -> tuple[str, ...]:
        """Texts for `encode_text`, the usual one first."""
        ...


@runtime_checkable
class RejectingEncoder(Protocol):
    """An encoder that knows from which thresholds on its clips say another word, or nothing."""

    def rejection(self) -> tuple[float, float]:
        """The thresholds `silence` and `unknown` of `readouts.rejection.Rejection`.

        Raises:
            EncoderError: they were never fitted for its weights.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model without an embedding space that says how likely each word is: CTC, a decoder, a classical recogniser.

    It stands wherever an encoder may be named; few-shot, search and maps need vectors and refuse it.

    Attributes:
        name: as given to `load_encoder`.
        sample_rate: of the waveforms it takes, in hertz.
        fingerprint: changes with anything that changes its scores.
    """

    name: str
    sample_rate: int
    fingerprint: str

    def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
        """Waveforms (samples,) and n keywords -> (waveforms, keywords) float32; higher fits better."""
        ...


@runtime_checkable
class WindowEncoder(Protocol):
    """An encoder that hears a stretch of sound of one length, and knows what its cosines are worth.

    Attributes:
        sample_rate: in hertz.
        window: seconds that it hears at once.
    """

    sample_rate: int
    window: float

    def confidence(self) -> Confidence:
        """What cosines with a keyword and with fillers say about whether it was said.

        Raises:
            EncoderError: it was never fitted for its weights.
        """
        ...


@runtime_checkable
class FrameEncoder(Protocol):
    """A `WindowEncoder` that hears frames, which windows that overlap can share, and spells what it hears.

    Attributes:
        sample_rate: in hertz.
        window: seconds that it hears at once.
        front_end: how long a frame is, and how far apart frames are; a tenth of a second is a whole number of them.
        spelled: (times, symbols) of a window's spelling.
    """

    sample_rate: int
    window: float
    front_end: MelConfig
    spelled: tuple[int, int]

    def mel(self, waveform: Tensor) -> Tensor:
        """(samples,) -> (frames, mels): whole frames, each of which depends on its own samples alone."""
        ...

    def encode_mel(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(n, frames, mels) -> (n, dim) as `encode_audio` gives, and (n, times, symbols) log-probabilities of CTC."""
        ...

    def pronunciations(self, text: str) -> tuple[tuple[str, ...], ...]:
        """Each way to say a text, in phonemes."""
        ...

    def speech_confidence(self) -> SpeechConfidence | None:
        """What cosines and spellings are worth in running speech; None if it was never fitted for its weights."""
        ...


# What `check_encoder` asks for: a type for what is given, None for a method.
_REQUIRED: dict[str, type | None] = {
    "name": str,
    "sample_rate": int,
    "dim": int,
    "fingerprint": str,
    "default_template": str,
    "encode_audio": None,
    "encode_text": None,
}
_KINDS = {str: "a text (str)", int: "a whole number (int) above 0"}
_METHODS = {
    "encode_audio": "a method: waveforms -> tensor (n, dim)",
    "encode_text": "a method: texts -> tensor (n, dim)",
}


def check_encoder(encoder: object) -> Encoder:
    """An object as an `Encoder`, if it has all that one needs.

    Raises:
        EncoderError: names the first attribute that is missing or of the wrong kind, and what is expected.

    >>> check_encoder("phonebind")
    Traceback (most recent call last):
    kws_imagebind.encoders.base.EncoderError: str is not an encoder: it has no attribute 'name'; expected ...
    """
    kind = encoder.__name__ if isinstance(encoder, type) else type(encoder).__name__
    if isinstance(encoder, type):
        raise EncoderError(f"{kind} is a class, not an encoder; create one, as in {kind}()")
    for name, expected in _REQUIRED.items():
        wanted = _KINDS[expected] if expected else _METHODS[name]
        if not hasattr(encoder, name):
            raise EncoderError(
                f"{kind} is not an encoder: it has no attribute '{name}'; expected {wanted}, as "
                "kws_imagebind.encoders.base.Encoder describes"
            )
        found = getattr(encoder, name)
        if not _fits(found, expected):
            raise EncoderError(f"{kind}.{name} is {found!r:.60}; expected {wanted}")
    return cast(Encoder, encoder)


def _fits(value: object, expected: type | None) -> bool:
    if expected is None:
        return callable(value)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, expected)


def audio_fingerprint(encoder: Encoder) -> str:
    """What an encoder's audio vectors depend on: its `audio_fingerprint`, or else its `fingerprint`."""
    return getattr(encoder, "audio_fingerprint", encoder.fingerprint)


def resolve_device(device: str) -> torch.device:
    """'auto' or a name such as 'cpu', 'cuda:1' or 'mps' -> a device of this machine.

    Raises:
        EncoderError: this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # which the device 'meta' cannot do
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EncoderError(f"device '{device}' is not available here; 'auto' takes the best one that is") from error
    return chosen


def check_waveforms(waveforms: Sequence[Tensor]) -> None:
    """Refuses what is not a waveform, by its position.

    Raises:
        EncoderError: not one-dimensional, empty, not floating point, or not finite.
    """
    for position, waveform in enumerate(waveforms):
        if waveform.ndim != 1 or not waveform.numel():
            shape = tuple(waveform.shape)
            raise EncoderError(f"waveform {position} has the shape {shape}; expected (samples,), mono and not empty")
        if not waveform.is_floating_point() or not bool(waveform.isfinite().all()):
            raise EncoderError(
                f"waveform {position} is not a finite floating-point signal; expected float32 in [-1, 1]"
            )


def check_vectors(vectors: Tensor, count: int, encoder: Encoder) -> Tensor:
    """What an encoder returned, as float32 on the CPU, if it keeps to the protocol.

    Raises:
        EncoderError: another shape than (count, dim), not finite, or not of unit norm.
    """
    if not isinstance(vectors, Tensor):
        kind = type(vectors).__name__
        raise EncoderError(f"encoder '{encoder.name}' returned a {kind}; expected a torch.Tensor of shape (n, dim)")
    vectors = vectors.detach().float().cpu()
    if vectors.shape != (count, encoder.dim):
        shape = tuple(vectors.shape)
        raise EncoderError(f"encoder '{encoder.name}' returned {shape}; expected ({count}, {encoder.dim})")
    if not bool(((vectors.norm(dim=1) - 1).abs() < 1e-3).all()):  # false for NaN as well
        raise EncoderError(f"encoder '{encoder.name}' returned vectors that are not of unit norm; normalise them")
    return vectors
