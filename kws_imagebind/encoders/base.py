"""What every encoder is: waveforms and texts in, unit vectors of one space out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from kws_imagebind.encoders.confidence import Confidence

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class EncoderError(ValueError):
    """An encoder that cannot be loaded or used as asked; the message says what would do."""


@runtime_checkable
class Encoder(Protocol):
    """Turns recordings and texts into vectors whose cosine says how well they belong together.

    Attributes:
        name: as given to `load_encoder`.
        sample_rate: of the waveforms it takes, in hertz.
        dim: length of its vectors.
        fingerprint: changes with anything that changes its vectors: weights, preprocessing, precision.
        default_template: the prompt around a word; the bare "{}" marks an encoder that hears sounds, not meaning.

    An encoder may also have a `card` (`encoders.cards.Card`), its `precision` ("fp32") and its `padding`: what it does
    with recordings of other lengths than its own. Reports show them.
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
class VariantEncoder(Protocol):
    """An encoder for which one text may be said in several ways; a word then scores as its best one."""

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
    """An encoder that hears a stretch of sound of one length, and tells what its cosines are worth.

    Attributes:
        sample_rate: in hertz.
        window: seconds that it hears at once.
    """

    sample_rate: int
    window: float

    def confidence(self) -> Confidence:
        """What cosines with a keyword and with fillers say about whether it was said.

        Raises:
            EncoderError: that was never fitted for its weights.
        """
        ...


def resolve_device(device: str) -> torch.device:
    """'auto' or a name such as 'cpu', 'cuda:1' or 'mps' -> a device that is there.

    Raises:
        EncoderError: there is no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # which the device 'meta' cannot do
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EncoderError(f"device '{device}' is not to be had here; 'auto' takes the best that is") from error
    return chosen


def check_waveforms(waveforms: Sequence[Tensor]) -> None:
    """Refuses what is no waveform, by its position.

    Raises:
        EncoderError: not one-dimensional, empty, not floating point, or not finite.
    """
    for position, waveform in enumerate(waveforms):
        if waveform.ndim != 1 or not waveform.numel():
            shape = tuple(waveform.shape)
            raise EncoderError(f"waveform {position} has the shape {shape}; expected (samples,), mono and not empty")
        if not waveform.is_floating_point() or not bool(waveform.isfinite().all()):
            raise EncoderError(f"waveform {position} is no finite floating-point signal; expected float32 in [-1, 1]")


def check_vectors(vectors: Tensor, count: int, encoder: Encoder) -> Tensor:
    """What an encoder returned, as float32 on the CPU, if it keeps the protocol.

    Raises:
        EncoderError: another shape than (count, dim), not finite, or not of unit norm.
    """
    vectors = vectors.detach().float().cpu()
    if vectors.shape != (count, encoder.dim):
        shape = tuple(vectors.shape)
        raise EncoderError(f"encoder '{encoder.name}' returned {shape}; expected ({count}, {encoder.dim})")
    if not bool(((vectors.norm(dim=1) - 1).abs() < 1e-3).all()):  # false for NaN as well
        raise EncoderError(f"encoder '{encoder.name}' returned vectors that are not of unit norm; normalise them")
    return vectors
