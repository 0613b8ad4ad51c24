"""Zero-shot classification: the cosine between a clip and the prompts of each keyword."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import Encoder, VariantEncoder, check_vectors
from kws_imagebind.readouts.base import AVERAGES, Average, HasFeatures, ScoreProtocol, Scores
from kws_imagebind.text.keywords import check_keywords, label, parse_keywords, spoken
from kws_imagebind.text.phonemes import is_arpabet
from kws_imagebind.text.prompts import BARE, PromptError, check_templates, render

MOST_GUESSES = 5  # words that are named one by one

log = logging.getLogger(__name__)


class ZeroShotClassifier:
    """A linear classifier whose weights are encoded prompts. The prompts are encoded once, here.

    Several templates make one prompt: the renormalised mean of their vectors (the ensembles of CLIP, arXiv:2103.00020),
    or with `average="score"` the mean of their cosines, which is the product with the mean that is not renormalised.
    Where an encoder knows several ways to say a word, the word scores as its best one.

    Attributes:
        labels: the keywords' labels.
        spoken: what is said of each keyword: a word, or ARPAbet between slashes.
        templates: the prompts' templates.
        protocol: zero-shot, with these templates.
        weights: (variants, dim) the prompts' vectors; a keyword has one for each way to say it.
        owners: (variants,) the keyword that each belongs to.

    Args:
        encoder: what reads the prompts.
        keywords: labels, or 'label=/ARPAbet/'; a list, or a text such as 'yes,no'.
        templates: sentences with '{}' for the word; by default the encoder's own.
        average: "embedding" or "score".

    Raises:
        KeywordError: a keyword is blank or listed twice.
        PromptError: a template has no place for the word.
    """

    def __init__(
        self,
        encoder: Encoder,
        keywords: Sequence[str],
        templates: Sequence[str] | None = None,
        average: Average = "embedding",
    ) -> None:
        if average not in AVERAGES:
            raise PromptError(f"unknown average '{average}'; available: {', '.join(AVERAGES)}")
        checked = parse_keywords(keywords) if isinstance(keywords, str) else check_keywords(keywords)
        self.labels = tuple(label(keyword) for keyword in checked)
        self.spoken = tuple(spoken(keyword) for keyword in checked)
        self.templates = _templates(encoder, templates)
        self.protocol = ScoreProtocol(templates=self.templates, average=average)
        texts: list[str] = []
        owners: list[int] = []
        known = set(getattr(encoder, "guesses", ()))
        for index, keyword in enumerate(checked):
            said = _variants(encoder, keyword)
            texts += said
            owners += [index] * len(said)
        _say_guesses({word: read for word, read in getattr(encoder, "guesses", {}).items() if word not in known})
        prompts = [render(template, text) for text in texts for template in self.templates]
        encoded = check_vectors(encoder.encode_text(prompts), len(prompts), encoder)
        ensembles = encoded.view(len(texts), len(self.templates), -1).mean(1)
        self.weights = F.normalize(ensembles, dim=-1) if average == "embedding" else ensembles
        self.owners = torch.tensor(owners)

    def __call__(self, audio: HasFeatures | Tensor) -> Scores:
        """Scores of embeddings, or of their (n, dim) features."""
        features = audio if isinstance(audio, Tensor) else audio.features
        cosines = features @ self.weights.T  # (n, variants)
        values = torch.full((len(features), len(self.labels)), -1.0)
        values = values.scatter_reduce(1, self.owners.expand_as(cosines), cosines, "amax")
        return Scores(values, self.labels, self.protocol)


def _say_guesses(guesses: dict[str, str]) -> None:
    """Says how words are read that no dictionary has: each of a few, or how many there are."""
    if len(guesses) <= MOST_GUESSES:
        for word, read in guesses.items():
            log.info("'%s' is not in CMUdict; it is read as /%s/", word, read)
        return
    some = ", ".join(f"'{word}' as /{read}/" for word, read in list(guesses.items())[:3])
    log.info("%s words are not in CMUdict; the letter-to-sound model reads %s, …", f"{len(guesses):,}", some)


def _variants(encoder: Encoder, keyword: str) -> tuple[str, ...]:
    """The texts that stand for a keyword; ARPAbet is for those who can read it."""
    if isinstance(encoder, VariantEncoder):
        return encoder.variants(spoken(keyword))
    return (label(keyword) if is_arpabet(spoken(keyword)) else spoken(keyword),)


def _templates(encoder: Encoder, templates: Sequence[str] | None) -> tuple[str, ...]:
    templates = [templates] if isinstance(templates, str) else templates
    chosen = check_templates([encoder.default_template] if templates is None else templates)
    carriers = [template for template in chosen if template != BARE]
    if encoder.default_template == BARE and carriers:
        log.warning("%s hears sounds, not sentences: it uses the word instead of '%s'", encoder.name, carriers[0])
        return (BARE,)
    return chosen
