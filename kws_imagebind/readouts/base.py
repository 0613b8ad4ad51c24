"""What every read-out gives: scores of clips, with the protocol that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Average = Literal["embedding", "score"]
AVERAGES: tuple[Average, ...] = ("embedding", "score")


class HasFeatures(Protocol):
    """Anything with the vectors of clips, such as `Embeddings`."""

    @property
    def features(self) -> Tensor: ...


@dataclass(frozen=True)
class Scores:
    """How well each clip fits each keyword.

    Attributes:
        values: (n, keywords) cosines from -1 to 1.
        labels: the keywords' labels, in the order of the columns.
        templates: the prompts' templates.
        average: the space in which several templates were averaged.
    """

    values: Tensor
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    average: Average = "embedding"
