"""ImageBind as an encoder: sound, text and images in one space (Girdhar et al. 2023)."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.encoders.base import PRECISIONS, EncoderError, check_waveforms, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.imagebind.frontend import (
    MEL,
    PADDINGS,
    cut_windows,
    load_image,
    mel_images,
    normalise,
    pad_window,
)
from kws_imagebind.encoders.imagebind.tokenizer import END, tokenize, vocabulary_digest
from kws_imagebind.encoders.imagebind.weights import LICENCE, PUBLISHED, Weights, load_model
from kws_imagebind.models import int8
from kws_imagebind.models.checkpoint import TensorRecord, fingerprint
from kws_imagebind.models.imagebind import ImageBind, ImageBindConfig, modality_of

PREPROCESSING = "imagebind-1"  # to be changed with anything in the front end or the tokenizer
LOADED = ("audio", "text")  # at once; vision when the first image comes
BATCH = {"cpu": 8, "cuda": 256, "mps": 32}  # rows: a CPU gains nothing from more, and its caches lose

log = logging.getLogger(__name__)

Embed = Callable[[str, Tensor], Tensor]


class ImageBindEncoder:
    """ImageBind as an `Encoder`; `encode_image` takes images as well.

    A recording is heard as the reference hears it: three windows of two seconds, their vectors averaged. Where the
    windows are the same, as in every recording of up to two seconds, one is encoded.

    Args:
        embed: (modality, rows) -> (n, dim) unit vectors.
        dim: their length.
        device: where rows are put.
        dtype: of audio and image rows.
        fingerprint: of weights and precision.
        padding: how a recording below two seconds is filled up; one of `frontend.PADDINGS`.
    """

    sample_rate = MEL.sample_rate
    default_template = "a person saying {}"
    card = Card(
        name="imagebind",
        url="https://github.com/facebookresearch/ImageBind",
        licence=LICENCE,
        parameters=1_200_000_000,
        bytes=PUBLISHED.size,
        sample_rate=MEL.sample_rate,
        trained_on=("AudioSet", "Web image-text pairs", "SUN RGB-D", "LLVIP", "Ego4D"),
        citation="Girdhar et al. 2023, arXiv:2305.05665",
    )

    def __init__(
        self,
        embed: Embed,
        dim: int,
        device: torch.device,
        dtype: torch.dtype,
        fingerprint: str,
        padding: str = "log-mel",
        name: str = "imagebind",
        precision: str = "fp32",
    ):
        if padding not in PADDINGS:
            raise EncoderError(f"unknown padding '{padding}'; available: {', '.join(PADDINGS)}")
        self.name, self.dim, self.padding, self.precision = name, dim, padding, precision
        self.audio_fingerprint = "-".join([PREPROCESSING, fingerprint, *([padding] if padding != "log-mel" else [])])
        self.fingerprint = f"{self.audio_fingerprint}-{vocabulary_digest()[:8]}"
        self._embed, self._device, self._dtype = embed, device, dtype

    @classmethod
    def from_weights(
        cls,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        padding: str = "log-mel",
        config: ImageBindConfig | None = None,
    ) -> ImageBindEncoder:
        """The encoder of a downloaded checkpoint.

        Args:
            weights: the file, or the folder to look in; by default `.checkpoints`.
            device: "auto" takes an accelerator where there is one.
            precision: "fp32", "bf16", "fp16" (not on a CPU), "int8" (only on a CPU). "auto" takes bf16 where the
                device multiplies in it natively, else fp16 on a GPU and fp32 on a CPU.
            padding: how a short recording is filled up; one of `frontend.PADDINGS`.
            config: sizes, if not those published.

        Raises:
            EncoderError: no weights, damaged weights, or a device or precision that is not available. It never
                falls back to random weights.
        """
        place = resolve_device(device)
        precision = resolve_precision(precision, place)
        found = Weights.find(LOADED, Path(weights) if weights is not None else None)
        name = "imagebind"
        if not found.is_published:
            name = "imagebind (not the published weights)"
            log.warning("%s is not Meta's checkpoint: what it scores says nothing about ImageBind", found.path)
        towers = Towers(found, config or ImageBindConfig.huge(), place, precision)
        suffix = {"fp32": "", "int8": f"-int8-{int8.SCHEME}"}.get(precision, f"-{precision}")
        return cls(
            towers,
            towers.config.dim,
            place,
            PRECISIONS.get(precision, torch.float32),
            f"{found.fingerprint(LOADED)[:16]}{suffix}",
            padding,
            name,
            precision,
        )

    @classmethod
    def from_module(cls, model: nn.Module, padding: str = "log-mel") -> ImageBindEncoder:
        """An ImageBind model in memory: this project's, or the official package's where a user has it.

        Args:
            model: called with {modality: rows}, returns {modality: vectors}. It is used where and as it is.
            padding: as for `from_weights`.
        """
        model.eval()
        parameter = next(model.parameters())

        def embed(modality: str, rows: Tensor) -> Tensor:
            return F.normalize(model({modality: rows})[modality].float(), dim=-1)

        with torch.inference_mode():
            dim = embed("text", tokenize([""]).to(parameter.device)).shape[1]
        precision = next((name for name, kind in PRECISIONS.items() if kind is parameter.dtype), str(parameter.dtype))
        return cls(
            embed,
            dim,
            parameter.device,
            parameter.dtype,
            module_fingerprint(model)[:16],
            padding,
            precision=precision,
        )

    @torch.inference_mode()
    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Waveforms (samples,) at 16 kHz, each of its own length -> (n, dim) float32 on the CPU, unit norm."""
        check_waveforms(waveforms)
        if not len(waveforms):
            return torch.zeros(0, self.dim)
        cut = [self._windows(waveform) for waveform in waveforms]
        windows = [window for some in cut for window in some]
        vectors = torch.cat([self._embed_windows(part) for part in _parts(windows, self._batch)])
        means = [vectors_of_one.mean(0) for vectors_of_one in vectors.split([len(some) for some in cut])]
        return F.normalize(torch.stack(means), dim=-1).cpu()

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (n, dim) float32 on the CPU, unit norm.

        Raises:
            EncoderError: one bare text, which would be taken for its letters.
        """
        if isinstance(texts, str):
            raise EncoderError(f"texts are a list; for the one text '{texts}' give ['{texts}']")
        if not len(texts):
            return torch.zeros(0, self.dim)
        tokens = tokenize(texts)
        order = tokens.eq(END).int().argmax(1).argsort()  # texts of one length together: the tower cuts at the longest
        vectors = torch.empty(len(texts), self.dim)
        for rows in order.split(self._batch):
            vectors[rows] = self._embed("text", tokens[rows].to(self._device)).cpu()
        return vectors

    @torch.inference_mode()
    def encode_image(self, images: Sequence[str | os.PathLike[str]] | Tensor) -> Tensor:
        """Image files, or pixels as `frontend.load_image` gives them -> (n, dim) float32 on the CPU, unit norm."""
        if not len(images):
            return torch.zeros(0, self.dim)
        vectors = []
        for part in _parts(images, self._batch):
            pixels = part if isinstance(part, Tensor) else torch.stack([load_image(path) for path in part])
            vectors.append(self._embed("vision", pixels.to(self._device, self._dtype)).cpu())
        return torch.cat(vectors)

    @property
    def _batch(self) -> int:
        return BATCH.get(self._device.type, BATCH["cpu"])

    def _windows(self, waveform: Tensor) -> list[Tensor]:
        windows = cut_windows(waveform.float()[None])
        padded = [pad_window(window, self.padding) for window in windows]
        # Below one frame of 25 ms the reference crashes; here silence makes up for what is missing.
        return [F.pad(window, (0, max(0, MEL.window - len(window)))).to(self._device) for window in padded]

    def _embed_windows(self, windows: Sequence[Tensor]) -> Tensor:
        return self._embed("audio", normalise(mel_images(windows)).to(self._dtype))


class Towers:
    """ImageBind's towers, loaded from a checkpoint: audio and text now, vision when it is needed.

    Called with a modality and rows, it returns unit vectors.
    """

    def __init__(self, weights: Weights, config: ImageBindConfig, device: torch.device, precision: str):
        self.config = config
        self._weights, self._device, self._precision = weights, device, precision
        model = self._load(LOADED)
        self._models: dict[str, ImageBind] = dict.fromkeys(LOADED, model)

    def __call__(self, modality: str, rows: Tensor) -> Tensor:
        if modality not in self._models:
            if not any(modality_of(name) == modality for name in self._weights.records):
                self._weights = Weights.find([*LOADED, modality], self._weights.path.parent)
            self._models[modality] = self._load((modality,))
        return self._models[modality].embed(modality, rows)

    def _load(self, modalities: tuple[str, ...]) -> ImageBind:
        return load_model(self._weights, self.config, modalities, self._precision).to(self._device)


def resolve_precision(precision: str, device: torch.device) -> str:
    """'auto' or a name -> a precision that the device has.

    Raises:
        EncoderError: unknown, or not on this device.
    """
    if precision == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device.type == "cpu" and int8.has_bf16() else "fp32"
    available = {"cpu": ("fp32", "bf16", "int8"), "cuda": ("fp32", "bf16", "fp16")}.get(device.type, ("fp32", "fp16"))
    if precision not in available or (precision == "int8" and not int8.is_supported()):
        raise EncoderError(f"imagebind has no precision '{precision}' on {device.type}; choose {', '.join(available)}")
    return precision


def module_fingerprint(model: nn.Module) -> str:
    """As `Weights.fingerprint`, of the audio and text tensors a model holds: equal if the model was loaded from it."""
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    records = []
    for name, value in model.state_dict().items():
        if modality_of(name) in LOADED:
            data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            dtype = names.get(value.dtype, str(value.dtype))
            records.append(TensorRecord(name, dtype, tuple(value.shape), 0, data.nbytes, zlib.crc32(data), True))
    return fingerprint(records)


def _parts(rows: Sequence | Tensor, size: int) -> Iterator:
    return (rows[start : start + size] for start in range(0, len(rows), size))
