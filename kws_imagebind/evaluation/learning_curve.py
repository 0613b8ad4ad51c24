"""How accuracy grows with labelled clips: read-outs that learn from support sets, tested on clips of others."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.datasets.base import ClipIdentity, listed
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.evaluation.guards import check_disjoint
from kws_imagebind.metrics.classification import ranking
from kws_imagebind.metrics.crossed import METHOD, crossed_interval
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.readouts.registry import fit_readout
from kws_imagebind.readouts.support import FewShotError, Pool, Sampling, Support
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE = "probe"  # the protocol that takes all clips there are
CSV_COLUMNS = (
    "encoder", "protocol", "readout", "shots", "support_clips", "draws", "accuracy", "low", "high", "n", "chance",
    "accuracy_of_each_draw",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One read-out with one number of clips a word.

    Attributes:
        readout: its name.
        shots: clips a word; None where all clips there are were taken.
        accuracy: mean over the draws, with limits for draws and speakers.
        draws: accuracy of each draw.
        support: clips in a support set.
    """

    readout: str
    shots: int | None
    accuracy: Interval
    draws: tuple[float, ...]
    support: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "readout": self.readout,
            "shots": self.shots,
            "support_clips": self.support,
            "accuracy": self.accuracy.as_dict(),
            "draws": [round(draw, 6) for draw in self.draws],
        }


@dataclass(frozen=True)
class LearningCurve:
    """What an encoder's vectors are worth with more and more labelled clips.

    Attributes:
        encoder: its name.
        fingerprint: of the encoder.
        protocol: by which clips were drawn.
        speakers_apart: whether no speaker of the support clips is reported.
        data: what is reported, in words.
        labels: of the candidates.
        n: clips reported.
        speakers: that they are of; 0 where unknown.
        pool: clips that support sets were drawn from.
        pool_speakers: that those are of; 0 where unknown.
        zero_shot: accuracy with the text vectors alone; None where there are none.
        points: of each read-out, by rising shots.
        notes: what a reader should know.
    """

    encoder: str
    fingerprint: str
    protocol: str
    speakers_apart: bool
    data: str
    labels: tuple[str, ...]
    n: int
    speakers: int
    pool: int
    pool_speakers: int
    zero_shot: Interval | None
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        return 1 / len(self.labels)

    def as_dict(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "protocol": self.protocol,
            "speakers_apart": self.speakers_apart,
            "data": self.data,
            "labels": list(self.labels),
            "n": self.n,
            "speakers": self.speakers,
            "pool": {"clips": self.pool, "speakers": self.pool_speakers},
            "chance": self.chance,
            "zero_shot": self.zero_shot.as_dict() if self.zero_shot else None,
            "points": [point.as_dict() for point in self.points],
            "notes": list(self.notes),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row a point, as in the CSV file; the zero-shot line comes first, with 0 shots."""
        same = {"encoder": self.encoder, "protocol": self.protocol, "chance": f"{self.chance:.6f}"}
        found = []
        if self.zero_shot:
            found.append({**same, "readout": "zero-shot", "shots": 0, "support_clips": 0, **_cells(self.zero_shot, ())})
        for point in self.points:
            shots = "all" if point.shots is None else point.shots
            own = {"readout": point.readout, "shots": shots, "support_clips": point.support}
            found.append({**same, **own, **_cells(point.accuracy, point.draws)})
        return found

    def __str__(self) -> str:
        who = f" of {self.speakers:,} speakers" if self.speakers else ""
        learnt = f" of {self.pool_speakers:,} speakers" if self.pool_speakers else ""
        apart = ", other speakers than those reported" if self.speakers_apart else ""
        lines = [
            f"{self.encoder}, protocol {self.protocol}: {self.n:,} clips{who} reported ({self.data}), "
            f"{self.pool:,} clips{learnt} to learn from{apart}",
            f"{'read-out':<12}  {'clips a word':>12}  {'draws':>5}  accuracy",
        ]
        if self.zero_shot:
            lines.append(f"{'zero-shot':<12}  {0:>12}  {'':>5}  {self.zero_shot}")
        for point in self.points:
            shots = "all" if point.shots is None else f"{point.shots:,}"
            lines.append(f"{point.readout:<12}  {shots:>12}  {len(point.draws):>5}  {point.accuracy}{_range(point)}")
        lines.append(f"{'chance':<12}  {'':>12}  {'':>5}  {100 * self.chance:.1f} %, {len(self.labels)} words")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def curves_csv(curves: Sequence[LearningCurve]) -> str:
    """The points of several curves as CSV."""
    text = io.StringIO()
    table = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    table.writeheader()
    for curve in curves:
        table.writerows(curve.rows())
    return text.getvalue()


def curves_figure(curves: Sequence[LearningCurve]) -> Figure:
    """The curves of encoders side by side, on the same clips and by the same protocol.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from kws_imagebind.reporting.figures.learning_curve import Panel, learning_curve_figure

    panels = []
    for curve in curves:
        names = dict.fromkeys(point.readout for point in curve.points)
        lines = {
            name: [(point.shots, point.accuracy) for point in curve.points if point.readout == name] for name in names
        }
        panels.append(Panel(curve.encoder, lines, curve.zero_shot, curve.chance))
    first = curves[0]
    draws = max(len(point.draws) for point in first.points)
    caption = f"protocol {first.protocol}, {draws} draw{'s' if draws > 1 else ''}; n = {first.n:,} clips"
    who = f" of {first.speakers:,} speakers" if first.speakers else ""
    return learning_curve_figure(panels, f"Few labelled clips, {first.data}", f"{caption}{who}")


def learning_curve(
    support: Sequence[Embeddings],
    reported: Embeddings,
    readouts: Sequence[str],
    protocol: Sampling | None = None,
    shots: Sequence[int] | None = None,
    draws: int | None = None,
    text: ZeroShotClassifier | None = None,
    **options: Any,
) -> LearningCurve:
    """Fits read-outs to support sets and measures each on the reported clips.

    Args:
        support: clips to learn from, of one or several data sets, never those reported.
        reported: clips to measure on; its data set's keywords are the candidates.
        readouts: names, as in `readouts.registry`.
        protocol: how support sets are drawn; None takes all clips at once, a probe.
        shots: clips a word; by default the protocol's.
        draws: support sets; by default the protocol's.
        text: zero-shot classifier of the same words, for the zero-shot line and for read-outs that start there.
        options: of the read-outs, such as `strength`.

    Raises:
        FewShotError: encoders differ; a word has too few clips or, for read-outs that know nothing else of it, none.
        MetricError: a clip is on both sides.
    """
    labels = reported.dataset.labels
    if any(part.fingerprint != reported.fingerprint for part in support):
        raise FewShotError(
            f"the clips to learn from were encoded by {listed({part.fingerprint for part in support})}, the reported "
            f"ones by {reported.fingerprint}; vectors of different encoders do not compare, so encode both with one"
        )
    pool, clips = Pool.of(support, labels), reported.identities
    shared = check_disjoint(pool.clips, clips, "the read-outs")  # before speakers are left out, and the clips with them
    pool, apart, notes = _kept_apart(pool, clips, protocol)
    notes += [] if apart else shared
    targets = _targets(reported)
    speakers = [clip.speaker for clip in clips]
    points = []
    for name in readouts:
        for sets in _support_sets(pool, protocol, shots, draws, apart):
            hits = np.stack([_hits(fit_readout(name, one, text, **options)(reported).values, targets) for one in sets])
            accuracies = tuple(hits.mean(axis=1).tolist())
            points.append(Point(name, sets[0].shots, crossed_interval(hits, speakers), accuracies, len(sets[0])))
    if protocol and any(point.accuracy.method != METHOD for point in points):
        notes.append("one draw: the intervals contain how speakers vary, and not how support sets would")
    if any(name is None for name in speakers):
        notes.append(
            "speakers are unknown: the intervals take clips as independent, and are too narrow if they are not"
        )
    zero = crossed_interval([_hits(text(reported).values, targets)], speakers) if text else None
    split = f", {reported.dataset.split}" if reported.dataset.split else ""
    return LearningCurve(
        encoder=reported.encoder,
        fingerprint=reported.fingerprint,
        protocol=protocol.name if protocol else PROBE,
        speakers_apart=apart,
        data=f"{reported.dataset.name}{split}, task {reported.dataset.task}",
        labels=labels,
        n=len(reported),
        speakers=_count(clips),
        pool=len(pool),
        pool_speakers=_count(pool.clips),
        zero_shot=zero,
        points=tuple(points),
        notes=tuple(notes),
    )


def _kept_apart(pool: Pool, clips: Sequence[ClipIdentity], protocol: Sampling | None) -> tuple[Pool, bool, list[str]]:
    """The pool without speakers that are reported, where the protocol asks for that; a probe does if it can."""
    known = all(clip.speaker for clip in (*pool.clips, *clips))
    apart = protocol.speakers_apart if protocol else known
    if not apart:
        return pool, False, [] if known else ["speakers are unknown, so that some may be on both sides"]
    if any(clip.speaker is None for clip in clips):
        raise FewShotError(
            "the speakers of some reported clips are unknown, so that they cannot be kept apart from those to learn "
            "from; name files SPEAKER_nohash_N.wav, or take --protocol mteb"
        )
    kept = pool.without_speakers({clip.speaker for clip in clips if clip.speaker})
    if len(kept) == len(pool):
        return kept, True, []
    return kept, True, [f"{len(pool) - len(kept):,} clips to learn from are of speakers reported, and were left out"]


def _support_sets(
    pool: Pool, protocol: Sampling | None, shots: Sequence[int] | None, draws: int | None, apart: bool
) -> list[list[Support]]:
    """The support sets of each number of shots."""
    if protocol is None:
        return [[replace(pool.everything(), speakers_apart=apart)]]
    count = draws or protocol.draws
    return [
        [pool.draw(protocol, number, draw, count) for draw in range(count)]
        for number in sorted(set(shots or protocol.shots))
    ]


def _hits(values: Tensor, targets: Tensor) -> NDArray[np.bool_]:
    return (ranking(values)[:, 0] == targets).numpy()


def _targets(reported: Embeddings) -> Tensor:
    columns = {label.casefold(): column for column, label in enumerate(reported.dataset.labels)}
    return torch.tensor([columns[utterance.label.casefold()] for utterance in reported.utterances])


def _count(clips: Sequence[ClipIdentity]) -> int:
    names = {clip.speaker for clip in clips}
    return 0 if None in names else len(names)


def _cells(interval: Interval, draws: Sequence[float]) -> dict[str, Any]:
    return {
        "draws": len(draws) or "",
        "accuracy": f"{interval.estimate:.6f}",
        "low": f"{interval.low:.6f}",
        "high": f"{interval.high:.6f}",
        "n": interval.n,
        "accuracy_of_each_draw": " ".join(f"{draw:.6f}" for draw in draws),
    }


def _range(point: Point) -> str:
    if len(point.draws) < 2:
        return ""
    return f"; draws {100 * min(point.draws):.1f} to {100 * max(point.draws):.1f}"
