"""What lies where in a checkpoint that `torch.save` wrote, found without running or loading anything in it.

Such a file is a zip archive whose records are stored uncompressed: `data.pkl` describes the tensors, and
`data/<key>` holds the bytes of one storage. Every record has a CRC-32 in the archive's directory.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

LOCAL_HEADER = 30  # bytes before a record's name in a zip archive; the name and extra bytes follow

# torch's storage classes: the name safetensors has for their numbers, and the bytes of one.
STORAGES = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "BoolStorage": ("BOOL", 1),
}


class CheckpointError(ValueError):
    """A file that is no checkpoint, or not one that can be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class TensorRecord:
    """Where the bytes of one tensor are.

    Attributes:
        name: in the state dict.
        dtype: as safetensors calls it, such as "F32".
        shape: of the tensor.
        header: position in the file of the record's header; the bytes come some way behind it.
        size: bytes.
        crc32: of the bytes.
        whole: whether the tensor is its record, byte for byte, and not a view of a part or with another order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    header: int
    size: int
    crc32: int
    whole: bool


def read_index(stream: IO[bytes]) -> dict[str, TensorRecord]:
    """The tensors of a checkpoint in the order of its state dict.

    Args:
        stream: a seekable file; its directory and `data.pkl` are read, a few hundred kilobytes.

    Raises:
        CheckpointError: it is no such archive, or its pickle asks for anything but tensors.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            records = {info.filename: info for info in archive.infolist()}
            pickles = [name for name in records if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise CheckpointError("it is a zip archive without exactly one data.pkl; torch.save writes one")
            prefix = pickles[0].removesuffix("data.pkl")
            with archive.open(pickles[0]) as file:
                state = _TensorUnpickler(file).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"it is no whole archive of torch.save ({error})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, _Tensor) for value in state.values()):
        raise CheckpointError("it holds something other than a state dict of tensors")
    return {name: _record(name, value, records, prefix) for name, value in state.items()}


def fingerprint(records: Iterable[TensorRecord]) -> str:
    """A sha256 of names, shapes and CRCs: the same for the same tensors in whatever file they lie."""
    lines = sorted(f"{r.name} {r.dtype} {r.shape} {r.crc32:08x}" for r in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    """Understands descriptions of tensors, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: _Tensor(storage, tuple(shape), tuple(stride))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in STORAGES:
            return name
        raise CheckpointError(f"its pickle asks for {module}.{name}; only tensors are accepted")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return _Storage(kind, key)


def _record(name: str, tensor: _Tensor, records: dict[str, zipfile.ZipInfo], prefix: str) -> TensorRecord:
    info = records.get(f"{prefix}data/{tensor.storage.key}")
    if info is None:
        raise CheckpointError(f"it has no record {tensor.storage.key} for the tensor {name}")
    dtype, width = STORAGES[tensor.storage.kind]
    strides = [math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape))]
    in_order = all(s == t or n == 1 for s, t, n in zip(strides, tensor.stride, tensor.shape, strict=True))
    size = width * math.prod(tensor.shape)
    whole = in_order and size == info.file_size and info.compress_type == zipfile.ZIP_STORED
    return TensorRecord(name, dtype, tensor.shape, info.header_offset, size, info.CRC, whole)
