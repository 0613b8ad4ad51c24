"""ImageBind's weights: where they come from, where they lie, and how they get into the towers.

The weights are Meta's and are never part of this project. They lie in `.checkpoints/`, either as the published file
or as a subset of it that `imagebind_download` wrote: the tensors of some modalities, as safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from kws_imagebind.encoders.base import PRECISIONS, EncoderError
from kws_imagebind.models import int8
from kws_imagebind.models.checkpoint import (
    CheckpointError,
    TensorRecord,
    fingerprint,
    read_index,
)
from kws_imagebind.models.imagebind import (
    MODALITIES,
    OTHER_MODALITIES,
    ImageBind,
    ImageBindConfig,
    StateDictError,
    check_shapes,
    modality_of,
)
from kws_imagebind.models.transformer import Block

FOLDER = ".checkpoints"
FOLDER_VARIABLE = "KWS_IMAGEBIND_CHECKPOINTS"
STEM = "imagebind_huge"
LICENCE = "CC BY-NC-SA 4.0"
UNITS_AT_ONCE = 8  # blocks whose float32 weights are in memory while they are made smaller


@dataclass(frozen=True)
class Source:
    """A checkpoint on a server.

    Attributes:
        url: its address.
        size: bytes of the whole file.
        sha256: of the whole file; None to take what comes.
        subset_size: bytes of the audio and text tensors, for messages.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    subset_size: int | None = None


PUBLISHED = Source(
    url=f"https://dl.fbaipublicfiles.com/imagebind/{STEM}.pth",
    size=4_803_584_173,
    sha256="d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157",
    subset_size=1_761_096_876,
)


def default_folder() -> Path:
    """`.checkpoints` in the working directory, or what the variable KWS_IMAGEBIND_CHECKPOINTS says."""
    return Path(os.environ.get(FOLDER_VARIABLE, FOLDER))


def subset_name(modalities: Iterable[str]) -> str:
    """
    >>> subset_name(["text", "audio"])
    'imagebind_huge.audio-text.safetensors'
    """
    return f"{STEM}.{'-'.join(sorted(modalities))}.safetensors"


@dataclass(frozen=True)
class Weights:
    """A checkpoint on this disk.

    Attributes:
        path: of the published file, or of a subset.
        records: the tensors in it, by name.
        is_published: whether it is Meta's file or a part of it, by its size and origin.
    """

    path: Path
    records: dict[str, TensorRecord]
    is_published: bool

    @classmethod
    def find(cls, modalities: Iterable[str], folder: Path | None = None) -> Weights:
        """The smallest file that has the tensors of these modalities.

        Args:
            modalities: what is wanted.
            folder: where to look, or the file itself; by default `default_folder()`.

        Raises:
            EncoderError: there is none; says what to download, how large it is and under which licence.
        """
        folder, wanted = folder or default_folder(), set(modalities)
        if folder.is_file():
            return cls.open(folder)
        subsets = [
            path for path in folder.glob(f"{STEM}.*.safetensors") if wanted <= set(path.name.split(".")[1].split("-"))
        ]
        whole = [path for path in [folder / f"{STEM}.pth"] if path.is_file()]
        found = sorted(subsets + whole, key=lambda path: path.stat().st_size)
        if not found:
            raise EncoderError(missing_message(folder, sorted(wanted)))
        return cls.open(found[0])

    @classmethod
    def open(cls, path: Path) -> Weights:
        """Read what is in a file; no tensor yet.

        Raises:
            EncoderError: it is no checkpoint.
        """
        try:
            if path.suffix == ".safetensors":
                return cls._open_subset(path)
            with path.open("rb") as file:
                records = read_index(file)
            if not all(record.whole for record in records.values()):
                raise CheckpointError("it does not keep each tensor by itself")
            return cls(path, records, path.stat().st_size == PUBLISHED.size)
        except (CheckpointError, OSError, KeyError, json.JSONDecodeError) as error:
            raise EncoderError(f"{path} holds no ImageBind weights ({error}); remove it and download again") from error

    @classmethod
    def _open_subset(cls, path: Path) -> Weights:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < path.stat().st_size:
                raise CheckpointError("it is no whole safetensors file")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        crc32 = json.loads(metadata["crc32"])
        records = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            records[name] = TensorRecord(
                name, entry["dtype"], tuple(entry["shape"]), 8 + length + start, end - start, crc32[name], True
            )
        end = max((record.header + record.size for record in records.values()), default=0)
        if end != path.stat().st_size:
            raise CheckpointError(f"it is cut short: it has {path.stat().st_size:,} bytes and promises {end:,}")
        origin = (metadata["source"], metadata["source_size"])
        return cls(path, records, origin == (PUBLISHED.url, str(PUBLISHED.size)))

    def fingerprint(self, modalities: Iterable[str]) -> str:
        """The same for the same tensors, whichever file they are in."""
        wanted = set(modalities)
        return fingerprint(record for record in self.records.values() if modality_of(record.name) in wanted)

    def read(self, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
        """The tensors whose names begin so, mapped from the file into memory: none is read before it is used."""
        if self.path.suffix == ".safetensors":
            with safe_open(self.path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}  # noqa: SIM118
        state = torch.load(self.path, map_location="cpu", mmap=True, weights_only=True)
        return {name: value for name, value in state.items() if name.startswith(prefixes)}


def missing_message(folder: Path, modalities: list[str]) -> str:
    """What to do without weights, in one line."""
    names = ",".join(modalities)
    subset = f"{(PUBLISHED.subset_size or 0) / 1e9:.2f} GB" if names == "audio,text" else "only what they need"
    return (
        f"no ImageBind weights for {names} in '{folder}': fetch them with 'kws-imagebind download imagebind "
        f"--modalities {names}' ({subset}; the whole file is {(PUBLISHED.size or 0) / 1e9:.2f} GB). They are Meta's, "
        f"under the licence {LICENCE}: non-commercial use only"
    )


def load_model(weights: Weights, config: ImageBindConfig, modalities: tuple[str, ...], precision: str) -> ImageBind:
    """The towers of some modalities on the CPU, in a precision.

    In float32 the tensors stay in the file until they are used. For the others a few blocks at a time are read and
    made smaller, so the float32 model is never in memory as a whole.

    Raises:
        EncoderError: names the tensors that are missing, unexpected or misshapen.
    """
    with torch.device("meta"):
        model = ImageBind(config, modalities).eval().requires_grad_(False)
    passed_over = {*MODALITIES, *OTHER_MODALITIES} - set(modalities)
    found = {name: record for name, record in weights.records.items() if modality_of(name) not in passed_over}
    try:
        check_shapes(found, {name: value.shape for name, value in model.state_dict().items()})
    except StateDictError as error:
        raise EncoderError(f"{weights.path}: {error}") from error
    for units in _groups(model, precision):
        state = weights.read(tuple(f"{name}." for name, _ in units))
        for name, unit in units:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            unit.load_state_dict(own, assign=True)
            _shrink(unit.requires_grad_(False), precision, is_last=name in _last_blocks(model))
        del state, own  # and with them the mapping of the file, unless something above still lies in it
    return model


Unit = tuple[str, nn.Module]  # with its name in the model


def _groups(model: ImageBind, precision: str) -> list[list[Unit]]:
    """The parts of a model in the groups in which they are read."""
    units = _units(model)
    if precision == "fp32":
        return [units]
    blocks = [unit for unit in units if isinstance(unit[1], Block)]
    groups = [blocks[start : start + UNITS_AT_ONCE] for start in range(0, len(blocks), UNITS_AT_ONCE)]
    return [*groups, [unit for unit in units if not isinstance(unit[1], Block)]]


def _units(model: ImageBind) -> list[Unit]:
    """Each block, and what is around the blocks."""
    units: list[Unit] = []
    for kind, towers in model.named_children():
        for modality, tower in towers.named_children():
            if kind != "modality_trunks":
                units.append((f"{kind}.{modality}", tower))
                continue
            for name, child in tower.named_children():
                parts = child.named_children() if name == "blocks" else [("", child)]
                units.extend((f"{kind}.{modality}.{name}.{i}".rstrip("."), part) for i, part in parts)
    return units


def _last_blocks(model: ImageBind) -> set[str]:
    return {f"modality_trunks.{m}.blocks.{getattr(model.config, m).depth - 1}" for m in model.modalities}


def _shrink(unit: nn.Module, precision: str, is_last: bool) -> None:
    if precision == "int8":
        if isinstance(unit, Block):
            int8.quantise(unit, is_last)
            unit._apply(torch.clone)  # what stayed in float32 would keep the whole file mapped
    elif precision != "fp32":
        unit.to(PRECISIONS[precision])
