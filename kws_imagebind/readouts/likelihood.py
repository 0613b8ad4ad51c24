"""Scores of a model without an embedding space, through the same data flow as vectors.

A scorer gives each clip one number for each keyword. These numbers travel as a unit vector in homogeneous coordinates
(the scores and a constant 1, divided by their norm), from which they come back exactly but for rounding. So decoding
ahead, batches, skipping and the cache serve scorers as they serve encoders: the cache's key then holds the keywords.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import Encoder, EncoderError, Scorer
from kws_imagebind.encoders.cards import card_of
from kws_imagebind.encoders.scorer import refuse_vectors
from kws_imagebind.encoders.trained import TrainedNetwork
from kws_imagebind.readouts.base import Average, HasFeatures, Readout, ScoreProtocol, Scores
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.keywords import check_keywords, label, parse_keywords
from kws_imagebind.text.prompts import BARE

LIKELIHOOD = ScoreProtocol("likelihood", readout="likelihood")


class ScoredClips:
    """A scorer and its keywords as what `embed` takes: a clip's "vector" is its scores in homogeneous coordinates.

    Args:
        scorer: what says how likely each word is.
        keywords: labels, or 'label=/ARPAbet/'.
    """

    default_template = BARE

    def __init__(self, scorer: Scorer, keywords: Sequence[str]) -> None:
        self._scorer, self._keywords = scorer, tuple(keywords)
        self.name, self.sample_rate = scorer.name, scorer.sample_rate
        self.dim = len(self._keywords) + 1
        words = hashlib.sha256("\0".join(self._keywords).encode()).hexdigest()[:12]
        self.fingerprint = f"{scorer.fingerprint}-words-{words}"
        self.precision = getattr(scorer, "precision", "unknown")
        self.padding = getattr(scorer, "padding", "unknown")
        self.card = card_of(scorer)

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        """(n, keywords + 1) float32, unit norm.

        Raises:
            EncoderError: the scorer returned another shape, or a number that is not finite.
        """
        if not len(waveforms):
            return torch.zeros(0, self.dim)
        scores = self._scorer.score(waveforms, self._keywords).detach().double().cpu()
        expected = (len(waveforms), len(self._keywords))
        if tuple(scores.shape) != expected or not bool(scores.isfinite().all()):
            raise EncoderError(
                f"scorer '{self.name}' returned {tuple(scores.shape)}; expected finite numbers of shape {expected}"
            )
        return F.normalize(torch.cat([scores, torch.ones(len(scores), 1, dtype=torch.float64)], 1), dim=1).float()

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        refuse_vectors(self.name)


class LikelihoodReadout:
    """Reads the scores of `ScoredClips` back out of the embeddings.

    >>> import torch
    >>> class Longest:
    ...     name, sample_rate, fingerprint = "longest", 16_000, "1"
    ...     def score(self, waveforms, keywords):
    ...         return torch.tensor([[-3.0, 4.0], [250.0, 0.5]])
    >>> clips, readout = ScoredClips(Longest(), ["yes", "no"]), LikelihoodReadout(["yes", "no"])
    >>> readout(clips.encode_audio([torch.zeros(1), torch.zeros(1)])).values.round(decimals=3).tolist()
    [[-3.0, 4.0], [250.0, 0.5]]
    """

    def __init__(self, keywords: Sequence[str], protocol: ScoreProtocol = LIKELIHOOD) -> None:
        self.labels = tuple(label(keyword) for keyword in keywords)
        self.protocol = protocol

    def __call__(self, audio: HasFeatures | Tensor, /) -> Scores:
        features = (audio if isinstance(audio, Tensor) else audio.features).double()
        return Scores((features[:, :-1] / features[:, -1:]).float(), self.labels, self.protocol)


def readout_of(
    encoder: Encoder | Scorer,
    keywords: Sequence[str],
    templates: Sequence[str] | None = None,
    average: Average = "embedding",
) -> tuple[Encoder, Readout]:
    """What hears the clips and what scores them, for an encoder with its prompts as for a scorer with its words.

    Args:
        encoder: an encoder, or a scorer, which has no prompts and takes no templates.
        keywords: labels, or 'label=/ARPAbet/'; a list, or a text such as 'yes,no'.
        templates: sentences with '{}' for the word; by default the encoder's own.
        average: of several templates, "embedding" or "score".

    Raises:
        EncoderError: templates for a scorer.
        KeywordError, PromptError: as `ZeroShotClassifier`.
    """
    if not isinstance(encoder, Scorer):
        return encoder, ZeroShotClassifier(encoder, keywords, templates, average)
    if templates is not None:
        raise EncoderError(f"'{encoder.name}' scores words and has no prompts; leave --template and --prompts out")
    checked = parse_keywords(keywords) if isinstance(keywords, str) else check_keywords(keywords)
    return ScoredClips(encoder, checked), LikelihoodReadout(checked, _protocol(encoder))


def _protocol(scorer: Scorer) -> ScoreProtocol:
    """A network that learnt its words from clips says so, and which clips they were."""
    if not isinstance(scorer, TrainedNetwork):
        return LIKELIHOOD
    return ScoreProtocol(scorer.kind, readout=scorer.run.network, support=scorer.support)
