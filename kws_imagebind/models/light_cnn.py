"""A light convolutional network with max-feature-map activations (Wu et al. 2018, A light CNN for deep face
representation, arXiv:1511.02683), sized for a second of speech: about 0.7 million parameters.

A max-feature-map layer computes twice the channels and keeps the larger of each pair: it selects features, where ReLU
only cuts them off.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 96, 128)  # channels after each stage
EMBEDDING = 128
DROPOUT = 0.5


class MaxFeatureMap(nn.Module):
    """A convolution to twice the channels, of which the larger half of each pair is kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F, T)."""
        first, second = self.norm(self.convolution(x)).chunk(2, 1)
        return torch.maximum(first, second)


class LightCNN(nn.Module):
    """A 5x5 layer, then for each stage a 1x1 and a 3x3 layer, with max pooling between them.

    Args:
        classes: logits.

    >>> network = LightCNN(12).eval()
    >>> network(torch.zeros(2, 1, 64, 98)).shape, sum(each.numel() for each in network.parameters())
    (torch.Size([2, 12]), 714444)
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [MaxFeatureMap(1, WIDTHS[0], 5), nn.MaxPool2d(2)]
        for inputs, outputs in pairwise(WIDTHS):
            layers += [MaxFeatureMap(inputs, inputs, 1), MaxFeatureMap(inputs, outputs, 3), nn.MaxPool2d(2)]
        layers += [MaxFeatureMap(WIDTHS[-1], WIDTHS[-1], 3)]
        self.features = nn.Sequential(*layers)
        self.embed = nn.Linear(WIDTHS[-1], EMBEDDING)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(EMBEDDING, classes)

    def heads(self, spectrograms: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, F, T), F and T at least 16 -> the vectors (B, 128) that the classifier reads."""
        return (torch.relu(self.embed(self.features(spectrograms).amax((2, 3)))),)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, F, T) -> (B, classes)."""
        return self.classifier(self.dropout(self.heads(spectrograms)[-1]))
