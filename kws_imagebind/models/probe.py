"""A linear head over the unit vectors of a frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALE = 20.0  # of the cosines at the start; the probe learns its own


class LinearProbe(nn.Module):
    """Logits as scaled cosines with one vector a word, and a bias.

    Args:
        dim: of the encoder's vectors.
        classes: logits.

    >>> LinearProbe(4, 3)(torch.eye(4)[:2]).shape
    torch.Size([2, 3])
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, classes)
        self.scale = nn.Parameter(torch.tensor(SCALE).log())
        nn.init.zeros_(self.classifier.bias)
        nn.init.normal_(self.classifier.weight, std=dim**-0.5)

    def start_at(self, vectors: Tensor) -> None:
        """Begins at the vectors (classes, dim) of the words' texts instead of random ones."""
        with torch.no_grad():
            self.classifier.weight.copy_(vectors)

    def heads(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """The encoder's vectors (B, dim) themselves."""
        return (vectors,)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, dim) -> (B, classes)."""
        return self.scale.exp() * self.classifier(vectors)
