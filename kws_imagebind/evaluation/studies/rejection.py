"""Silence and unknown, tried in both ways: as two more prompts, and as a threshold on the best score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.encoders import Encoder
from kws_imagebind.evaluation.open_set import ACCEPTED, Outcome, open_set
from kws_imagebind.metrics.classification import MetricError, ranking
from kws_imagebind.readouts.rejection import best
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.tasks import COMMANDS, SILENCE, UNKNOWN

INSIDE, WORDS, NOISE = "keywords", "other words", "noise"
COLOURS = (0, 1, 2)  # the power of noise falls by 1 / frequency to this: white, pink, brown
QUIETEST, LOUDEST = 0.001, 0.5  # of full scale
LOWEST = 20.0  # hertz, below which the power of noise does not rise


@dataclass(frozen=True)
class OpenSetStudy:
    """What becomes of clips that say none of the keywords.

    Attributes:
        keywords: that the clips are tried on.
        scores: best score of each clip, by kind: keywords, other words, noise; kinds without clips are left out.
        outcomes: of a threshold on the best score.
        threshold: that accepts 95 % of the keywords' clips.
        prompted: of each kind how many clips, and how many of them are answered with `silence` or `unknown` where these
            two are prompts beside the keywords.
    """

    keywords: tuple[str, ...]
    scores: dict[str, np.ndarray]
    outcomes: tuple[Outcome, ...]
    threshold: float
    prompted: dict[str, tuple[int, int]]

    def turned_away(self, kind: str) -> int:
        """How many clips of a kind the threshold turns away."""
        return int((self.scores[kind] < self.threshold).sum())

    def __str__(self) -> str:
        areas = dict(zip([WORDS, SILENCE, "both"], [WORDS, NOISE, ""], strict=True))
        auroc = {areas[outcome.outsiders]: outcome.auroc for outcome in self.outcomes}
        lines = [f"{'turned away':<14}{'of clips':>9}{'by two prompts':>16}{'by threshold':>14}   AUROC"]
        for kind, (clips, answered) in self.prompted.items():
            area = auroc.get(kind)
            told = f"   {area.estimate:.3f} [{area.low:.3f}, {area.high:.3f}]" if area else ""
            lines.append(f"{kind:<14}{clips:>9,}{answered:>16,}{self.turned_away(kind):>14,}{told}")
        return "\n".join(lines)


def study(
    encoder: Encoder,
    audio: Embeddings,
    noise: Sequence[Tensor],
    templates: Sequence[str] | None = None,
    words: Sequence[str] = COMMANDS,
) -> OpenSetStudy:
    """Splits clips into those of some keywords and the rest, and adds noise.

    Args:
        encoder: that the clips were encoded with.
        audio: clips of these keywords and of others.
        noise: waveforms (samples,) at the encoder's rate that hold no word, such as `noises` gives.
        templates: of the prompts; by default the encoder's own.
        words: the keywords; where no clip says one, the first half of the data set's.

    Raises:
        MetricError: no clip says one of the keywords, or there is neither another word nor noise.
    """
    labels = [utterance.label for utterance in audio.utterances]
    if not set(labels) & set(words):
        words = [word for word in audio.dataset.labels if word in set(labels)]
        words = words[: max(1, len(words) // 2)]
    inside = torch.tensor([label in set(words) for label in labels])
    heard = encoder.encode_audio(list(noise)) if len(noise) else audio.features[:0]
    features = {INSIDE: audio.features[inside], WORDS: audio.features[~inside], NOISE: heard}
    features = {kind: rows for kind, rows in features.items() if len(rows)}
    outside = [rows for kind, rows in features.items() if kind != INSIDE]
    if not outside or len(words) < 2:
        raise MetricError(f"{len(words)} keywords, and {len(outside)} kinds of clips that say none; expected more")
    scorer = ZeroShotClassifier(encoder, words, templates)
    both = ZeroShotClassifier(encoder, [*words, SILENCE, UNKNOWN], templates)
    kinds = [label for label in labels if label not in set(words)] + [SILENCE] * len(heard)
    outcomes = open_set(scorer(features[INSIDE]), scorer(torch.cat(outside)), kinds, _speakers(audio, inside, heard))
    scores = {kind: best(scorer(rows)) for kind, rows in features.items()}
    prompted = {
        kind: (len(rows), int((ranking(both(rows).values)[:, 0] >= len(words)).sum()))
        for kind, rows in features.items()
    }
    return OpenSetStudy(
        keywords=tuple(words),
        scores=scores,
        outcomes=tuple(outcome for outcome in outcomes if outcome.rule == "best score"),
        threshold=float(np.quantile(scores[INSIDE], 1 - ACCEPTED, method="lower")),
        prompted=prompted,
    )


def noises(count: int, sample_rate: int, seed: int = 0) -> list[Tensor]:
    """Seconds of noise, white, pink and brown in turn, from barely audible to loud; the same for the same seed.

    >>> [tuple(noise.shape) for noise in noises(2, 16_000)]
    [(16000,), (16000,)]
    """
    generator = torch.Generator().manual_seed(seed)
    frequencies = torch.fft.rfftfreq(sample_rate, 1 / sample_rate).clamp_min(LOWEST)
    levels = torch.logspace(np.log10(QUIETEST), np.log10(LOUDEST), max(1, count)).tolist()
    made = []
    for index, level in enumerate(levels[:count]):
        white = torch.randn(sample_rate, generator=generator)
        shaped = torch.fft.irfft(torch.fft.rfft(white) / frequencies ** (COLOURS[index % 3] / 2), sample_rate)
        made.append(level * shaped / shaped.abs().max())
    return made


def _speakers(audio: Embeddings, inside: Tensor, noise: Tensor) -> tuple[list[str | None], list[str | None]]:
    """Who speaks the clips of the keywords, and the others; each noise stands for itself."""
    who = [utterance.speaker for utterance in audio.utterances]
    own = [speaker for speaker, kept in zip(who, inside.tolist(), strict=True) if kept]
    others = [speaker for speaker, kept in zip(who, inside.tolist(), strict=True) if not kept]
    return own, [*others, *(f"noise {index}" for index in range(len(noise)))]
