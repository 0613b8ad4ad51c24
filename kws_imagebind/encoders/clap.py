"""CLAP: contrastive language-audio pre-training (Wu et al. 2023, arXiv:2211.06687), any checkpoint of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import EncoderError, check_waveforms
from kws_imagebind.encoders.hub import (
    Checkpoint,
    check_architecture,
    choose,
    loading,
    needs,
    precision_name,
    running,
    sampling_rate,
)

EXAMPLE = "laion/larger_clap_general"
PREPROCESSING = "clap-1"  # to be changed with anything on the way from a waveform to the model
TEXT_TOKENS = 77  # the context of the authors' text tower
FULL_SCALE = 32_767.0  # the authors round clips to 16 bits, in training and after


class ClapEncoder:
    """A CLAP checkpoint as an `Encoder`.

    A clip is repeated as often as it fits into the checkpoint's window (10 s) and then filled with silence; of a longer
    one the first window is heard. Nothing is drawn at random: the feature extractor's random crop is never reached, and
    `is_longer`, which it sets for one random clip of a batch, is always false.
    """

    default_template = "This is a sound of {}."  # of the authors' zero-shot classification

    def __init__(
        self, checkpoint: Checkpoint, model: Any, extractor: Any, tokenizer: Any, device: torch.device
    ) -> None:
        self._model, self._extractor, self._tokenizer = model.to(device).eval(), extractor, tokenizer
        self._device, self._dtype = device, next(model.parameters()).dtype
        self.name = f"clap:{checkpoint.name}"
        self.sample_rate = sampling_rate(checkpoint, extractor)
        self.dim = int(model.config.projection_dim)
        self.precision = precision_name(self._dtype)
        self.fingerprint = f"{PREPROCESSING}-{checkpoint.fingerprint}-{self.precision}"
        self.card = checkpoint.card(self.name, model, self.sample_rate, "Wu et al. 2023, arXiv:2211.06687")
        self._window = int(extractor.nb_max_samples)
        seconds = self._window / self.sample_rate
        self.padding = f"clips under {seconds:g} s repeated, then silence; the first {seconds:g} s of longer ones"

    @classmethod
    def from_checkpoint(
        cls, checkpoint: str | None = None, device: str = "auto", precision: str = "auto"
    ) -> ClapEncoder:
        """The encoder of a checkpoint.

        Args:
            checkpoint: a name on the Hugging Face hub ("laion/larger_clap_general"), or a folder.
            device: "auto" takes an accelerator where there is one.
            precision: "fp32", which is "auto", "bf16", or "fp16" (not on a CPU).

        Raises:
            EncoderError: transformers is not installed, or the checkpoint is missing or no CLAP.
        """
        try:
            from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel
        except ModuleNotFoundError as error:
            raise needs("transformers", "clap", "transformers") from error
        chosen = choose("clap", checkpoint, EXAMPLE, device, precision)
        found, one_side = chosen.checkpoint, "so it lacks an audio or a text side in one space"
        check_architecture(found, f"'clap', such as {EXAMPLE}", one_side, "clap")
        with loading(found):
            extractor, tokenizer = chosen.load(AutoFeatureExtractor), chosen.load(AutoTokenizer)
            return cls(found, chosen.model(ClapModel), extractor, tokenizer, chosen.device)

    @torch.inference_mode()
    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        check_waveforms(waveforms)
        if not len(waveforms):
            return torch.zeros(0, self.dim)
        clips = [(each[: self._window].clamp(-1, 1) * FULL_SCALE).to(torch.int16) / FULL_SCALE for each in waveforms]
        heard = self._extractor([clip.numpy() for clip in clips], sampling_rate=self.sample_rate, return_tensors="pt")
        features = heard["input_features"].to(self._device, self._dtype)
        longer = torch.zeros(len(clips), 1, dtype=torch.bool, device=self._device)
        with running(self.name):
            found = self._model.get_audio_features(input_features=features, is_longer=longer)
        return _unit(found)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        if not len(texts):
            return torch.zeros(0, self.dim)
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
        )
        with running(self.name):
            found = self._model.get_text_features(
                input_ids=tokens["input_ids"].to(self._device), attention_mask=tokens["attention_mask"].to(self._device)
            )
        return _unit(found)


def _unit(found: Any) -> Tensor:
    """Features as unit vectors; transformers 4 returns a tensor and 5 an output object."""
    vectors = found if isinstance(found, Tensor) else found.pooler_output
    if not isinstance(vectors, Tensor) or vectors.ndim != 2:
        raise EncoderError("this release of transformers returns no features of CLAP as expected; take 4.40 to 5")
    return F.normalize(vectors.float(), dim=-1).cpu()
