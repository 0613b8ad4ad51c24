"""GLAP: audio-text vectors that hear speech (Dinkel et al. 2025, arXiv:2506.11350), through its own package."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import EncoderError, check_waveforms, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.hub import Checkpoint, is_offline, loading, needs, quiet, running

NAME = "glap"
PREPROCESSING = "glap-1"  # to be changed with anything on the way from a waveform to the model
SAMPLE_RATE = 16_000  # Hz
SHORTEST = 0.1  # s; the first patch needs a few frames
FILE = "glap_checkpoint.pt"  # as the package's own download is called
SIZE = "about 3.4 GB, Apache-2.0"
FETCH = "python -c 'import glap_model; glap_model.glap_inference()'"

log = logging.getLogger(__name__)


class GlapEncoder:
    """GLAP as an `Encoder`. The prompt of a spoken word is the word itself, as its authors recommend.

    The vector is a mean over time, so clips of different lengths are never padded to one length.
    """

    default_template = "{}"
    precision = "fp32"
    padding = "none; clips under 0.1 s are filled with silence"
    sample_rate = SAMPLE_RATE

    def __init__(self, checkpoint: Checkpoint, model: Any, device: torch.device) -> None:
        self.name = f"{NAME}:{checkpoint.name}" if checkpoint.name else NAME
        inner = model.model_impl
        for part in (inner.audio_encoder, inner.audio_proj, inner.text_proj):
            part.to(device)  # the package's text encoder makes its inputs on the CPU, so it stays there
        self._model, self._device = model.eval(), device
        self.dim = int(inner.embed_size)
        self.fingerprint = f"{PREPROCESSING}-{version('glap-model')}-{checkpoint.fingerprint}"
        self.card = Card(
            name=self.name,
            url="https://github.com/xiaomi-research/dasheng-glap",
            licence="Apache-2.0",
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            bytes=checkpoint.folder.stat().st_size,
            sample_rate=SAMPLE_RATE,
            trained_on=("YODAS", "captions of sounds and music in eight languages"),
            citation="Dinkel et al. 2025, arXiv:2506.11350",
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: str | None = None, device: str = "auto") -> GlapEncoder:
        """The encoder of a checkpoint file.

        Args:
            checkpoint: a file of the package's own format; None takes the authors' weights, which the package fetches.
                The package unpickles it, which runs code from the file, so name only files that you trust.
            device: "auto" takes an accelerator where there is one; texts are encoded on the CPU.

        Raises:
            EncoderError: the package is not installed, or the checkpoint is missing or cannot be read.
        """
        try:
            from glap_model.models import GLAPInference
            from glap_model.pretrained.pretrained import PRETRAINED_CHECKPOINTS
        except ModuleNotFoundError as error:
            raise needs("glap_model", NAME, NAME) from error
        quiet()
        chosen = resolve_device(device)
        path = Path(checkpoint) if checkpoint else Path(torch.hub.get_dir()) / "checkpoints" / FILE
        if checkpoint and not path.is_file():
            raise EncoderError(f"there is no checkpoint file '{checkpoint}'; leave it out for the authors' weights")
        if not path.is_file():
            _fetch(PRETRAINED_CHECKPOINTS["glap"], path)
        found = Checkpoint(checkpoint or "", path, _digest(path))
        # The package prints what it fetches besides; standard output belongs to results.
        with loading(Checkpoint(str(path), path, "")), redirect_stdout(sys.stderr):
            model = GLAPInference.from_pretrained(str(path))
        return cls(found, model, chosen)

    @torch.inference_mode()
    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        check_waveforms(waveforms)
        vectors = torch.zeros(len(waveforms), self.dim)
        least = round(SHORTEST * SAMPLE_RATE)
        by_length: dict[int, list[int]] = defaultdict(list)
        for position, waveform in enumerate(waveforms):
            by_length[max(least, len(waveform))].append(position)
        for length, positions in by_length.items():
            clips = torch.stack([F.pad(waveforms[each], (0, length - len(waveforms[each]))) for each in positions])
            with running(self.name):
                vectors[positions] = F.normalize(self._model.encode_audio(clips.to(self._device)).float(), dim=-1).cpu()
        return vectors

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        if not len(texts):
            return torch.zeros(0, self.dim)
        with running(self.name):
            return F.normalize(self._model.encode_text(list(texts), device=self._device).float(), dim=-1).cpu()


def _fetch(url: str, path: Path) -> None:
    """The authors' weights, to where the package itself keeps them.

    Raises:
        EncoderError: the network is out of reach, or HF_HUB_OFFLINE says to stay off it.
    """
    why = "HF_HUB_OFFLINE is set"
    if not is_offline():
        log.warning("fetching the weights of GLAP, %s, from Zenodo", SIZE)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
            return
        except (OSError, RuntimeError) as error:  # no connection, a full disk, a broken download
            why = f"they cannot be fetched ({' '.join(str(error).split())[:120]})"
    raise EncoderError(
        f'the weights of GLAP ({SIZE}) are not on this machine, and {why}; fetch them with "{FETCH}" where there is '
        "a network, or name a checkpoint file: 'glap:FILE'"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
