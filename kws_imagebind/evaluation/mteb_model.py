"""Our encoders as models of MTEB: `mteb.evaluate(kws_imagebind.mteb_model("phonebind"), tasks=[...])`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kws_imagebind.encoders.base import Encoder, Scorer
from kws_imagebind.encoders.cards import card_of
from kws_imagebind.encoders.hub import needs
from kws_imagebind.encoders.registry import load_encoder
from kws_imagebind.encoders.scorer import refuse_vectors
from kws_imagebind.text.prompts import render

if TYPE_CHECKING:
    from mteb.models.abs_encoder import AbsEncoder


def mteb_model(encoder: str | Encoder, device: str = "auto", precision: str = "auto", **options: Any) -> AbsEncoder:
    """An encoder as MTEB takes it. Texts become the encoder's own prompt around the label that MTEB gives.

    Clips go through as the data set holds them, resampled by MTEB to the encoder's rate where theirs is another.

    Args:
        encoder: an encoder, or its name as `load_encoder` takes it.
        device, precision, options: of `load_encoder`, for a name.

    Raises:
        EncoderError: mteb is not installed, the encoder cannot be loaded, or it has no vectors.
    """
    try:
        from mteb.models.abs_encoder import AbsEncoder
        from mteb.models.modality_collators import AudioCollator
    except ModuleNotFoundError as error:
        raise needs("mteb", "mteb_model", "mteb") from error
    model = load_encoder(encoder, device, precision, **options) if isinstance(encoder, str) else encoder
    if isinstance(model, Scorer):
        refuse_vectors(model.name)

    class Offered(AbsEncoder):
        """The encoder behind MTEB's interface."""

        def __init__(self, inner: Encoder) -> None:
            self.model, self.mteb_model_meta = inner, _meta(inner)

        def encode(self, inputs: Any, **_: Any) -> NDArray[np.float32]:
            inputs.collate_fn = _Collator(AudioCollator(target_sampling_rate=self.model.sample_rate))
            return np.concatenate([self._batch(batch) for batch in inputs])

        def _batch(self, batch: dict[str, Any]) -> NDArray[np.float32]:
            if "audio" in batch:
                clips = [torch.as_tensor(np.asarray(each["array"]), dtype=torch.float32) for each in batch["audio"]]
                return self.model.encode_audio(clips).numpy()
            prompts = [render(self.model.default_template, text) for text in batch["text"]]
            return self.model.encode_text(prompts).numpy()

    return Offered(model)


class _Collator:
    """MTEB's collator for clips, and lists for everything else."""

    def __init__(self, audio: Any) -> None:
        self._audio = audio

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
        if "audio" in rows[0]:
            return self._audio(rows)
        return {key: [row[key] for row in rows] for key in rows[0]}


def _meta(encoder: Encoder) -> Any:
    """What MTEB wants to know of a model, from its card."""
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    card = card_of(encoder)
    short = encoder.name.rpartition("/")[2].rpartition(":")[2] or encoder.name
    return ModelMeta(
        loader=None,
        name=f"kws-imagebind/{short}",
        revision=encoder.fingerprint,
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=card.parameters,
        memory_usage_mb=None if card.bytes is None else card.bytes / 2**20,
        max_tokens=None,
        embed_dim=encoder.dim,
        license=None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        reference=None,
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=None,
        modalities=["audio", "text"],
    )
