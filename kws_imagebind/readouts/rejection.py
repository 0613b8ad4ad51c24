"""Thresholds that say `silence` or `unknown`, instead of prompts for the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.readouts.base import Scores
from kws_imagebind.text.tasks import SILENCE, UNKNOWN

STEPS = 60  # thresholds tried, at quantiles of the validation scores


def best(scores: Scores) -> np.ndarray:
    """(n,) the best score of each clip."""
    return scores.values.max(dim=1).values.double().numpy()


def margin(scores: Scores) -> np.ndarray:
    """(n,) how far the best is above the second best."""
    top = scores.values.double().topk(2, dim=1).values
    return (top[:, 0] - top[:, 1]).numpy()


@dataclass(frozen=True)
class Rejection:
    """Two thresholds instead of prompts for `silence` and `unknown`.

    Besides the keywords, a clip is scored against words that no task has (`keywords.FILLERS`): one of them fits another
    word better than any keyword does, and noise fits none.

    Attributes:
        silence: nothing was said if no word, keyword or filler, scores this much.
        unknown: else another word was said if the best keyword is not this much above the best filler.
    """

    silence: float
    unknown: float

    def __call__(self, scores: Scores, fillers: Scores, labels: Sequence[str]) -> Scores:
        """Scores of the keywords to scores of the keywords, silence and unknown, ordered as `labels` are.

        `unknown` scores what a keyword must reach, and `silence` as much above all others as the best word falls short
        of its threshold, so that the order of the columns says what the thresholds do.
        """
        values, filler = scores.values, fillers.values.max(dim=1).values
        top = values.max(dim=1).values
        columns = {label: values[:, index] for index, label in enumerate(scores.labels)}
        columns[UNKNOWN] = filler + self.unknown
        columns[SILENCE] = torch.maximum(top, columns[UNKNOWN]) + self.silence - torch.maximum(top, filler)
        return Scores(torch.stack([columns[label] for label in labels], 1), tuple(labels), scores.protocol)


def fit_rejection(scores: Scores, fillers: Scores, spoken: Sequence[str], split: str | None) -> Rejection:
    """The thresholds of the best macro accuracy on validation clips.

    Args:
        scores: of the keywords, of clips of keywords, `silence` and `unknown`.
        fillers: of the fillers, of the same clips.
        spoken: the label of each clip.
        split: that the clips are of.

    Raises:
        MetricError: the clips are not of the validation split.
    """
    if split != "validation":
        raise MetricError(f"thresholds are chosen on the validation split, never on clips of split '{split}'")
    any_word, lead, said = np.maximum(best(scores), best(fillers)), best(scores) - best(fillers), np.array(spoken)
    heard = np.array(scores.labels)[scores.values.argmax(dim=1).numpy()]
    names, weight = sorted(set(spoken)), np.zeros(len(said))
    for name in names:
        weight[said == name] = 1 / (said == name).sum() / len(names)
    found, highest = Rejection(0.0, 0.0), -1.0
    for silence in np.unique(np.quantile(any_word, np.linspace(0, 1, STEPS))):
        for unknown in np.unique(np.quantile(lead, np.linspace(0, 1, STEPS))):
            answer = np.where(any_word < silence, SILENCE, np.where(lead < unknown, UNKNOWN, heard))
            macro = float(weight[answer == said].sum())
            if macro > highest:
                found, highest = Rejection(float(silence), float(unknown)), macro
    return found
