"""Checkpoints of the Hugging Face hub: found in its cache, fetched with a progress bar, or refused in one sentence.

A checkpoint is named ORGANISATION/NAME, ORGANISATION/NAME@REVISION, or is a folder that a library's `save_pretrained`
wrote. HF_HUB_OFFLINE=1 and HF_HOME are respected; once a checkpoint is there, nothing asks the network for it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kws_imagebind.encoders.base import PRECISIONS, EncoderError, resolve_device
from kws_imagebind.encoders.cards import Card
from kws_imagebind.registry import to_install

WEIGHTS = (".safetensors", ".bin")
# Weights for other frameworks, and what some repositories hold beside a model.
UNUSED = ("*.h5", "*.msgpack", "*.onnx", "*.ot", "*.tflite", "onnx/*", "openvino/*", "*.gguf", "*.mlmodel", "*.pth")
# Size and licence of checkpoints that are often asked for, for messages before anything of them is there.
KNOWN = {
    "laion/larger_clap_general": "0.8 GB, Apache-2.0",
    "laion/clap-htsat-fused": "0.6 GB, Apache-2.0",
    "laion/clap-htsat-unfused": "0.6 GB, Apache-2.0",
    "facebook/wav2vec2-base-960h": "0.4 GB, Apache-2.0",
    "openai/whisper-tiny": "0.15 GB, Apache-2.0",
    "openai/whisper-base": "0.3 GB, Apache-2.0",
    "jinaai/jina-embeddings-v5-omni-nano": "0.9 B parameters, CC-BY-NC-4.0",
    "jinaai/jina-embeddings-v5-omni-small": "1.7 B parameters, CC-BY-NC-4.0",
    "Haon-Chen/e5-omni-3B": "3 B parameters, MIT",
    "Haon-Chen/e5-omni-7B": "7 B parameters, MIT",
}
_BLOCK = 1 << 20  # bytes read at once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        name: as the user wrote it.
        folder: its files.
        fingerprint: the commit of the hub's repository, or a digest of the folder's files.
    """

    name: str
    folder: Path
    fingerprint: str

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.suffix in WEIGHTS)

    def card(self, name: str, model: nn.Module, sample_rate: int, citation: str = "") -> Card:
        """What is known of it: the licence and the data sets that the repository's own card names."""
        front = _front_matter(self.folder)
        datasets = front.get("datasets")
        return Card(
            name=name,
            url=str(self.folder) if Path(self.name).is_dir() else f"https://huggingface.co/{self.name}",
            licence=str(front.get("license") or ""),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            bytes=self.bytes,
            sample_rate=sample_rate,
            trained_on=tuple(map(str, datasets)) if isinstance(datasets, list) and datasets else None,
            citation=citation,
        )


def find_checkpoint(encoder: str, checkpoint: str | None, example: str) -> Checkpoint:
    """The files of a checkpoint, fetched if need be.

    Args:
        encoder: the name before the colon, for messages.
        checkpoint: what stands after the colon.
        example: of a checkpoint, for the message where none is named.

    Raises:
        EncoderError: no checkpoint is named, there is none of that name or revision, or it cannot be fetched.
    """
    if not checkpoint:
        raise EncoderError(f"encoder '{encoder}' needs a checkpoint after a colon, such as '{encoder}:{example}'")
    if Path(checkpoint).is_dir():
        folder = Path(checkpoint)
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise EncoderError(
                f"'{checkpoint}' holds no checkpoint: it has no config.json; save one there with save_pretrained"
            )
        return Checkpoint(checkpoint, folder, _digest(folder))
    if checkpoint.startswith(("/", ".", "~")) or checkpoint.count("/") > 1:
        raise EncoderError(
            f"'{checkpoint}' is not a folder; expected one that holds a checkpoint, or a name on the Hugging Face hub "
            f"such as '{example}'"
        )
    repository, _, revision = checkpoint.partition("@")
    folder = _fetched(encoder, repository, revision or None)
    return Checkpoint(checkpoint, folder, folder.name)


def _fetched(encoder: str, repository: str, revision: str | None) -> Path:
    """The folder of a snapshot in the cache of the hub's own library."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = f"{repository}@{revision}" if revision else repository
    try:
        try:
            return Path(snapshot_download(repository, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            if is_offline():
                raise
        unused = _announced(wanted, repository, revision)
        return Path(snapshot_download(repository, revision=revision, ignore_patterns=unused))
    except GatedRepoError as error:
        message = f"must be unlocked by its authors: accept its terms on https://huggingface.co/{repository}"
        raise EncoderError(f"checkpoint '{wanted}' {message}, then log in with 'hf auth login'") from error
    except RevisionNotFoundError as error:
        wrong = f"checkpoint '{repository}' has no revision '{revision}'"
        raise EncoderError(f"{wrong}; leave out '@{revision}', or name a branch, tag or commit") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EncoderError(
            f"there is no checkpoint '{wanted}' on the Hugging Face hub, or it is private; expected a name such as "
            f"'{next(iter(KNOWN))}', or a folder"
        ) from error
    except Exception as error:  # the hub's library has used several libraries for its requests, each with its errors
        known = f" ({KNOWN[repository]})" if repository in KNOWN else ""
        where = "HF_HUB_OFFLINE is set" if is_offline() else "the Hugging Face hub cannot be reached"
        command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
        raise EncoderError(
            f"checkpoint '{wanted}'{known} is not in the Hugging Face cache, and {where}; fetch it with '{command}' "
            f"where there is a network, or name a folder that holds it: '{encoder}:FOLDER'"
        ) from error


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE keeps the hub's library off the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _announced(wanted: str, repository: str, revision: str | None) -> list[str]:
    """Says what is about to be fetched, and returns patterns of what need not be.

    That is weights for other frameworks, and the same weights in an older format.
    """
    from huggingface_hub import HfApi

    found = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files = {each.rfilename: each.size or 0 for each in found.siblings or ()}
    twice = ["*.bin"] if any(name.endswith(".safetensors") for name in files) else []
    unused = [*UNUSED, *twice]
    size = sum(size for name, size in files.items() if not any(fnmatch(name, pattern) for pattern in unused))
    licence = getattr(found.card_data, "license", None) or "unknown"
    log.warning("fetching checkpoint '%s', %.2f GB, licence %s, from the Hugging Face hub", wanted, size / 1e9, licence)
    return unused


def _front_matter(folder: Path) -> dict[str, Any]:
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(readme).data.to_dict()
    except Exception:  # a card is prose by others: whatever is wrong with it, the model still runs
        return {}


def _digest(folder: Path) -> str:
    """Of a folder's files, names included."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        found.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class Chosen:
    """A checkpoint whose model is about to be loaded.

    Attributes:
        checkpoint: its files.
        device: to compute on.
        dtype: the model's arithmetic.
    """

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype

    def load(self, kind: Any) -> Any:
        """The checkpoint's part of a class of transformers: a tokeniser, a feature extractor."""
        return kind.from_pretrained(self.checkpoint.folder)

    def model(self, kind: Any) -> Any:
        """The checkpoint's model, of a class of transformers."""
        return kind.from_pretrained(self.checkpoint.folder, dtype=self.dtype)


def choose(encoder: str, checkpoint: str | None, example: str, device: str, precision: str) -> Chosen:
    """Checks device and precision, and then finds the checkpoint.

    Args:
        encoder: the name before the colon, for messages.
        checkpoint, example: as `find_checkpoint`.
        device: "auto" takes an accelerator where there is one.
        precision: as `resolve_precision`.

    Raises:
        EncoderError: the device, the precision or the checkpoint is not available.
    """
    quiet()
    chosen = resolve_device(device)
    dtype = resolve_precision(encoder, precision, chosen)
    return Chosen(find_checkpoint(encoder, checkpoint, example), chosen, dtype)


def needs(package: str, encoder: str, extra: str) -> EncoderError:
    """The error where an optional package is missing."""
    return EncoderError(f"encoder '{encoder}' needs the package {package}; {to_install(package, extra)}")


def check_architecture(checkpoint: Checkpoint, expected: str, why: str, *types: str) -> None:
    """Refuses a checkpoint of another architecture before its weights are read.

    Args:
        checkpoint: what was named.
        expected: in words.
        why: what such a model lacks if it is none of these.
        types: the `model_type` of the configurations that will do.

    Raises:
        EncoderError: it is of none of these types.
    """
    from transformers import AutoConfig

    with loading(checkpoint):
        found = AutoConfig.from_pretrained(checkpoint.folder).model_type
    if found not in types:
        raise EncoderError(
            f"checkpoint '{checkpoint.name}' is of the architecture '{found}', {why}; expected {expected}"
        )


@contextmanager
def loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Turns what libraries raise on a checkpoint that they cannot read into one sentence."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:  # safetensors, tokenizers, pickle and each model's code raise their own kinds
        if _is_out_of_memory(error):
            raise _too_large(checkpoint.name) from error
        first = " ".join(str(error).split())[:240]
        raise EncoderError(f"checkpoint '{checkpoint.name}' cannot be loaded: {first}") from error


@contextmanager
def running(name: str) -> Iterator[None]:
    """Turns running out of memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise _too_large(name) from error


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).casefold()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in text or "out of memory" in text
    )


def _too_large(name: str) -> EncoderError:
    return EncoderError(
        f"'{name}' ran out of memory; take a smaller --batch-size, --precision bf16, a smaller checkpoint, or "
        "another --device"
    )


def resolve_precision(name: str, precision: str, device: torch.device) -> torch.dtype:
    """The arithmetic of a checkpoint's model: "auto" is float32.

    Raises:
        EncoderError: unknown, or not on this device.
    """
    available = {"auto": torch.float32, **PRECISIONS}
    if device.type == "cpu":
        del available["fp16"]
    if precision not in available:
        raise EncoderError(f"'{name}' has no precision '{precision}' on {device.type}; take {', '.join(available)}")
    return available[precision]


def precision_name(dtype: torch.dtype) -> str:
    """
    >>> precision_name(torch.bfloat16)
    'bf16'
    """
    return next(name for name, each in PRECISIONS.items() if each is dtype)


def sampling_rate(checkpoint: Checkpoint, extractor: Any) -> int:
    """The rate that a checkpoint's feature extractor expects, in hertz.

    Raises:
        EncoderError: it names none that makes sense.
    """
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int) or not 4_000 <= rate <= 192_000:
        raise EncoderError(
            f"the feature extractor of checkpoint '{checkpoint.name}' names the sampling rate {rate!r}; expected hertz "
            "from 4000 to 192000, so repair its preprocessor_config.json"
        )
    return rate


def quiet() -> None:
    """Keeps libraries from talking on stderr: progress bars of loading, and notices that concern training."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as messages

    messages.set_verbosity_error()
    messages.disable_progress_bar()
