"""ImageBind's weights: where they come from, where they lie, and how they get into the towers.

The weights are Meta's and are never part of this project. They lie in `.checkpoints/`, either as the published file
or as a subset of it that `imagebind_download` wrote: the tensors of some modalities, as safetensors.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from kws_imagebind.encoders.base import PRECISIONS, EncoderError
from kws_imagebind.files import whole
from kws_imagebind.models import int8
from kws_imagebind.models.checkpoint import (
    CheckpointError,
    TensorRecord,
    chunks,
    data_start,
    fingerprint,
    in_a_line,
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
FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
INFINITE = "modality_preprocessors.text.mask"  # the one tensor of the checkpoint that may hold infinities
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
        is_published: whether it is Meta's file or a part of it, by its size and origin. It speaks for the numbers only
            once `verify` has found them to be those of the checksums.
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
            EncoderError: it is not a checkpoint.
        """
        try:
            return cls._open_subset(path) if path.suffix == ".safetensors" else cls._open_whole(path)
        except Exception as error:  # there is no end to what can be wrong with a file
            raise EncoderError(
                f"'{path}' does not hold ImageBind weights ({in_a_line(error)}); remove it and download it again"
            ) from error

    @classmethod
    def _open_whole(cls, path: Path) -> Weights:
        with path.open("rb") as file:
            records = read_index(file)
        if not all(record.whole for record in records.values()):
            raise CheckpointError("it does not keep each tensor by itself")
        return cls(path, records, path.stat().st_size == PUBLISHED.size)

    @classmethod
    def _open_subset(cls, path: Path) -> Weights:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < size:
                raise CheckpointError("it is not a whole safetensors file")
            header = json.loads(file.read(length))
        if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
            raise CheckpointError("it has no header as the download writes it")
        metadata = header.pop("__metadata__")
        crc32 = json.loads(metadata["crc32"])
        if not isinstance(crc32, dict):
            raise CheckpointError("it does not say the CRC-32 of each tensor")
        records = {name: _subset_record(name, entry, 8 + length, crc32) for name, entry in header.items()}
        end = max((record.header + record.size for record in records.values()), default=0)
        if end != size:
            raise CheckpointError(f"it is cut short: it has {size:,} bytes and promises {end:,}")
        origin = (metadata.get("source"), metadata.get("source_size"))
        return cls(path, records, origin == (PUBLISHED.url, str(PUBLISHED.size)))

    def fingerprint(self, modalities: Iterable[str]) -> str:
        """The same for the same tensors, whichever file they are in. It is made of checksums that were checked.

        Raises:
            EncoderError: as `verify`.
        """
        wanted = tuple(modalities)
        self.verify(wanted)
        return fingerprint(self._of(wanted))

    def verify(self, modalities: Iterable[str]) -> None:
        """Check the bytes of some modalities' tensors against their CRC-32, once for a file as it lies there.

        What was checked is noted beside the file, so that the next start need not read it all again.

        Raises:
            EncoderError: names the tensor that is damaged, holds no numbers, or is of a kind that cannot be used.
        """
        with _explained(self.path):
            verified = Verified.of(self.path)
            for modality in modalities:
                records = self._of([modality])
                found = fingerprint(records)
                if verified.holds(modality, found):
                    continue
                with self.path.open("rb") as file:
                    for record in records:
                        _check(file, record)
                verified.add(modality, found)

    def read(self, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
        """The tensors whose names begin so, mapped from the file into memory: none is read before it is used.

        Raises:
            EncoderError: the file cannot be read.
        """
        with _explained(self.path):
            if self.path.suffix == ".safetensors":
                with safe_open(self.path, "pt") as file:
                    return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}  # noqa: SIM118
            state = torch.load(self.path, map_location="cpu", mmap=True, weights_only=True)
            return {name: value for name, value in state.items() if name.startswith(prefixes)}

    def _of(self, modalities: Iterable[str]) -> list[TensorRecord]:
        wanted = set(modalities)
        return [record for record in self.records.values() if modality_of(record.name) in wanted]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever goes wrong within is an EncoderError that names the file."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(
            f"the weights in {path} cannot be used: {in_a_line(error)}; remove the file and download again"
        ) from error


def _subset_record(name: str, entry: Any, data: int, crc32: dict[str, Any]) -> TensorRecord:
    dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    numbers = (*shape, start, end, crc32[name])
    if not isinstance(dtype, str) or not all(type(number) is int and number >= 0 for number in numbers):
        raise CheckpointError(f"its description of the tensor {name} makes no sense")
    if dtype in FLOATS and end - start != math.prod(shape) * FLOATS[dtype].itemsize:
        raise CheckpointError(f"the tensor {name} has not as many bytes as its shape says")
    return TensorRecord(name, dtype, shape, data + start, end - start, crc32[name], True)


def _check(file: IO[bytes], record: TensorRecord) -> None:
    dtype = FLOATS.get(record.dtype)
    if dtype is None:
        kinds = ", ".join(FLOATS)
        raise CheckpointError(f"the tensor {record.name} is of the kind {record.dtype}, and weights are {kinds}")
    crc, finite = 0, True
    for chunk in chunks(file, data_start(file, record), record.size):
        crc = zlib.crc32(chunk, crc)
        numbers = torch.frombuffer(bytearray(chunk), dtype=dtype, count=len(chunk) // dtype.itemsize)
        # A sum is finite if all are, and far quicker than to ask each one; only if it is not they are asked.
        finite = finite and (bool(numbers.sum().isfinite()) or bool(numbers.isfinite().all()))
    if crc != record.crc32:
        raise CheckpointError(
            f"the tensor {record.name} is damaged (its CRC-32 is {crc:08x}, and should be {record.crc32:08x})"
        )
    if not finite and record.name != INFINITE:
        raise CheckpointError(f"the tensor {record.name} holds values that are not finite numbers")


_verified: dict[tuple[str, int, int, int], dict[str, str]] = {}  # for folders that cannot be written to


@dataclass(frozen=True)
class Verified:
    """Which tensors of a file have been checked.

    Attributes:
        path: of the file.
        state: (absolute path, size, time of change in ns, inode) when it was opened; any other is another file.
        done: modality -> fingerprint of the tensors that were found right.
    """

    path: Path
    state: tuple[str, int, int, int]
    done: dict[str, str]

    @classmethod
    def of(cls, path: Path) -> Verified:
        """What was noted beside a file, if it was about the file as it is now."""
        state = _state(path)
        done = _verified.setdefault(state, {})
        try:
            noted = json.loads(_note(path).read_text())
            if tuple(noted["file"]) == state:
                done.update({str(modality): str(found) for modality, found in noted["verified"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # no note, or none that can be read: all is checked again
        return cls(path, state, done)

    def holds(self, modality: str, found: str) -> bool:
        """Whether tensors of this fingerprint were found right."""
        return self.done.get(modality) == found

    def add(self, modality: str, found: str) -> None:
        """Note it, unless the file was changed meanwhile."""
        if _state(self.path) != self.state:
            raise CheckpointError("it was changed while it was read")
        self.done[modality] = found
        with contextlib.suppress(OSError), whole(_note(self.path)) as part:  # not writable: checked again next time
            part.write_text(json.dumps({"file": self.state, "verified": self.done}))


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified")


def _state(path: Path) -> tuple[str, int, int, int]:
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino


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
        EncoderError: names the tensors that are missing, unexpected, misshapen or damaged.
    """
    with torch.device("meta"):
        model = ImageBind(config, modalities).eval().requires_grad_(False)
    passed_over = {*MODALITIES, *OTHER_MODALITIES} - set(modalities)
    found = {name: record for name, record in weights.records.items() if modality_of(name) not in passed_over}
    try:
        check_shapes(found, {name: value.shape for name, value in model.state_dict().items()})
    except StateDictError as error:
        raise EncoderError(f"{weights.path}: {error}") from error
    weights.verify(modalities)
    for units in _groups(model, precision):
        state = weights.read(tuple(f"{name}." for name, _ in units))
        for name, unit in units:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value.float() for key, value in state.items() if key.startswith(prefix)}
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
