"""Our encoders as models of MTEB: `mteb.evaluate(kws_imagebind.mteb_model("phonebind"), tasks=[...])`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.encoders.base import Encoder, Scorer, VariantEncoder
from kws_imagebind.encoders.cards import card_of
from kws_imagebind.encoders.hub import needs
from kws_imagebind.encoders.registry import load_encoder
from kws_imagebind.encoders.scorer import refuse_vectors
from kws_imagebind.text.prompts import render

if TYPE_CHECKING:
    from mteb.models.abs_encoder import AbsEncoder


def mteb_model(encoder: str | Encoder, device: str = "auto", precision: str = "auto", **options: Any) -> AbsEncoder:
    """An encoder as MTEB takes it. Texts become the encoder's own prompt around the label that MTEB gives.

    A text that can be said in several ways ("on") has a vector for each, side by side, and scores as the best of them:
    `similarity` of the model says so, as with MTEB's own models of several vectors.

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
            texts: list[str] = []
            vectors = []
            for batch in inputs:
                if "audio" in batch:
                    clips = [torch.as_tensor(np.asarray(each["array"]), dtype=torch.float32) for each in batch["audio"]]
                    vectors.append(self.model.encode_audio(clips).numpy())
                else:
                    texts += batch["text"]
            return np.concatenate([*vectors, _texts(self.model, texts)] if texts else vectors)

        def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
            return _similarity(embeddings1, embeddings2, self.model.dim)

        def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
            return torch.stack(
                [
                    _similarity(one[None], two[None], self.model.dim)[0, 0]
                    for one, two in zip(embeddings1, embeddings2, strict=True)
                ]
            )

    return Offered(model)


def _texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """(texts, variants x dim): each text's vectors side by side; the first fills up where one has fewer."""
    said = [encoder.variants(text) if isinstance(encoder, VariantEncoder) else (text,) for text in texts]
    most = max(map(len, said))
    prompts = [
        render(encoder.default_template, variant)
        for each in said
        for variant in (*each, *each[:1] * (most - len(each)))
    ]
    return encoder.encode_text(prompts).numpy().reshape(len(texts), -1)


def _similarity(first: Any, second: Any, dim: int) -> Tensor:
    """(n, m) the highest cosine of any vector of the one with any of the other.

    >>> _similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.6, 0.8]]), 2)
    tensor([[0.6000]])
    """
    one, two = (torch.as_tensor(each, dtype=torch.float32).unflatten(-1, (-1, dim)) for each in (first, second))
    return torch.einsum("nad,mbd->nmab", one, two).amax((2, 3))


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
