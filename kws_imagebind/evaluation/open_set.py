"""Open set: clips that say none of the keywords, and whether a threshold can turn them away.

Two rules are tried: accept a clip if its best cosine is high, or if its best is far above its second best. Where a task
has the labels `silence` and `unknown`, thresholds can also stand in for prompts of these two: `Rejection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.metrics.roc import RocCurve, auroc_interval, roc_curve
from kws_imagebind.readouts.base import Scores
from kws_imagebind.readouts.rejection import best, margin
from kws_imagebind.text.tasks import SILENCE

POINTS = 400  # of a curve that is kept
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
    detection: RocCurve
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
            outcomes.append(Outcome(rule, name, roc_curve(scores, positive), area, count))
    return tuple(outcomes)
