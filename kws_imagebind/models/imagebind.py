"""ImageBind's audio, text and vision towers (Girdhar et al. 2023, https://arxiv.org/abs/2305.05665).

Written from the paper and from the names and shapes in the published checkpoint, so that the official state dict
loads as it is. Only the towers asked for are built.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.models.layers import Conv2d, Conv3d, Embedding, LayerNorm, Linear
from kws_imagebind.models.transformer import LAYER_NORM_EPS, Transformer, TransformerConfig

MODALITIES = ("audio", "text", "vision")
OTHER_MODALITIES = ("depth", "thermal", "imu")  # in the checkpoint, but of no use for spoken words
MAX_LOGIT_SCALE = 100.0

MELS, FRAMES = 128, 204  # the audio tower's input: 2 s at a 10 ms hop, padded
AUDIO_PATCH, AUDIO_STRIDE = 16, 10  # so patches overlap
AUDIO_STEM_EPS = 1e-5
IMAGE_SIZE, IMAGE_PATCH = 224, 14  # pixels
IMAGE_TIMES = 2  # frames of a patch: an image is shown twice
CONTEXT, VOCABULARY = 77, 49_408


class StateDictError(RuntimeError):
    """Weights that are not the model's; the message names the first tensors that are missing, odd or misshapen."""


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of the towers; `huge()` is the one published.

    >>> ImageBindConfig.huge().audio.depth
    12
    """

    audio: TransformerConfig
    text: TransformerConfig
    vision: TransformerConfig
    dim: int  # of the space that all modalities share

    @classmethod
    def sizes(
        cls, audio: tuple[int, int, int], text: tuple[int, int, int], vision: tuple[int, int, int], dim: int
    ) -> ImageBindConfig:
        """From (width, blocks, heads) of each tower and the width of the shared space."""
        return cls(
            audio=TransformerConfig(*audio, extra_key=True),
            text=TransformerConfig(*text, causal=True),
            vision=TransformerConfig(*vision, norm_first=True),
            dim=dim,
        )

    @classmethod
    def huge(cls) -> ImageBindConfig:
        """`imagebind_huge`: 1.2 billion parameters, 440 million of them for audio and text."""
        return cls.sizes(audio=(768, 12, 12), text=(1024, 24, 16), vision=(1280, 32, 16), dim=1024)


class AudioStem(nn.Module):
    """A log-mel image as overlapping patches, then a layer norm."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = Conv2d(1, dim, AUDIO_PATCH, AUDIO_STRIDE, bias=False)
        self.norm_layer = LayerNorm(dim, eps=AUDIO_STEM_EPS)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 1, 128, 204) -> (B, 228, D)."""
        return self.norm_layer(_tokens(self.proj(mel)))


class ImageStem(nn.Module):
    """An image, or a clip of video, as patches of two frames."""

    def __init__(self, dim: int):
        super().__init__()
        patch = (IMAGE_TIMES, IMAGE_PATCH, IMAGE_PATCH)
        # The checkpoint counts the repetition of an image as layer 0 of this list.
        self.proj = nn.ModuleDict({"1": Conv3d(3, dim, patch, patch, bias=False)})

    @property
    def convolution(self) -> nn.Conv3d:
        convolution = self.proj["1"]
        assert isinstance(convolution, nn.Conv3d)
        return convolution

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 224, 224) or (B, 3, 2, 224, 224) -> (B, 256, D)."""
        # Both frames of a still image are the same, so one convolution with the summed filter will do.
        if x.ndim == 4:
            return _tokens(F.conv2d(x, self.convolution.weight.sum(2), stride=IMAGE_PATCH))
        return _tokens(self.convolution(x))


def _tokens(patches: Tensor) -> Tensor:
    return patches.flatten(2).transpose(1, 2)  # (B, D, ...) -> (B, L, D)


class Positions(nn.Module):
    """Holds a learned position for every token."""

    def __init__(self, tokens: int, dim: int):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, dim))


class PatchInput(nn.Module):
    """Patches behind a class token, with their positions: the input of the audio and vision trunks."""

    def __init__(self, stem: AudioStem | ImageStem, patches: int, dim: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.rgbt_stem = stem
        self.pos_embedding_helper = Positions(1 + patches, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows -> tokens (B, 1 + patches, D), and the position (B,) of the one to read: the first."""
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.rgbt_stem(x)], 1)
        first = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return tokens + self.pos_embedding_helper.pos_embed, first


class TextInput(nn.Module):
    """Token embeddings with their positions: the input of the text trunk."""

    def __init__(self, dim: int):
        super().__init__()
        self.token_embedding = Embedding(VOCABULARY, dim)
        self.pos_embed = nn.Parameter(torch.empty(1, CONTEXT, dim))
        # The causal mask is in the checkpoint. Attention here is told that it is causal and needs none.
        self.register_buffer("mask", torch.empty(CONTEXT, CONTEXT))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 77) -> tokens (B, L, D), and the position (B,) of the one to read: the end of text.

        What follows the end cannot reach it through a causal trunk, so L is the longest text, not 77.
        """
        end = tokens.argmax(-1)  # the end token has the highest number
        tokens = tokens[:, : int(end.max()) + 1]
        return self.token_embedding(tokens) + self.pos_embed[:, : tokens.shape[1]], end


class TextHead(nn.Module):
    """Layer norm and projection, under the names the checkpoint has for them."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.proj = nn.Sequential(LayerNorm(dim, eps=LAYER_NORM_EPS), Linear(dim, out, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def _head(dim: int, out: int) -> nn.Sequential:
    # Layer 1 of the checkpoint's head picks the class token, which the trunk has done already.
    return nn.Sequential(LayerNorm(dim, eps=LAYER_NORM_EPS), nn.Identity(), Linear(dim, out, bias=False))


class LogitScale(nn.Module):
    """The factor the reference multiplies unit vectors by: 20 for audio, learned and at most 100 for text."""

    def __init__(self) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.log_logit_scale.float().exp().clamp(max=MAX_LOGIT_SCALE)


def _inputs(modality: str, dim: int) -> nn.Module:
    if modality == "text":
        return TextInput(dim)
    if modality == "audio":
        rows, columns = ((size - AUDIO_PATCH) // AUDIO_STRIDE + 1 for size in (MELS, FRAMES))
        return PatchInput(AudioStem(dim), rows * columns, dim)
    return PatchInput(ImageStem(dim), (IMAGE_SIZE // IMAGE_PATCH) ** 2, dim)


class ImageBind(nn.Module):
    """The towers of the modalities asked for.

    A new model holds no weights at all, not even random ones: load a state dict before you use it.

    Args:
        config: sizes.
        modalities: any of "audio", "text" and "vision".
    """

    def __init__(self, config: ImageBindConfig, modalities: Iterable[str] = MODALITIES):
        super().__init__()
        self.config = config
        self.modalities = tuple(modalities)
        unknown = set(self.modalities) - set(MODALITIES)
        if unknown:
            raise ValueError(f"unknown modality {sorted(unknown)}; this project runs {', '.join(MODALITIES)}")
        sizes = {modality: getattr(config, modality) for modality in self.modalities}
        self.modality_preprocessors = nn.ModuleDict({m: _inputs(m, size.dim) for m, size in sizes.items()})
        self.modality_trunks = nn.ModuleDict({m: Transformer(size) for m, size in sizes.items()})
        self.modality_heads = nn.ModuleDict(
            {m: (TextHead if m == "text" else _head)(size.dim, config.dim) for m, size in sizes.items()}
        )
        # Layer 0 of the checkpoint's postprocessors normalises; images have no scale.
        self.modality_postprocessors = nn.ModuleDict(
            {m: nn.Sequential(nn.Identity(), LogitScale()) for m in sizes if m != "vision"}
        )

    def embed(self, modality: str, inputs: Tensor) -> Tensor:
        """Unit vectors, one a row.

        Args:
            modality: one of those the model was built with.
            inputs: audio (B, 1, 128, 204) normalised log-mels, text (B, 77) tokens, or vision (B, 3, 224, 224).

        Returns:
            (B, dim) float32.
        """
        if modality not in self.modalities:
            raise ValueError(f"this model was built without {modality}; it has {', '.join(self.modalities)}")
        tokens, position = self.modality_preprocessors[modality](inputs)
        pooled = self.modality_trunks[modality](tokens, position)
        return F.normalize(self.modality_heads[modality](pooled).float(), dim=-1)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the reference returns: unit vectors times the modality's scale, averaged over a recording's clips.

        Args:
            inputs: modality -> rows as for `embed`; audio (B, S, 1, 128, 204) and vision (B, S, 3, ...) of five
                or more dimensions hold S clips of each recording.

        Returns:
            modality -> (B, dim) float32; scaled, so their dot products are no cosines.
        """
        return {modality: self._scaled(modality, rows) for modality, rows in inputs.items()}

    def _scaled(self, modality: str, rows: Tensor) -> Tensor:
        clips = rows.shape[1] if rows.ndim >= 5 else None
        unit = self.embed(modality, rows if clips is None else rows.flatten(0, 1))
        scaled = unit if modality == "vision" else self.modality_postprocessors[modality](unit)
        return scaled if clips is None else scaled.unflatten(0, (-1, clips)).mean(1)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the official weights. Tensors of modalities the model was built without are passed over.

        Raises:
            StateDictError: names the tensors that are missing, unexpected or of another shape.
        """
        passed_over = {*MODALITIES, *OTHER_MODALITIES} - set(self.modalities)
        wanted = {name: value for name, value in state_dict.items() if modality_of(name) not in passed_over}
        if strict:
            check_shapes(wanted, {name: value.shape for name, value in self.state_dict().items()})
        return super().load_state_dict(wanted, strict=strict, assign=assign)


def modality_of(name: str) -> str:
    """'modality_trunks.audio.blocks.0.norm_1.bias' -> 'audio'; '' for a name of another form."""
    kind, _, rest = name.partition(".")
    return rest.split(".")[0] if kind.startswith("modality_") else ""


def check_shapes(found: Mapping[str, Any], expected: Mapping[str, torch.Size]) -> None:
    """Raise a StateDictError that names what differs, or return. What is found needs a `shape` each."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != tuple(shape)
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in [("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)]
        if names
    ]
    if problems:
        raise StateDictError(f"these are not the weights of this ImageBind: {'; '.join(problems)}")
