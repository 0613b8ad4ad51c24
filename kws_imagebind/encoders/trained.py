"""A network that learnt its words from recordings: the folder that `train` leaves, as a scorer and as an encoder.

As a scorer it gives the network's own log-probabilities, which only its own words have. As an encoder it gives the
vector before the classifier, for few-shot learning, search and maps; the text of a word is then the middle of that
word's training clips.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.base import ClipIdentity, listed
from kws_imagebind.encoders.base import Encoder, EncoderError, check_waveforms, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.runs import read_about, write_about
from kws_imagebind.files import sha256, whole
from kws_imagebind.models.networks import Architecture, build
from kws_imagebind.text.keywords import label

RUN, WEIGHTS, CLIPS = "run.json", "network.safetensors", "clips.csv"
FORMAT = 1
MIDDLES = "middles"  # the tensor of the words' middles, beside the network's weights
_COLUMNS = ["role", "path", "label", "speaker", "content"]


@dataclass(frozen=True)
class LearntClip:
    """A clip that trained the network or chose its checkpoint."""

    role: str
    path: str
    label: str
    identity: ClipIdentity


@dataclass(frozen=True)
class TrainedRun:
    """What a finished training is, in `run.json`.

    Attributes:
        network: its name, such as "bc-resnet:3".
        labels: in the order of its logits.
        architecture: from which it is built again.
        front_end: what it sees; None for a probe.
        encoder: of a probe: name and fingerprint of the encoder whose vectors it reads.
        card: for reports.
        details: recipe, seed, data, validation, complexity: for people, never read back.
    """

    network: str
    labels: tuple[str, ...]
    architecture: Architecture
    front_end: FrontEnd | None
    encoder: tuple[str, str] | None
    card: Card
    details: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, network: nn.Module, middles: Tensor, clips: Sequence[LearntClip]) -> None:
        """Writes weights, clips and, last, run.json, without which the folder is no finished run."""
        weights = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
        with whole(folder / WEIGHTS) as part:
            save_file({**weights, MIDDLES: middles.contiguous()}, part)
        with whole(folder / CLIPS) as part, part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(_COLUMNS)
            for each in clips:
                rows.writerow((each.role, each.path, each.label, each.identity.speaker or "", each.identity.content))
        content = {
            "format": FORMAT,
            "network": self.network,
            "labels": list(self.labels),
            "architecture": asdict(self.architecture),
            "front_end": asdict(self.front_end) if self.front_end else None,
            "encoder": list(self.encoder) if self.encoder else None,
            "card": self.card.as_dict(),
            "details": self.details,
        }
        write_about(folder / RUN, content)


def is_run(name: str | Path) -> bool:
    """Whether a folder holds a finished training."""
    return (Path(name) / RUN).is_file()


def read_run(folder: Path) -> TrainedRun:
    """A run from its folder.

    Raises:
        EncoderError: `run.json` is missing, damaged or of another version.
    """
    return read_about(folder / RUN, FORMAT, "train", _run_of)


def _run_of(content: dict[str, Any]) -> TrainedRun:
    shape = content["architecture"].pop("shape")
    return TrainedRun(
        content["network"],
        tuple(content["labels"]),
        Architecture(shape=(shape[0], shape[1]), **content["architecture"]),
        FrontEnd(**content["front_end"]) if content["front_end"] else None,
        (content["encoder"][0], content["encoder"][1]) if content["encoder"] else None,
        Card.from_dict(content["card"]),
        content["details"],
    )


def learnt_clips(folder: Path) -> tuple[LearntClip, ...]:
    """The clips that trained a run or chose its checkpoint.

    Raises:
        EncoderError: the table is missing or damaged; without it nobody can say which clips may be reported.
    """
    path = folder / CLIPS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
        if header != _COLUMNS or not rows:
            raise ValueError(f"expected rows of {','.join(_COLUMNS)}")
        return tuple(
            LearntClip(role, name, word, ClipIdentity(content, speaker or None))
            for role, name, word, speaker, content in rows
        )
    except (OSError, ValueError, csv.Error) as error:
        raise EncoderError(
            f"'{path}' is missing or damaged ({error}), so nothing says which clips the network learnt from; copy the "
            "folder again, or train again"
        ) from error


class TrainedNetwork:
    """A run as a `Scorer` and as an `Encoder`.

    Args:
        folder: that `train` wrote.
        run: read from it.
        network: with its weights.
        middles: (labels, dim) unit vectors, the middle of each word's training clips.
        base: of a probe, the encoder whose vectors it reads.
        device: to compute on.
    """

    default_template = "{}"
    precision = "fp32"

    def __init__(
        self,
        folder: Path,
        run: TrainedRun,
        network: nn.Module,
        middles: Tensor,
        base: Encoder | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.folder, self.run, self.labels = folder, run, run.labels
        self._device = device or torch.device("cpu")
        self._network, self._middles, self._base = network.to(self._device).eval(), middles, base
        self.name, self.card = run.card.name, run.card
        self.dim = middles.shape[1]
        self.sample_rate = base.sample_rate if base else _front_end(run).sample_rate
        self.padding = (
            getattr(base, "padding", "unknown")
            if base
            else f"centred in silence to {_front_end(run).seconds:g} s; of a longer clip the loudest stretch"
        )
        self.fingerprint = _fingerprint(folder, run)

    @classmethod
    def from_folder(cls, folder: Path, device: str = "auto") -> TrainedNetwork:
        """A run from the folder that `train` wrote.

        Raises:
            EncoderError: the folder is damaged, or a probe's encoder is not the one it learnt with.
            NetworkError: the network cannot be built, for example because timm is not installed.
        """
        run = read_run(folder)
        network = build(run.architecture)
        try:
            weights = load_file(folder / WEIGHTS)
            middles = weights.pop(MIDDLES)
            network.load_state_dict(weights)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0][:120]
            raise EncoderError(
                f"'{folder / WEIGHTS}' does not hold the weights of {run.network} for {len(run.labels)} words "
                f"({reason}); copy the folder again, or train again"
            ) from error
        return cls(folder, run, network, middles, _base(run, device), resolve_device(device))

    @property
    def kind(self) -> Literal["supervised", "probe"]:
        """What the protocol of its scores says."""
        return "supervised" if self._base is None else "probe"

    @property
    def words(self) -> tuple[str, ...]:
        """The only texts it has vectors for."""
        return self.labels

    @property
    def support(self) -> tuple[ClipIdentity, ...]:
        """The clips that trained it or chose its checkpoint, which may not be reported."""
        return tuple(each.identity for each in learnt_clips(self.folder))

    def logits(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Waveforms (samples,) -> (n, labels) float32 on the CPU."""
        with torch.no_grad():
            return self._network(self._seen(waveforms)).float().cpu()

    def heads(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Waveforms (samples,) -> the vectors (n, ...) of each head, in their order."""
        with torch.no_grad():
            return tuple(each.float().cpu() for each in self._network.heads(self._seen(waveforms)))  # type: ignore[operator]

    def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
        """Log-probabilities among all its labels, of the keywords: (waveforms, keywords) float32.

        Raises:
            EncoderError: a keyword is not one of its labels.
        """
        columns = self._columns([label(keyword) for keyword in keywords])
        if not len(waveforms):
            return torch.zeros(0, len(columns))
        return F.log_softmax(self.logits(waveforms), 1)[:, columns]

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        """(n, dim) float32, unit norm: the vector that the classifier reads."""
        if not len(waveforms):
            return torch.zeros(0, self.dim)
        return unit(self.heads(waveforms)[-1])

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(n, dim) float32, unit norm: the middle of the training clips of each word.

        Raises:
            EncoderError: a text is not one of its labels.
        """
        return self._middles[self._columns(texts)]

    def _columns(self, words: Sequence[str]) -> list[int]:
        known = {each.casefold(): column for column, each in enumerate(self.labels)}
        missing = sorted({word for word in words if word.casefold() not in known})
        if missing:
            raise EncoderError(
                f"'{self.name}' learnt {listed(self.labels)}, and not {listed(missing)}; name only its words with "
                "--keywords, or train on these"
            )
        return [known[word.casefold()] for word in words]

    def _seen(self, waveforms: Sequence[Tensor]) -> Tensor:
        check_waveforms(waveforms)
        if self._base is not None:
            return self._base.encode_audio(waveforms).to(self._device)
        front_end = _front_end(self.run)
        # In the order of memory in which processors convolve fastest.
        return front_end(front_end.fit(waveforms).to(self._device)).contiguous(memory_format=torch.channels_last)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of unit norm; one of zeros, which ReLU can give, becomes the vector of equal numbers.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6..., 0.8...], [0.7071..., 0.7071...]]
    """
    return F.normalize(vectors.where(vectors.norm(dim=1, keepdim=True) > 0, 1.0), dim=1)


def _front_end(run: TrainedRun) -> FrontEnd:
    if run.front_end is None:
        raise EncoderError(f"'{RUN}' of {run.network} has no front end; train again")
    return run.front_end


def _base(run: TrainedRun, device: str) -> Encoder | None:
    if run.encoder is None:
        return None
    from kws_imagebind.encoders.registry import load_encoder

    name, fingerprint = run.encoder
    base = load_encoder(name, device)
    if base.fingerprint != fingerprint:
        raise EncoderError(
            f"the probe learnt from vectors of '{name}' ({fingerprint}), and this one is {base.fingerprint}; "
            "install the same version, or train the probe again"
        )
    return base


def _fingerprint(folder: Path, run: TrainedRun) -> str:
    seen = json.dumps([run.network, list(run.labels), asdict(run.front_end) if run.front_end else run.encoder])
    return f"{hashlib.sha256((sha256(folder / WEIGHTS) + seen).encode()).hexdigest()[:16]}-fp32"
