"""What every read-out gives: scores of clips, with the protocol that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from kws_imagebind.datasets.base import ClipIdentity

Average = Literal["embedding", "score"]
AVERAGES: tuple[Average, ...] = ("embedding", "score")

Kind = Literal["zero-shot", "few-shot", "probe", "supervised", "likelihood"]


class HasFeatures(Protocol):
    """Anything with the vectors of clips, such as `Embeddings`."""

    @property
    def features(self) -> Tensor: ...


@dataclass(frozen=True)
class ScoreProtocol:
    """How scores were made, for reports and for the guard against clips that chose and are reported.

    Attributes:
        kind: "zero-shot" (prompts alone), "few-shot" and "probe" (a read-out that learnt from some or many clips),
            "supervised" (a network that learnt from these words), "likelihood" (a model without an embedding space).
        readout: name of the read-out, as in `kws-imagebind list`.
        templates: of the prompts; empty where there are none.
        average: the space in which several templates were averaged.
        shots: clips a word that the read-out learnt from; None where it learnt from none, or not by number.
        draws: how many support sets were drawn.
        support: the clips that trained or chose anything: support sets, thresholds, checkpoints.
        speakers_apart: whether the protocol promises that no speaker of `support` is reported; the guard then refuses.
    """

    kind: Kind = "zero-shot"
    readout: str = "zero-shot"
    templates: tuple[str, ...] = ()
    average: Average = "embedding"
    shots: int | None = None
    draws: int | None = None
    support: tuple[ClipIdentity, ...] = ()
    speakers_apart: bool = False

    @property
    def title(self) -> str:
        """The kind of run in a few words.

        >>> ScoreProtocol("few-shot", shots=5, draws=10).title, ScoreProtocol().title
        ('few-shot, 5 clips a word, 10 draws', 'zero-shot')
        """
        parts: list[str] = [self.kind]
        if self.shots:
            parts.append(f"{self.shots:,} clip{'s' if self.shots > 1 else ''} a word")
        if self.draws:
            parts.append(f"{self.draws:,} draws")
        return ", ".join(parts)


@dataclass(frozen=True)
class Scores:
    """How well each clip fits each keyword.

    Attributes:
        values: (n, keywords); higher fits better. Cosines from -1 to 1 for read-outs of an embedding space.
        labels: the keywords' labels, in the order of the columns.
        protocol: what made them.
    """

    values: Tensor
    labels: tuple[str, ...]
    protocol: ScoreProtocol = ScoreProtocol()


@runtime_checkable
class Readout(Protocol):
    """A head over cached vectors: zero-shot prompts, few-shot classifiers, probes.

    Attributes:
        labels: of its columns.
        protocol: what it is and what it learnt from.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def protocol(self) -> ScoreProtocol: ...

    def __call__(self, audio: HasFeatures | Tensor, /) -> Scores:
        """Scores of embeddings, or of their (n, dim) features."""
        ...
