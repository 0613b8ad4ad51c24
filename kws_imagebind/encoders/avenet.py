"""A network of `train avenet` as an encoder: sounds and pictures in one space, and no texts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.encoders.base import EncoderError, check_waveforms, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.runs import read_about, write_about
from kws_imagebind.files import sha256, whole
from kws_imagebind.models.avenet import AVENet, AVENetConfig, AVOLNet, L3Net, build, pixels
from kws_imagebind.registry import to_install

RUN, WEIGHTS = "correspondence.json", "network.safetensors"
FORMAT = 1
BATCH = 64


@dataclass(frozen=True)
class CorrespondenceRun:
    """What a finished training is, in `correspondence.json`.

    Attributes:
        network: "avenet", "avolnet" or "l3net".
        config: its sizes.
        sound: what it hears, with the training sounds' mean and deviation.
        card: for reports.
        details: recipe, seed, data, history: for people, never read back.
    """

    network: str
    config: AVENetConfig
    sound: FrontEnd
    card: Card
    details: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, network: AVENet | AVOLNet | L3Net) -> None:
        """Writes the weights and, last, `correspondence.json`, without which the folder is no finished run."""
        with whole(folder / WEIGHTS) as part:
            save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, part)
        content = {
            "format": FORMAT,
            "network": self.network,
            "config": asdict(self.config),
            "sound": asdict(self.sound),
            "card": self.card.as_dict(),
            "details": self.details,
        }
        write_about(folder / RUN, content)


def is_correspondence_run(name: str | Path) -> bool:
    """Whether a folder holds a finished training of a correspondence network."""
    return (Path(name) / RUN).is_file()


def read_correspondence_run(folder: Path) -> CorrespondenceRun:
    """A run from its folder.

    Raises:
        EncoderError: `correspondence.json` is missing, damaged or of another version.
    """
    return read_about(folder / RUN, FORMAT, "kws-imagebind train avenet", _run_of)


def _run_of(content: dict[str, Any]) -> CorrespondenceRun:
    config = content["config"]
    image, sound = config.pop("image"), config.pop("sound")
    return CorrespondenceRun(
        content["network"],
        AVENetConfig((image[0], image[1]), (sound[0], sound[1]), **config),
        FrontEnd(**content["sound"]),
        Card.from_dict(content["card"]),
        content["details"],
    )


def load_network(folder: Path) -> tuple[CorrespondenceRun, AVENet | AVOLNet | L3Net]:
    """A run and its network, on the CPU and ready to compute.

    Raises:
        EncoderError: the folder is damaged.
    """
    run = read_correspondence_run(folder)
    network = build(run.network, run.config)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise EncoderError(
            f"'{folder / WEIGHTS}' does not hold the weights of {run.network} ({reason}); copy the folder again, or "
            "train again"
        ) from error
    return run, network.eval()


class AVENetEncoder:
    """Recordings and pictures into the space that correspondence made.

    Args:
        folder: that `train avenet` wrote.
        device: to compute on.

    Raises:
        EncoderError: the folder is damaged, or its network has no common space.
    """

    default_template = "{}"
    precision = "fp32"
    words: tuple[str, ...] = ()  # texts that it can read: none

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        run, network = load_network(folder)
        if isinstance(network, L3Net):
            raise EncoderError(
                f"'{folder}' holds an L3-Net, whose sounds and pictures lie in two spaces; name a run of avenet"
            )
        self.folder, self.run = folder, run
        self._device = device or torch.device("cpu")
        self.network = network.to(self._device)
        self.name, self.card = f"avenet:{folder}", run.card  # by which `search` finds it again
        self.dim, self.sample_rate = run.config.embedding, run.sound.sample_rate
        self.padding = f"centred in silence to {run.sound.seconds:g} s; of a longer clip the loudest stretch"
        told = json.dumps([run.network, asdict(run.config), asdict(run.sound)])
        self.fingerprint = hashlib.sha256((sha256(folder / WEIGHTS) + told).encode()).hexdigest()[:16] + "-fp32"

    @classmethod
    def from_folder(cls, checkpoint: str | Path, device: str = "auto") -> AVENetEncoder:
        """A run from the folder that `train avenet` wrote."""
        return cls(Path(checkpoint), resolve_device(device))

    @torch.no_grad()
    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Waveforms (samples,), each of its own length -> (n, dim) float32 on the CPU, unit norm."""
        check_waveforms(waveforms)
        found = [torch.zeros(0, self.dim)]
        for start in range(0, len(waveforms), BATCH):
            rows = self.run.sound.fit(waveforms[start : start + BATCH]).to(self._device)
            found.append(self.network.sound_vectors(self.run.sound(rows)).float().cpu())
        return torch.cat(found)

    @torch.no_grad()
    def encode_image(self, images: Sequence[str | os.PathLike[str]]) -> Tensor:
        """Picture files -> (n, dim) float32 on the CPU, unit norm; scaled to cover the network's size, then cut."""
        found = [torch.zeros(0, self.dim)]
        for start in range(0, len(images), BATCH):
            rows = np.stack([_picture(Path(path), self.run.config.image) for path in images[start : start + BATCH]])
            seen = pixels(torch.from_numpy(rows)).to(self._device)
            found.append(self.network.image_vectors(seen).float().cpu())
        return torch.cat(found)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Refuses.

        Raises:
            EncoderError: always.
        """
        raise EncoderError(
            f"'{self.name}' learnt from pictures and sounds and reads no texts; look for a picture or a recording, as "
            "in 'search INDEX --like picture.png'"
        )


def _picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8."""
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise EncoderError(f"pictures need Pillow; {to_install('pillow', 'vision')}") from error
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (size[1], size[0])))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EncoderError(f"{path}: cannot be read as a picture; expected JPEG, PNG or WebP") from error
