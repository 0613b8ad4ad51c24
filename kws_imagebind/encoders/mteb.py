"""Audio-text models that are registered in MTEB, as encoders: `--encoder mteb:laion/larger_clap_general`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from kws_imagebind.encoders.base import EncoderError, check_waveforms, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.hub import needs, quiet, running
from kws_imagebind.registry import did_you_mean

EXAMPLE = "laion/larger_clap_general"
SAMPLE_RATE = 16_000  # Hz of the waveforms handed over; each model resamples to its own rate
TASK = "SpeechCommandsZeroshotv0.02"  # whose description models get, for those that choose a prompt by it


class MtebEncoder:
    """A model of MTEB as an `Encoder`. It gets what it would get in MTEB's zero-shot task of Speech Commands."""

    sample_rate = SAMPLE_RATE
    default_template = "{}"  # MTEB's own prompt for words is the bare label
    precision = "the model's own"
    padding = "as the model's code in MTEB does"

    def __init__(self, name: str, model: Any, metadata: Any) -> None:
        self._model, self._metadata = model, metadata
        self.name = f"mteb:{name}"
        meta = model.mteb_model_meta
        sides = {"audio", "text"} - set(meta.modalities)
        if sides:
            has = ", ".join(meta.modalities)
            raise EncoderError(
                f"MTEB's model '{name}' has no {' and no '.join(sorted(sides))} side, only {has}; take one with both"
            )
        self.dim = int(self._encoded(["yes"], "text").shape[1])
        self.fingerprint = f"mteb-{version('mteb')}-{name}-{meta.revision}"
        trained = meta.training_datasets
        self.card = Card(
            name=self.name,
            url=str(meta.reference or ""),
            licence=str(meta.license or ""),
            parameters=meta.n_parameters,
            bytes=None if meta.memory_usage_mb is None else round(meta.memory_usage_mb * 2**20),
            sample_rate=None,
            trained_on=tuple(sorted(trained)) if trained else None,
            citation=f"MTEB {version('mteb')}",
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: str | None = None, device: str = "auto") -> MtebEncoder:
        """The encoder of a model that MTEB knows.

        Args:
            checkpoint: its name in MTEB, such as "laion/larger_clap_general".
            device: "auto" takes an accelerator where there is one.

        Raises:
            EncoderError: mteb is not installed, it knows no such model, or its weights cannot be loaded.
        """
        try:
            import mteb
        except ModuleNotFoundError as error:
            raise needs("mteb", "mteb", "mteb") from error
        quiet()
        if not checkpoint:
            raise EncoderError(f"encoder 'mteb' needs a model after a colon, such as 'mteb:{EXAMPLE}'")
        chosen = resolve_device(device)
        known = {str(meta.name) for meta in mteb.get_model_metas()}
        if checkpoint not in known:
            raise EncoderError(
                f"MTEB {version('mteb')} has no model '{checkpoint}'{did_you_mean(checkpoint, known, 0.6)}; "
                f"expected one of its audio-text models, such as {EXAMPLE}"
            )
        try:
            model = mteb.get_model(checkpoint, device=str(chosen))
        except Exception as error:  # each model's code raises its own kinds
            first = " ".join(str(error).split())[:240]
            raise EncoderError(f"MTEB's model '{checkpoint}' cannot be loaded: {first}") from error
        return cls(checkpoint, model, mteb.get_task(TASK).metadata)

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        check_waveforms(waveforms)
        clips = [{"array": np.asarray(waveform), "sampling_rate": SAMPLE_RATE} for waveform in waveforms]
        return self._encoded(clips, "audio")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._encoded(list(texts), "text")

    def _encoded(self, inputs: Sequence[Any], column: str) -> Tensor:
        if not inputs:
            return torch.zeros(0, self.dim)
        loader: DataLoader = DataLoader(
            [{column: each} for each in inputs],  # type: ignore[arg-type]
            batch_size=len(inputs),
            collate_fn=_collated,
        )
        with running(self.name), torch.inference_mode():
            found = self._model.encode(
                loader, task_metadata=self._metadata, hf_split="test", hf_subset="default", show_progress_bar=False
            )
        vectors = torch.as_tensor(np.asarray(found)).float()
        expected = (len(inputs), getattr(self, "dim", vectors.shape[-1]))
        if tuple(vectors.shape) != expected:  # as of models with several vectors for a text or a clip
            raise EncoderError(f"'{self.name}' returned vectors of shape {tuple(vectors.shape)}; expected {expected}")
        return F.normalize(vectors, dim=-1)


def _collated(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}
