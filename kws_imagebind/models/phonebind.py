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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.audio.mel import MelConfig, mel_power
from kws_imagebind.files import whole
from kws_imagebind.models.int8 import Int8Linear
from kws_imagebind.models.storage import Storage, packed, unpacked
from kws_imagebind.text.phonemes import PHONEMES, Pronunciation

PHONEME_INDEX = {phoneme: index for index, phoneme in enumerate(PHONEMES, start=1)}
BLANK = 0  # of CTC, and the padding of the phoneme tower
POSITIONS = 16  # from either end; phonemes further inside a long phrase share the last one
SAMPLES = 16_000  # one second: what the audio tower was trained on
FLOOR = 1e-6  # 60 dB below a clip's loudest mel band
STEADY = 0.3  # deviations of the whole clip, added to that of a band


@dataclass(frozen=True)
class PhoneBindConfig:
    """Sizes of both towers; the defaults are those of the bundled weights."""

    mels: int = 64
    low: float = 60.0  # Hz
    high: float = 7_600.0  # Hz
    stem: tuple[int, int] = (24, 32)  # channels of the two 2-D convolutions
    stem_blocks: int = 2  # residual 2-D convolutions after them
    bands: bool = True  # whether the first convolution also sees each mel band by itself (`by_band`)
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


def by_band(x: Tensor) -> Tensor:
    """Features (batch, mels, frames) -> each mel band with mean 0 and nearly deviation 1: free of the microphone.

    What a linear filter does to sound is a constant in each band's logarithm. A band that hardly moves stays small.
    """
    moved = x - x.mean(2, keepdim=True)
    return moved / (moved.square().mean(2, keepdim=True).sqrt() + STEADY)


def at_full_scale(waveforms: Tensor) -> Tensor:
    """(batch, samples) -> the same with a peak of 1 each; silence stays silence."""
    return waveforms / waveforms.abs().amax(-1, keepdim=True).clamp_min(1e-5)


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
        self.bands = config.bands
        self.stem1 = nn.Conv2d(2 if config.bands else 1, first, 5, stride=(2, 3), padding=2)
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
        seen = torch.stack([x, by_band(x)], 1) if self.bands else x[:, None]
        h = F.gelu(self.norm1(self.stem1(seen)))  # (B, c1, mels/2, T/3)
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

    @property
    def dim(self) -> int:
        return self.config.dim

    @property
    def front_ends(self) -> tuple[MelConfig, ...]:
        """What `mel` consists of."""
        return (self.config.front_end,)

    def encode_audio(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, dim), unit norm. The gain of a waveform does not matter."""
        return self.hear(self.mel(at_full_scale(waveforms)))[0]

    def mel(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, mels, frames): the power in each mel band."""
        return mel_power(waveforms, self.config.front_end)

    def hear(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """What `mel` gave -> unit vectors (batch, dim), phoneme logits (batch, frames / 3, phonemes + 1)."""
        return self.audio(features(mel))

    def features(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, mels, frames): what the audio tower hears."""
        return features(self.mel(at_full_scale(waveforms)))

    def encode_text(self, pronunciations: Sequence[Pronunciation]) -> Tensor:
        """Pronunciations -> (batch, dim), unit norm."""
        return self.text(phoneme_indices(pronunciations).to(self.log_scale.device))


def grown(model: PhoneBind, blocks: int = 0, bands: bool = False) -> PhoneBind:
    """A model that hears the same, with more to learn by.

    Args:
        model: to begin with.
        blocks: more of them in the audio tower, which add nothing until they learn.
        bands: whether its first convolution is to see each band by itself; it makes nothing of them until it learns.
    """
    config = replace(model.config, blocks=model.config.blocks + blocks, bands=bands or model.config.bands)
    larger, state = PhoneBind(config), model.state_dict()
    first = state["audio.stem1.weight"]
    missing = larger.audio.stem1.in_channels - first.shape[1]
    state["audio.stem1.weight"] = F.pad(first, (0, 0, 0, 0, 0, missing))
    larger.load_state_dict(state, strict=False)
    for block in larger.audio.blocks[model.config.blocks :]:
        nn.init.zeros_(block.get_parameter("scale"))
    return larger


def phoneme_indices(pronunciations: Sequence[Pronunciation]) -> Tensor:
    """Pronunciations as one (batch, longest) int64 tensor, padded with 0.

    >>> phoneme_indices([("N", "OW"), ("G",)]).tolist()
    [[23, 25], [15, 0]]
    """
    rows = [torch.tensor([PHONEME_INDEX[phoneme] for phoneme in said]) for said in pronunciations]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=BLANK)


def save(model: PhoneBind, path: Path, notes: dict[str, str], storage: Storage = "float16") -> None:
    """Writes safetensors with the sizes and `notes` in the metadata, whole or not at all.

    Args:
        model: what to write.
        path: where.
        notes: for the metadata.
        storage: "int8" takes half the bytes of "float16".
    """
    from safetensors.torch import save_file

    with whole(path) as part:
        metadata = {"config": json.dumps(asdict(model.config)), **notes}
        save_file(packed(model.state_dict(), storage), part, metadata=metadata)
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
        return restored(sizes, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118, no dict


def restored(sizes: dict[str, Any], stored: dict[str, Tensor]) -> PhoneBind:
    """The model of the sizes and the tensors that a file holds, in float32 and ready to encode.

    Raises:
        ValueError: a tensor is not finite, or not stored as `storage.packed` stores it.
        Exception: the sizes or the tensors are not those of a PhoneBind.
    """
    # The first release had no such blocks, the first three did not see bands, and their files do not say so.
    model = PhoneBind(PhoneBindConfig(**{"stem_blocks": 0, "bands": False, **sizes, "stem": tuple(sizes["stem"])}))
    model.load_state_dict(unpacked(stored))  # copies into float32
    return model.eval()


def quantise(model: PhoneBind) -> None:
    """Has the audio tower's large linear layers multiply in 8 bits, in place; the rest stays in float32."""
    for block in model.audio.blocks:
        assert isinstance(block, ConvNeXtBlock)
        block.expand, block.contract = Int8Linear.of(block.expand), Int8Linear.of(block.contract)
    model.audio.enter = Int8Linear.of(model.audio.enter)
