"""A residual network for spectrograms with two small vectors before its classifier.

The layout is that of the student classifier of mini_speech_commands that this project's supervised part grew from:
blocks of 16, 32, 64, 64 and 64 filters, max pooling between them, adaptive max pooling, two vectors of 64 numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FILTERS = (16, 32, 64, 64, 64)
HEAD = 64  # numbers in each of the two vectors


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the shortcut is a 1x1 convolution where the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F, T)."""
        return torch.relu(self.convolutions(x) + self.shortcut(x))


class ResidualNet(nn.Module):
    """Residual blocks with max pooling, two vectors one after the other, and a linear classifier.

    Args:
        classes: logits.

    >>> network = ResidualNet(8).eval()
    >>> [tuple(head.shape) for head in network.heads(torch.zeros(2, 1, 129, 124))]
    [(2, 64), (2, 64)]
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for filters in FILTERS:
            layers += [ResidualBlock(inputs, filters), nn.MaxPool2d(2)]
            inputs = filters
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())  # (B, 64)
        self.first = nn.Linear(inputs, HEAD)
        self.second = nn.Linear(HEAD, HEAD)
        self.classifier = nn.Linear(HEAD, classes)

    def heads(self, spectrograms: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, F, T), F and T at least 32 -> two vectors (B, 64); the classifier reads the second."""
        first = torch.relu(self.first(self.features(spectrograms)))
        return first, torch.relu(self.second(first))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, F, T) -> (B, classes)."""
        return self.classifier(self.heads(spectrograms)[-1])
