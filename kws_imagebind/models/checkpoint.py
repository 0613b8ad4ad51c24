"""What lies where in a checkpoint that `torch.save` wrote, found without running or loading anything in it.

Such a file is a zip archive whose records are stored uncompressed: `data.pkl` describes the tensors, and
`data/<key>` holds the bytes of one storage. Every record has a CRC-32 in the archive's directory.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

LOCAL_HEADER = 30  # bytes before a record's name in a zip archive; the name and extra bytes follow
MAX_PICKLE = 64 << 20  # bytes; that of ImageBind has a quarter of a million
CHUNK = 1 << 20  # bytes read at once

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
    """A file that is not a checkpoint, or cannot be used; the message says what is wrong with it."""


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
        entry: the record's name in the archive; "" where `header` is where the bytes themselves begin.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    header: int
    size: int
    crc32: int
    whole: bool
    entry: str = ""


def read_index(stream: IO[bytes]) -> dict[str, TensorRecord]:
    """The tensors of a checkpoint in the order of its state dict.

    Args:
        stream: a seekable file; its directory and `data.pkl` are read, a few hundred kilobytes.

    Raises:
        CheckpointError: it is not such an archive, or its pickle asks for something other than tensors.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
            records = {info.filename: info for info in infos}
            pickles = [name for name in records if name.endswith("/data.pkl")]
            if len(pickles) != 1 or len(records) != len(infos):
                raise CheckpointError("it is a zip archive without exactly one data.pkl; torch.save writes one")
            if records[pickles[0]].file_size > MAX_PICKLE or records[pickles[0]].flag_bits & 1:
                raise CheckpointError("its data.pkl is too large or encrypted; torch.save writes a small plain one")
            description = archive.read(pickles[0])
    except CheckpointError:
        raise
    except _ARCHIVE_ERRORS as error:
        raise CheckpointError(f"it is not a whole archive of torch.save ({in_a_line(error)})") from error
    return _tensors(description, records, pickles[0].removesuffix("data.pkl"))


# What zipfile raises over bytes that are no archive. A stream's own errors are not among them.
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
)


def _tensors(description: bytes, records: dict[str, zipfile.ZipInfo], prefix: str) -> dict[str, TensorRecord]:
    try:
        state = _TensorUnpickler(io.BytesIO(description)).load()
        if not isinstance(state, Mapping) or not all(isinstance(value, _Tensor) for value in state.values()):
            raise CheckpointError("it holds something other than a state dict of tensors")
        return {str(name): _record(str(name), value, records, prefix) for name, value in state.items()}
    except CheckpointError:
        raise
    except Exception as error:  # a pickle that nobody's torch.save wrote can raise anything
        raise CheckpointError(f"it is not a whole archive of torch.save ({in_a_line(error)})") from error


def in_a_line(error: BaseException) -> str:
    """What an error says, in one line; its kind if it says nothing.

    >>> in_a_line(MemoryError())
    'MemoryError'
    """
    return " ".join(str(error).split()) or type(error).__name__


def header_rest(header: bytes) -> tuple[int, int]:
    """Bytes of the name and of the extra field that follow a record's header (PKWARE's APPNOTE, 4.3.7).

    Raises:
        CheckpointError: no record begins so.
    """
    if len(header) != LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
        raise CheckpointError("no record begins where one must")
    name, extra = struct.unpack("<HH", header[-4:])
    return name, extra


def data_start(stream: IO[bytes], record: TensorRecord) -> int:
    """Where in a file the bytes of a tensor begin.

    Raises:
        CheckpointError: the header in front of them is not that of the tensor's record.
    """
    if not record.entry:
        return record.header
    stream.seek(record.header)
    name, extra = header_rest(stream.read(LOCAL_HEADER))
    if stream.read(name) != record.entry.encode():
        raise CheckpointError(f"the record of the tensor {record.name} begins with another record's name")
    return record.header + LOCAL_HEADER + name + extra


def chunks(stream: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    """The bytes from `start`, as many as `size` or as there are, `CHUNK` at a time."""
    stream.seek(start)
    while size > 0 and (chunk := stream.read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


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
    entry = f"{prefix}data/{tensor.storage.key}"
    info = records.get(entry)
    if info is None:
        raise CheckpointError(f"it has no record {tensor.storage.key} for the tensor {name}")
    dtype, width = STORAGES[tensor.storage.kind]
    strides = [math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape))]
    in_order = all(s == t or n == 1 for s, t, n in zip(strides, tensor.stride, tensor.shape, strict=True))
    size = width * math.prod(tensor.shape)
    whole = in_order and size == info.file_size and info.compress_type == zipfile.ZIP_STORED
    return TensorRecord(name, dtype, tensor.shape, info.header_offset, size, info.CRC, whole, entry)
