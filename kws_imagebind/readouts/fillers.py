"""How well clips fit words that are none of the keywords: what rejection and hits in time are weighed against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import Encoder
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.fillers import FILLERS

NEAR = 0.7  # cosine; a filler that sounds so much like a keyword says nothing against it


def filler_vectors(encoder: Encoder, scorer: Readout) -> Tensor:
    """(fillers, dim): the vectors of the filler words that are not keywords and do not sound like one.

    Where an encoder finds every filler near a keyword, as one with a narrow space of texts does, all that are not
    keywords stay.
    """
    templates = scorer.protocol.templates or None
    keywords = {label.casefold() for label in scorer.labels}
    words = [word for word in FILLERS if word not in keywords]
    others = ZeroShotClassifier(encoder, words, templates, scorer.protocol.average).weights
    weights = getattr(scorer, "weights", None)
    cosines = scorer(others).values if weights is None else others @ F.normalize(weights, dim=1).T
    apart = cosines.amax(1) < NEAR
    return others[apart] if apart.any() else others


def filler_scores(features: Tensor, fillers: Tensor) -> Tensor:
    """(n, dim) features, (fillers, dim) vectors -> (n, fillers) cosines."""
    return torch.as_tensor(features) @ fillers.T
