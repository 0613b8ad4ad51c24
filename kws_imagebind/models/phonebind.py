"""PhoneBind: a small audio tower and a phoneme tower that meet in one embedding space.

The audio tower hears one second of log-mels; the phoneme tower reads ARPAbet. Both end in unit vectors whose cosine is
the score. A linear layer on the audio tower's frames also spells phonemes (CTC), which steadies training and cuts
sentences into words by forced alignment.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.audio.mel import MelConfig, mel_power
from kws_imagebind.files import whole
from kws_imagebind.models.int8 import Int8Linear, from_int8, to_int8
from kws_imagebind.text.phonemes import PHONEMES, Pronunciation

PHONEME_INDEX = {phoneme: index for index, phoneme in enumerate(PHONEMES, start=1)}
BLANK = 0  # of CTC, and the padding of the phoneme tower
POSITIONS = 16  # from either end; phonemes further inside a long phrase share the last one
SAMPLES = 16_000  # one second: what the audio tower was trained on
FLOOR = 1e-6  # 60 dB below a clip's loudest mel band


@dataclass(frozen=True)
class PhoneBindConfig:
    """Sizes of both towers; the defaults are those of the bundled weights."""

    mels: int = 64
    low: float = 60.0  # Hz
    high: float = 7_600.0  # Hz
    stem: tuple[int, int] = (24, 32)  # channels of the two 2-D convolutions
    stem_blocks: int = 2  # residual 2-D convolutions after them
    width: int = 192
    blocks: int = 6
    kernel: int = 9  # frames of 30 ms
    heads: int = 4  # of attention pooling
    text_width: int = 112
    text_blocks: int = 3
    text_kernel: int = 5  # phonemes
    dim: int = 192  # of the shared space
    dropout: float = 0.1

    @property
    def front_end(self) -> MelConfig:
        return MelConfig(mels=self.mels, low=self.low, high=self.high)


def features(mel: Tensor, floor: Tensor | float = FLOOR) -> Tensor:
    """Mel power (batch, mels, frames) -> its logarithm, free of gain: each clip has mean 0 and deviation 1.

    `floor` is relative to the clip's loudest value; training varies it, shape (batch, 1, 1).
    """
    loudest = mel.amax((1, 2), keepdim=True).clamp_min(1e-12)
    log = (mel / loudest + floor).log()
    return (log - log.mean((1, 2), keepdim=True)) / (log.std((1, 2), keepdim=True) + 1e-3)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP, with a residual (Liu et al. 2022, arXiv:2201.03545)."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand: nn.Module = nn.Linear(width, 2 * width)
        self.contract: nn.Module = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, width)
        return x + self.scale * self.dropout(self.contract(F.gelu(self.expand(self.norm(self._over_time(x))))))

    def _over_time(self, x: Tensor) -> Tensor:
        """The depthwise convolution as a flat image in channels-last order, which x is in already: twice as fast."""
        weight, kernel = self.depthwise.weight[:, :, None], self.depthwise.kernel_size[0]
        image = x.transpose(1, 2)[:, :, None]  # (B, width, 1, T)
        h = F.conv2d(image, weight, self.depthwise.bias, padding=(0, kernel // 2), groups=x.shape[2])
        return h[:, :, 0].transpose(1, 2)


class SpectralBlock(nn.Module):
    """A 3 x 3 convolution over frequency and time with a residual: a higher voice is the same pattern, moved up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, bands, T)
        return x + F.gelu(self.norm(self.convolution(x)))


class AttentionPooling(nn.Module):
    """A sequence to one unit vector: each head takes its own weighted mean (Okabe et al. 2018, arXiv:1803.10963)."""

    def __init__(self, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.attention = nn.Linear(width, heads)
        self.project = nn.Linear(heads * width, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # (B, T, width), (B, T) -> (B, dim)
        logits = self.attention(x)
        if mask is not None:
            logits = logits.masked_fill(~mask[..., None], -1e4)
        pooled = torch.einsum("bth,btc->bhc", logits.softmax(1), x).flatten(1)
        return F.normalize(self.project(pooled).float(), dim=-1)


class AudioTower(nn.Module):
    """Features (batch, mels, frames) -> unit vectors (batch, dim), phoneme logits (batch, frames / 3, phonemes + 1)."""

    def __init__(self, config: PhoneBindConfig) -> None:
        super().__init__()
        first, second = config.stem
        self.stem1 = nn.Conv2d(1, first, 5, stride=(2, 3), padding=2)
        self.norm1 = nn.BatchNorm2d(first)
        self.stem2 = nn.Conv2d(first, second, 3, stride=(2, 1), padding=1)
        self.norm2 = nn.BatchNorm2d(second)
        self.spectral = nn.ModuleList(SpectralBlock(second) for _ in range(config.stem_blocks))
        self.enter: nn.Module = nn.Linear(second * config.mels // 4, config.width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.kernel, config.dropout) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.pool = AttentionPooling(config.width, config.heads, config.dim)
        self.spell = nn.Linear(config.width, len(PHONEMES) + 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.gelu(self.norm1(self.stem1(x[:, None])))  # (B, c1, mels/2, T/3)
        h = F.gelu(self.norm2(self.stem2(h)))  # (B, c2, mels/4, T/3)
        for spectral in self.spectral:
            h = spectral(h)
        h = self.enter(h.permute(0, 3, 1, 2).flatten(2))  # (B, T/3, width)
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        return self.pool(h), self.spell(h)


class PhonemeTower(nn.Module):
    """Phoneme indices (batch, phonemes), 0 where a pronunciation has ended -> unit vectors (batch, dim)."""

    def __init__(self, config: PhoneBindConfig) -> None:
        super().__init__()
        width = config.text_width
        self.phonemes = nn.Embedding(len(PHONEMES) + 1, width, padding_idx=BLANK)
        self.from_start = nn.Embedding(POSITIONS, width)
        self.from_end = nn.Embedding(POSITIONS, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, config.text_kernel, config.dropout) for _ in range(config.text_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.pool = AttentionPooling(width, config.heads, config.dim)
        for table in (self.from_start, self.from_end):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, indices: Tensor) -> Tensor:
        mask = indices != BLANK
        start = torch.arange(indices.shape[1], device=indices.device).expand_as(indices)
        end = mask.sum(1, keepdim=True) - 1 - start
        h = self.phonemes(indices) + self.from_start(start.clamp(max=POSITIONS - 1))
        h = self.dropout(h + self.from_end(end.clamp(0, POSITIONS - 1))) * mask[..., None]
        for block in self.blocks:
            h = block(h) * mask[..., None]
        return self.pool(self.norm(h), mask)


class PhoneBind(nn.Module):
    """Both towers, and the scale of the training loss."""

    def __init__(self, config: PhoneBindConfig | None = None) -> None:
        super().__init__()
        self.config = config or PhoneBindConfig()
        self.audio = AudioTower(self.config)
        self.text = PhonemeTower(self.config)
        self.log_scale = nn.Parameter(torch.tensor(12.0).log())

    def encode_audio(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, dim), unit norm. The gain of a waveform does not matter."""
        return self.audio(self.features(waveforms))[0]

    def features(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, mels, frames): what the audio tower hears."""
        peak = waveforms.abs().amax(-1, keepdim=True).clamp_min(1e-5)
        return features(mel_power(waveforms / peak, self.config.front_end))

    def encode_text(self, pronunciations: Sequence[Pronunciation]) -> Tensor:
        """Pronunciations -> (batch, dim), unit norm."""
        return self.text(phoneme_indices(pronunciations).to(self.log_scale.device))


def deepened(model: PhoneBind, blocks: int) -> PhoneBind:
    """A model that hears the same, with so many more blocks in its audio tower, which add nothing until they learn."""
    config = replace(model.config, blocks=model.config.blocks + blocks)
    deeper = PhoneBind(config)
    deeper.load_state_dict(model.state_dict(), strict=False)
    for block in deeper.audio.blocks[model.config.blocks :]:
        nn.init.zeros_(block.get_parameter("scale"))
    return deeper


def phoneme_indices(pronunciations: Sequence[Pronunciation]) -> Tensor:
    """Pronunciations as one (batch, longest) int64 tensor, padded with 0.

    >>> phoneme_indices([("N", "OW"), ("G",)]).tolist()
    [[23, 25], [15, 0]]
    """
    rows = [torch.tensor([PHONEME_INDEX[phoneme] for phoneme in said]) for said in pronunciations]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=BLANK)


Storage = Literal["float16", "int8"]
SCALE = ":scale"  # after a tensor's name: what each of its rows is to be multiplied by
SMALLEST = 1_024  # numbers; a smaller tensor stays in float16


def save(model: PhoneBind, path: Path, notes: dict[str, str], storage: Storage = "float16") -> None:
    """Writes safetensors with the sizes and `notes` in the metadata, whole or not at all.

    Args:
        model: what to write.
        path: where.
        notes: for the metadata.
        storage: "int8" writes matrices, kernels and tables as whole numbers up to 127 and a float32 scale for each row
            (each output of a layer, each phoneme of a table): half the bytes.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if storage == "int8" and tensor.ndim > 1 and tensor.numel() >= SMALLEST:
            tensors[name], tensors[f"{name}{SCALE}"] = to_int8(tensor)
        else:
            tensors[name] = tensor.half() if tensor.is_floating_point() else tensor
    with whole(path) as part:
        save_file(tensors, part, metadata={"config": json.dumps(asdict(model.config)), **notes})
        part.chmod(0o644)  # safetensors keeps its files to their owner


def load(path: Path) -> PhoneBind:
    """The model in a file that `save` wrote, in float32 and ready to encode.

    Raises:
        ValueError: a tensor is not finite, or not stored as `save` stores it.
        Exception: the file is missing or damaged, or lacks what a PhoneBind needs.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        sizes = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
    model = PhoneBind(PhoneBindConfig(**{**sizes, "stem": tuple(sizes["stem"])}))
    model.load_state_dict(_in_float(tensors))  # copies into float32
    return model.eval()


def _in_float(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as stored -> as a state dict has them."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            if stored.get(name.removesuffix(SCALE), tensor).dtype != torch.int8:
                raise ValueError(f"{name} belongs to no tensor in int8")
            continue
        if tensor.dtype == torch.int8:
            if f"{name}{SCALE}" not in stored:
                raise ValueError(f"{name} is in int8 but has no scales")
            tensor = from_int8(tensor, stored[f"{name}{SCALE}"])
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite")
        tensors[name] = tensor
    return tensors


def quantise(model: PhoneBind) -> None:
    """Has the audio tower's large linear layers multiply in 8 bits, in place; the rest stays in float32."""
    for block in model.audio.blocks:
        assert isinstance(block, ConvNeXtBlock)
        block.expand, block.contract = Int8Linear.of(block.expand), Int8Linear.of(block.contract)
    model.audio.enter = Int8Linear.of(model.audio.enter)
