"""Open set: clips that say none of the keywords, and whether a threshold can turn them away.

Two rules are tried: accept a clip if its best cosine is high, or if its best is far above its second best. Where a task
has the labels `silence` and `unknown`, thresholds can also stand in for prompts of these two: `Rejection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kws_imagebind.detection import Detection, auroc_interval, detect
from kws_imagebind.keywords import SILENCE, UNKNOWN
from kws_imagebind.metrics import MetricError
from kws_imagebind.statistics import Interval
from kws_imagebind.zero_shot import Scores

POINTS = 400  # of a curve that is kept
STEPS = 60  # thresholds tried, at quantiles of the validation scores
ACCEPTED = 0.95  # of the keywords' clips, at which false alarms are told


@dataclass(frozen=True)
class Outcome:
    """One rule against one kind of outsiders.

    Attributes:
        rule: what is held against the threshold.
        outsiders: what should be turned away.
        detection: what every threshold would do.
        auroc: area under the ROC curve.
        outside_speakers: how many speakers and recordings of noise the outsiders are from; None where unknown.
    """

    rule: str
    outsiders: str
    detection: Detection
    auroc: Interval
    outside_speakers: int | None = None

    @property
    def sources(self) -> str:
        """What the outsiders are clips of."""
        return {SILENCE: "recordings", "other words": "speakers"}.get(self.outsiders, "speakers and recordings")

    def as_dict(self) -> dict[str, Any]:
        found = self.detection
        keep = np.unique(np.linspace(0, len(found.accepted) - 1, min(POINTS, len(found.accepted))).astype(int))
        curve = zip(found.false_alarms[keep].tolist(), found.accepted[keep].tolist(), strict=True)
        return {
            "rule": self.rule,
            "outsiders": self.outsiders,
            "inside": found.positives,
            "outside": found.negatives,
            "outside_speakers": self.outside_speakers,
            "sources": self.sources,
            "auroc": self.auroc.as_dict(),
            "false_alarms_at_95": found.false_alarms_at(ACCEPTED),
            "eer": found.eer,
            "curve": [[round(false_alarm, 6), round(accepted, 6)] for false_alarm, accepted in curve],
        }

    def __str__(self) -> str:
        found, area = self.detection, self.auroc
        of = f" of {self.outside_speakers:,} {self.sources}" if self.outside_speakers else ""
        return (
            f"{self.rule} against {self.outsiders}: AUROC {area.estimate:.3f} [{area.low:.3f}, {area.high:.3f}], "
            f"false alarms {100 * found.false_alarms_at(ACCEPTED):.1f} % at 95 % accepted, "
            f"equal error rate {100 * found.eer:.1f} %, {found.positives:,} clips in and {found.negatives:,} out{of}"
        )


def open_set(
    inside: Scores,
    outside: Scores,
    kinds: Sequence[str],
    speakers: tuple[Sequence[str | None], Sequence[str | None]] | None = None,
) -> tuple[Outcome, ...]:
    """How well the best score and the margin tell keywords from the rest.

    Args:
        inside: scores of clips that say one of the keywords.
        outside: scores of clips that say none of them.
        kinds: what each outside clip is: `silence`, or the word it says.
        speakers: of the inside and of the outside clips; None where unknown.

    Raises:
        MetricError: the two are of different keywords, or there are no clips in one of them.
    """
    if inside.labels != outside.labels or len(kinds) != len(outside.values):
        raise MetricError(
            f"scores of {len(inside.labels)} and {len(outside.labels)} keywords, {len(outside.values)} outsiders of "
            f"{len(kinds)} kinds; expected the same keywords, and a kind for each outsider"
        )
    quiet = np.array([kind == SILENCE for kind in kinds])
    groups = {"other words": ~quiet, SILENCE: quiet, "both": np.ones(len(kinds), dtype=bool)}
    outcomes = []
    for rule, measure in (("best score", best), ("margin", margin)):
        own, others = measure(inside), measure(outside)
        for name, chosen in groups.items():
            if not chosen.any() or (name == "both" and quiet.all() | (~quiet).all()):
                continue
            scores = np.concatenate([own, others[chosen]])
            positive = np.arange(len(scores)) < len(own)
            who, count = None, None
            if speakers is not None:
                out = [one for one, kept in zip(speakers[1], chosen, strict=True) if kept]
                who, count = [*speakers[0], *out], None if None in out else len(set(out))
            area = auroc_interval(scores, positive, who)
            outcomes.append(Outcome(rule, name, detect(scores, positive), area, count))
    return tuple(outcomes)


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
        return Scores(
            torch.stack([columns[label] for label in labels], 1), tuple(labels), scores.templates, scores.average
        )


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
