"""Arithmetic of embeddings: several queries added into one, as in ImageBind's figure 4 (arXiv:2305.05665)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-6  # length of a sum; a shorter one points nowhere


class QueryError(ValueError):
    """Queries that do not add up to a direction; the message says why."""


def combine(vectors: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """The direction of a weighted sum of unit vectors.

    Each vector is brought to unit norm first, so that a weight says how much a query counts, and the sum afterwards, so
    that products with it are cosines.

    >>> combine(torch.tensor([[2.0, 0.0], [0.0, 5.0]])).tolist()
    [0.7071067690849304, 0.7071067690849304]

    Args:
        vectors: (n, dim).
        weights: of each, by default equal. A negative one leads away from its query.

    Returns:
        (dim,) float32, unit norm.

    Raises:
        QueryError: there is not one finite weight for each vector, or they cancel out.
    """
    factors = torch.ones(len(vectors)) if weights is None else torch.tensor(list(weights), dtype=torch.float32)
    if len(factors) != len(vectors) or not len(vectors) or not bool(factors.isfinite().all()):
        raise QueryError(f"{len(factors)} weights for {len(vectors)} queries; expected one finite number for each")
    total = (F.normalize(vectors.float(), dim=1) * factors[:, None]).sum(0)
    if float(total.norm()) < SMALLEST:
        raise QueryError("the queries cancel each other out; change a weight")
    return F.normalize(total, dim=0)
