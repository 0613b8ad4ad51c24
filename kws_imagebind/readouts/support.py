"""The labelled clips that a read-out learns from, and the protocols by which they are drawn."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.datasets.base import ClipIdentity, listed
from kws_imagebind.readouts.base import Kind, ScoreProtocol

if TYPE_CHECKING:
    from kws_imagebind.embeddings.embed import Embeddings


class FewShotError(ValueError):
    """Clips that a read-out cannot learn from as asked; the message says why and what to change."""


@dataclass(frozen=True)
class Support:
    """Clips with their labels, to learn from.

    Attributes:
        features: (n, dim) float32, unit norm.
        targets: (n,) int64, indices into `labels`.
        labels: of all candidates; some may have no clips.
        clips: who and what the n clips are, for the guard against clips that are reported as well.
        kind: "few-shot", or "probe" where all clips there are were taken.
        shots: clips a label; None where they are not the same number.
        draws: how many such sets are drawn.
        speakers_apart: whether no speaker of these clips may be reported.
    """

    features: Tensor
    targets: Tensor
    labels: tuple[str, ...]
    clips: tuple[ClipIdentity, ...]
    kind: Kind = "few-shot"
    shots: int | None = None
    draws: int | None = None
    speakers_apart: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def weights(self) -> Tensor:
        """(n,) float64 of each clip, so that all labels count the same: 1 where they have the same number of clips."""
        counts = torch.bincount(self.targets, minlength=len(self.labels)).double()
        return len(self) / max(1, int((counts > 0).sum())) / counts[self.targets]

    def protocol(self, readout: str, templates: tuple[str, ...] = ()) -> ScoreProtocol:
        """The protocol of scores by a read-out that learnt from these clips."""
        return ScoreProtocol(
            self.kind,
            readout,
            templates=templates,
            shots=self.shots,
            draws=self.draws,
            support=self.clips,
            speakers_apart=self.speakers_apart,
        )

    def require_every_label(self, readout: str) -> None:
        """Refuses labels without clips, for read-outs that know nothing else of a label.

        Raises:
            FewShotError: names them.
        """
        present = set(self.targets.tolist())
        empty = [label for column, label in enumerate(self.labels) if column not in present]
        if empty:
            raise FewShotError(
                f"there are no clips of {listed(empty)} for '{readout}' to learn from; leave them out with --keywords, "
                "or take the read-out 'text-held', which keeps their text vectors"
            )


@dataclass(frozen=True)
class Sampling:
    """A protocol for drawing support sets.

    Attributes:
        name: as on the command line.
        description: one line.
        shots: clips a label, by default.
        draws: support sets, by default.
        readout: that the protocol was published with.
        speakers_apart: whether support and reported clips must have different speakers.
        order: (keys, speakers of the clips of all labels, their targets, draw) -> the order in which a label's clips
            are taken, as a permutation of all clips.
    """

    name: str
    description: str
    shots: tuple[int, ...]
    draws: int
    readout: str
    speakers_apart: bool
    order: Callable[[Sequence[str], Sequence[str | None], Sequence[int], int], NDArray[np.int64]]


def _by_chance(
    keys: Sequence[str], speakers: Sequence[str | None], targets: Sequence[int], draw: int
) -> NDArray[np.int64]:
    return np.random.default_rng([draw, 0x5EED]).permutation(len(keys))


def _by_name(
    keys: Sequence[str], speakers: Sequence[str | None], targets: Sequence[int], draw: int
) -> NDArray[np.int64]:
    """An order that depends on nothing but the clips' names, so that every encoder learns from the same ones."""
    lots = [hashlib.sha256(f"{draw}:{key}".encode(errors="backslashreplace")).digest() for key in keys]
    return np.array(sorted(range(len(keys)), key=lots.__getitem__), dtype=np.int64)


def _by_speakers(
    keys: Sequence[str], speakers: Sequence[str | None], targets: Sequence[int], draw: int
) -> NDArray[np.int64]:
    """Speakers in random order: one clip of a word from each, and a second one only when all have given one."""
    shuffled = _by_chance(keys, speakers, targets, draw)
    place: dict[str | None, int] = {}
    taken: Counter[tuple[str | None, int]] = Counter()
    lots = []
    for index in shuffled.tolist():
        speaker = speakers[index]
        turn = (speaker, targets[index])
        lots.append((taken[turn], place.setdefault(speaker, len(place)), index))
        taken[turn] += 1
    return np.array([index for _, _, index in sorted(lots)], dtype=np.int64)


SAMPLINGS = {
    each.name: each
    for each in (
        Sampling(
            "speakers",
            "ours: support and reported speakers differ, draws over speakers",
            (1, 2, 4, 8),
            10,
            "text-held",
            True,
            _by_speakers,
        ),
        Sampling(
            "mteb",
            "MTEB's AudioClassification: 8 clips a label, 10 draws, logistic regression",
            (8,),
            10,
            "logistic",
            False,
            _by_chance,
        ),
        Sampling(
            "imagebind",
            "ImageBind's appendix B.2: the same fixed clips for all encoders, linear head by AdamW",
            (1, 2, 4, 8),
            1,
            "linear-head",
            False,
            _by_name,
        ),
    )
}


def sampling(name: str) -> Sampling:
    """A protocol by its name.

    Raises:
        FewShotError: there is none of that name.
    """
    if name not in SAMPLINGS:
        raise FewShotError(f"unknown protocol '{name}'; available: {', '.join(SAMPLINGS)}")
    return SAMPLINGS[name]


@dataclass(frozen=True)
class Pool:
    """All clips that support sets are drawn from.

    Attributes:
        features: (n, dim).
        targets: (n,) indices into `labels`.
        labels: of the candidates.
        keys: names of the clips.
        clips: who and what they are.
    """

    features: Tensor
    targets: Tensor
    labels: tuple[str, ...]
    keys: tuple[str, ...]
    clips: tuple[ClipIdentity, ...]

    @classmethod
    def of(cls, parts: Sequence[Embeddings], labels: Sequence[str]) -> Pool:
        """The clips of one or several data sets whose label is among the candidates, upper and lower case alike.

        Raises:
            FewShotError: the parts are of different encoders, or no clip is left.
        """
        if len({part.fingerprint for part in parts}) > 1:
            raise FewShotError(
                f"the clips to learn from were encoded by {listed({part.fingerprint for part in parts})}; "
                "vectors of different encoders do not compare, so encode them again with one"
            )
        columns = {label.casefold(): column for column, label in enumerate(labels)}
        features, targets, keys, clips = [], [], [], []
        for part in parts:
            every = part.identities
            for row, utterance in enumerate(part.utterances):
                column = columns.get(utterance.label.casefold())
                if column is not None:
                    features.append(part.features[row])
                    targets.append(column)
                    keys.append(utterance.key)
                    clips.append(every[row])
        if not features:
            words = {utterance.label for part in parts for utterance in part.utterances}
            raise FewShotError(f"the clips to learn from say {listed(words)}; expected some of {listed(labels)}")
        return cls(torch.stack(features), torch.tensor(targets), tuple(labels), tuple(keys), tuple(clips))

    def __len__(self) -> int:
        return len(self.targets)

    def without_speakers(self, speakers: set[str]) -> Pool:
        """The clips of other speakers.

        Raises:
            FewShotError: none is left, or a clip's speaker is unknown.
        """
        unknown = sum(clip.speaker is None for clip in self.clips)
        if unknown:
            raise FewShotError(
                f"the speakers of {unknown:,} of {len(self):,} clips to learn from are unknown, so that they cannot be "
                "kept apart from those reported; name files SPEAKER_nohash_N.wav, or take --protocol mteb"
            )
        kept = [row for row, clip in enumerate(self.clips) if clip.speaker not in speakers]
        if not kept:
            raise FewShotError("all clips to learn from are of speakers that are reported; record other people")
        return self._only(kept)

    def everything(self) -> Support:
        """All clips, for a probe."""
        return Support(self.features, self.targets, self.labels, self.clips, "probe")

    def draw(self, protocol: Sampling, shots: int, draw: int, draws: int) -> Support:
        """A support set: `shots` clips of each label that has any. The sets of one draw contain each other.

        Args:
            protocol: how to draw.
            shots: clips a label.
            draw: number of the draw, from 0.
            draws: how many there are in all, for the protocol of the scores.

        Raises:
            FewShotError: a label has fewer clips, but more than none.
        """
        counts = Counter(self.targets.tolist())
        few = {self.labels[column]: count for column, count in sorted(counts.items()) if count < shots}
        if few:
            said = listed(f"{label} ({count:,})" for label, count in few.items())
            raise FewShotError(
                f"{shots:,} clips a word are asked for, but there are fewer of {said}; lower --shots, or leave these "
                "words out with --keywords"
            )
        speakers = [clip.speaker for clip in self.clips]
        order = protocol.order(self.keys, speakers, self.targets.tolist(), draw)
        taken: Counter[int] = Counter()
        rows = []
        for row in order.tolist():
            column = int(self.targets[row])
            if taken[column] < shots:
                taken[column] += 1
                rows.append(row)
        chosen = self._only(sorted(rows))
        return Support(
            chosen.features, chosen.targets, self.labels, chosen.clips, "few-shot", shots, draws,
            protocol.speakers_apart,
        )  # fmt: skip

    def _only(self, rows: list[int]) -> Pool:
        keys, clips = (tuple(each[row] for row in rows) for each in (self.keys, self.clips))
        return Pool(self.features[rows], self.targets[rows], self.labels, keys, clips)  # type: ignore[arg-type]
