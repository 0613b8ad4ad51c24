"""Omni-modal embedding models through sentence-transformers: e5-omni, jina-embeddings-v5-omni, all that take audio."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
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
)

NAME = "sentence-transformers"
EXAMPLE = "jinaai/jina-embeddings-v5-omni-nano"
PREPROCESSING = "omni-1"  # to be changed with anything on the way from a waveform to the model
QUERY, DOCUMENT = "query", "document"  # prompts of words and of clips, where a checkpoint has them
TASK = "retrieval"  # of models with an adapter for each task, such as jina-embeddings-v5-omni
PADDING = "as the checkpoint's own processor does"
SAMPLE_RATE = 16_000  # Hz, where a checkpoint's processor names none; it goes along with each clip


class OmniEncoder:
    """A model of sentence-transformers that takes audio and text, as an `Encoder`.

    Clips are documents and words are queries: prompts that the checkpoint keeps for these ("query", "document") are
    used, and the report names them. Length and padding are the checkpoint's own.
    """

    default_template = "{}"

    def __init__(self, checkpoint: Checkpoint, model: Any, device: torch.device) -> None:
        self._model = model.eval()
        self.name = f"{NAME}:{checkpoint.name}"
        for side in ("audio", "text"):
            if not model.supports(side):
                has = ", ".join(each if isinstance(each, str) else "+".join(each) for each in model.modalities)
                raise EncoderError(
                    f"checkpoint '{checkpoint.name}' takes no {side}, only {has}; expected one with audio and text, "
                    f"such as {EXAMPLE}"
                )
        self.sample_rate = _rate(model)
        self.dim = int(model.get_embedding_dimension())
        self.precision = precision_name(next(model.parameters()).dtype)
        own = ", ".join(f"{each} '{model.prompts[each]}'" for each in (QUERY, DOCUMENT) if model.prompts.get(each))
        self.padding = PADDING + (f"; its prompts: {own}" if own else "")
        self._options = {"task": TASK} if "task" in model.get_model_kwargs() else {}
        self.fingerprint = f"{PREPROCESSING}-{version(NAME)}-{checkpoint.fingerprint}-{self.precision}"
        self.card = checkpoint.card(self.name, model, self.sample_rate)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        trust_remote_code: bool = False,
    ) -> OmniEncoder:
        """The encoder of a checkpoint.

        Args:
            checkpoint: a name on the Hugging Face hub, or a folder.
            device: "auto" takes an accelerator where there is one.
            precision: "fp32", which is "auto", "bf16", or "fp16" (not on a CPU).
            trust_remote_code: run code that the checkpoint's authors keep beside their weights. Read it first.

        Raises:
            EncoderError: sentence-transformers is not installed, or the checkpoint is missing or lacks a side.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            raise needs(NAME, NAME, NAME) from error
        chosen = choose(NAME, checkpoint, EXAMPLE, device, precision)
        found = chosen.checkpoint
        with loading(found):
            model = SentenceTransformer(
                str(found.folder), device=str(chosen.device), local_files_only=True,
                model_kwargs={"dtype": chosen.dtype}, trust_remote_code=trust_remote_code,
            )  # fmt: skip
        return cls(found, model, chosen.device)

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        check_waveforms(waveforms)
        clips = [{"array": waveform.numpy(), "sampling_rate": self.sample_rate} for waveform in waveforms]
        return self._encoded(clips, DOCUMENT)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._encoded(list(texts), QUERY)

    def _encoded(self, inputs: Sequence[Any], prompt: str) -> Tensor:
        if not inputs:
            return torch.zeros(0, self.dim)
        chosen = prompt if self._model.prompts.get(prompt) else None
        with running(self.name):
            found = self._model.encode(
                list(inputs), prompt_name=chosen, batch_size=len(inputs), convert_to_tensor=True,
                show_progress_bar=False, **self._options,
            )  # fmt: skip
        return F.normalize(found.detach().float().cpu(), dim=-1)


def _rate(model: Any) -> int:
    """The rate of a checkpoint's feature extractor, in hertz."""
    for module in model.modules():
        processor = getattr(module, "processor", None)
        for each in (getattr(processor, "feature_extractor", None), processor):
            rate = getattr(each, "sampling_rate", None)
            if isinstance(rate, int) and rate > 0:
                return rate
    return SAMPLE_RATE
