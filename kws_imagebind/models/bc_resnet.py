"""BC-ResNet: two-dimensional features with most of their work done along time (Kim et al. 2021, arXiv:2106.04140).

A block averages its features over frequency, works on the resulting sequence, and adds the result back to every
frequency: the broadcasted residual. Written from the paper; its table 1 gives the sizes below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

MELS = 40  # bands that the network was designed for
SUBBANDS = 5  # of sub-spectral normalisation
DROPOUT = 0.1


@dataclass(frozen=True)
class Stage:
    """Blocks of one width: a transition, which changes the channels, and then normal blocks."""

    width: int  # channels at tau = 1
    blocks: int
    stride: int  # along frequency, of the first block
    dilation: int  # along time


STAGES = (Stage(8, 2, 1, 1), Stage(12, 2, 2, 2), Stage(16, 4, 2, 4), Stage(20, 4, 1, 8))
STEM, EMBEDDING = 16, 32  # channels of the first and the last convolution at tau = 1


class SubSpectralNorm(nn.Module):
    """Batch normalisation with statistics and scales of its own for each sub-band (Chang et al. 2021, 2103.13620).

    Args:
        channels: of the features.
        subbands: that the frequencies are divided into; they must be a multiple of it.
    """

    def __init__(self, channels: int, subbands: int = SUBBANDS) -> None:
        super().__init__()
        self.subbands = subbands
        self.norm = nn.BatchNorm2d(channels * subbands)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, F, T) -> the same shape."""
        batch, channels, bands, frames = x.shape
        split = x.reshape(batch, channels * self.subbands, bands // self.subbands, frames)
        return self.norm(split).reshape(batch, channels, bands, frames)


class Block(nn.Module):
    """One residual block, equation 2 of the paper: y = x + f2(x) + broadcast(f1(mean over frequency of f2(x))).

    A transition block, equation 3, begins with a pointwise convolution to other channels and leaves the identity out.

    Args:
        inputs: channels that come in.
        outputs: channels that leave; if they differ from `inputs`, or with `transition`, it is a transition block.
        stride: along frequency.
        dilation: along time.
        transition: whether it is a transition block.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, transition: bool) -> None:
        super().__init__()
        self.transition = transition
        entry = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()] if transition else []
        self.spectral = nn.Sequential(  # f2
            *entry,
            nn.Conv2d(outputs, outputs, (3, 1), (stride, 1), (1, 0), groups=outputs, bias=False),
            SubSpectralNorm(outputs),
        )
        self.temporal = nn.Sequential(  # f1
            nn.Conv2d(outputs, outputs, (1, 3), 1, (0, dilation), (1, dilation), groups=outputs, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.Dropout2d(DROPOUT),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F / stride, T)."""
        two = self.spectral(x)
        one = self.temporal(two.mean(2, keepdim=True))  # (B, outputs, 1, T)
        return torch.relu(two + one if self.transition else x + two + one)


class BCResNet(nn.Module):
    """The network, from a log-mel spectrogram of 40 bands to logits.

    Args:
        classes: logits.
        tau: how wide; the paper has 1, 1.5, 2, 3, 6 and 8.

    >>> network = BCResNet(12, tau=1).eval()
    >>> network(torch.zeros(2, 1, 40, 98)).shape
    torch.Size([2, 12])
    """

    def __init__(self, classes: int, tau: float = 1.0) -> None:
        super().__init__()
        stem = _channels(STEM, tau)
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )  # (B, stem, 20, T)
        blocks, inputs = [], stem
        for stage in STAGES:
            outputs = _channels(stage.width, tau)
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(Block(inputs, outputs, stride, stage.dilation, transition=index == 0))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)  # (B, 20 tau, 5, T)
        embedding = _channels(EMBEDDING, tau)
        self.head = nn.Sequential(
            nn.Conv2d(inputs, inputs, 5, 1, (0, 2), groups=inputs, bias=False),  # (B, 20 tau, 1, T)
            nn.Conv2d(inputs, embedding, 1, bias=False),
            nn.BatchNorm2d(embedding),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(embedding, classes)

    def heads(self, spectrograms: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, 40, T) -> the vectors (B, 32 tau) that the classifier reads."""
        return (self.head(self.blocks(self.stem(spectrograms))).mean((2, 3)),)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, 40, T) -> (B, classes)."""
        return self.classifier(self.heads(spectrograms)[-1])


def _channels(width: int, tau: float) -> int:
    return int(width * tau)
