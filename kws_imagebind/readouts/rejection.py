"""Thresholds that say `silence` or `unknown`, instead of prompts for the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from kws_imagebind.datasets.base import ClipIdentity
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

    Besides the keywords, a clip is scored against filler words (`text.fillers`). Another word fits one of them better
    than any keyword. A clip without speech fits all words about alike: the spread of its cosines over the fillers is
    small, whatever their level. On validation clips it tells 248 spoken other words from 58 noise crops with an AUROC
    of 0.985, where the best cosine has 0.622.

    Attributes:
        silence: nothing was said if the standard deviation of the cosines with the fillers is below this.
        unknown: else another word was said if the best keyword is not this much above the best filler.
        chosen_on: the clips that chose the two; they may not be reported.
    """

    silence: float
    unknown: float
    chosen_on: tuple[ClipIdentity, ...] = field(default=(), repr=False)

    def __call__(self, scores: Scores, fillers: Tensor, labels: Sequence[str]) -> Scores:
        """Scores of the keywords to scores of the keywords, silence and unknown, ordered as `labels` are.

        `unknown` scores what a keyword must reach, and `silence` as much above all others as the spread falls short of
        its threshold, so that the order of the columns says what the thresholds do.

        Args:
            scores: (n, keywords) of the keywords.
            fillers: (n, fillers) cosines with the fillers.
            labels: the keywords, `silence` and `unknown`.
        """
        values = scores.values
        columns = {label: values[:, index] for index, label in enumerate(scores.labels)}
        columns[UNKNOWN] = fillers.max(dim=1).values + self.unknown
        highest = torch.maximum(values.max(dim=1).values, columns[UNKNOWN])
        columns[SILENCE] = highest + self.silence - fillers.std(dim=1)
        protocol = replace(scores.protocol, support=(*scores.protocol.support, *self.chosen_on))
        return Scores(torch.stack([columns[label] for label in labels], 1), tuple(labels), protocol)

    def as_dict(self) -> dict[str, float]:
        return {"silence": self.silence, "unknown": self.unknown}


def fit_rejection(
    scores: Scores, fillers: Tensor, spoken: Sequence[str], chosen_on: tuple[ClipIdentity, ...] = ()
) -> Rejection:
    """The thresholds of the best macro accuracy on clips that choose.

    Args:
        scores: (n, keywords) of the keywords, of clips of keywords, `silence` and `unknown`.
        fillers: (n, fillers) cosines of the same clips with the fillers.
        spoken: the label of each clip.
        chosen_on: who these clips are, for the guard.
    """
    spread, said = fillers.std(dim=1).double().numpy(), np.array(spoken)
    lead = best(scores) - fillers.max(dim=1).values.double().numpy()
    heard = np.array(scores.labels)[scores.values.argmax(dim=1).numpy()]
    names, weight = sorted(set(spoken)), np.zeros(len(said))
    for name in names:
        weight[said == name] = 1 / (said == name).sum() / len(names)
    found, highest = (0.0, 0.0), -1.0
    for silence in np.unique(np.quantile(spread, np.linspace(0, 1, STEPS))):
        for unknown in np.unique(np.quantile(lead, np.linspace(0, 1, STEPS))):
            answer = np.where(spread < silence, SILENCE, np.where(lead < unknown, UNKNOWN, heard))
            macro = float(weight[answer == said].sum())
            if macro > highest:
                found, highest = (float(silence), float(unknown)), macro
    return Rejection(*found, chosen_on)
