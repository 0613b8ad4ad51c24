"""The download of ImageBind's weights: the whole published file, or the tensors of some modalities out of it."""

from __future__ import annotations

import io
import json
import logging
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kws_imagebind.download import (
    CHUNK,
    PAUSE_SECONDS,
    DownloadError,
    NoRangesError,
    RemoteFile,
    Server,
    check_space,
    fetch,
    lock,
    progress,
)
from kws_imagebind.encoders.base import EncoderError
from kws_imagebind.encoders.imagebind import weights as imagebind_weights
from kws_imagebind.encoders.imagebind.weights import LICENCE, STEM, Source, default_folder, subset_name
from kws_imagebind.files import explaining, make_folder
from kws_imagebind.models.checkpoint import (
    LOCAL_HEADER,
    CheckpointError,
    TensorRecord,
    chunks,
    data_start,
    header_rest,
    read_index,
)
from kws_imagebind.models.imagebind import MODALITIES, modality_of

log = logging.getLogger(__name__)

NOTICE = (
    f"ImageBind's weights are Meta's, under the licence {LICENCE}: for non-commercial use, with attribution, and what "
    "you derive from them under the same terms (https://github.com/facebookresearch/ImageBind). By downloading you "
    "accept that. They are not part of this project."
)
NEARBY = 1 << 20  # bytes between two tensors that are cheaper read over than asked for again
ALIGNMENT = 64  # bytes, of a tensor in the subset


def download(
    folder: Path | None = None,
    modalities: Iterable[str] | None = None,
    source: Source | None = None,
    pause: float = PAUSE_SECONDS,
    quiet: bool = False,
) -> Path:
    """Bring ImageBind's weights, after showing their licence the first time.

    Args:
        folder: where to put them; by default `default_folder()`.
        modalities: bring the tensors of these alone; by default the whole file.
        source: where to get them; by default Meta's server.
        pause: seconds before the second fruitless attempt.
        quiet: show no progress.

    Returns:
        The file: a subset where modalities are given and the server has ranges, else the whole checkpoint.

    Raises:
        DownloadError: it did not come right; no bad file lies under the final name.
        EncoderError: an unknown modality.
    """
    folder, source = folder or default_folder(), source or imagebind_weights.PUBLISHED
    wanted = check_modalities(modalities) if modalities is not None else None
    _show_notice(folder)
    whole = folder / f"{STEM}.pth"
    if wanted and not whole.exists():
        try:
            return _download_subset(folder / subset_name(wanted), wanted, source, pause, quiet)
        except (NoRangesError, CheckpointError) as error:
            log.warning("%s; the whole file is fetched instead", error)
    return fetch(source.url, whole, source.size, source.sha256, pause, quiet)


def check_modalities(modalities: Iterable[str]) -> tuple[str, ...]:
    """Modalities in alphabetical order.

    Raises:
        EncoderError: there is none, or one is unknown.
    """
    wanted = tuple(sorted({name.strip() for name in modalities} - {""}))
    if not wanted:
        raise EncoderError(f"no modality is given; name some of {', '.join(MODALITIES)}, or leave the option out")
    if not set(wanted) <= set(MODALITIES):
        raise EncoderError(f"modalities are some of {', '.join(MODALITIES)}; got '{','.join(wanted)}'")
    return wanted


def _show_notice(folder: Path) -> None:
    shown = folder / ".licence-shown"
    if not shown.exists():
        make_folder(folder)
        print(NOTICE, file=sys.stderr)
        with explaining(shown, "write"):
            shown.touch()


def _download_subset(target: Path, modalities: tuple[str, ...], source: Source, pause: float, quiet: bool) -> Path:
    with lock(target), explaining(target, "write"):
        if target.exists():
            return target
        server = Server.ask(source.url, pause)
        if not server.has_ranges:
            raise NoRangesError(f"{source.url}: the server does not serve parts of a file")
        if source.size not in (None, server.size):
            raise DownloadError(
                f"{source.url}: the server has a file of {server.size:,} bytes; {source.size:,} were expected"
            )
        remote = Remote(server)
        records = [record for record in remote.index().values() if modality_of(record.name) in modalities]
        if not records or not all(record.whole for record in records):
            raise CheckpointError(f"{source.url} does not keep each tensor of {', '.join(modalities)} by itself")
        # Odd sizes come last, so that every other tensor begins at a multiple of 64 bytes.
        records.sort(key=lambda record: (record.size % ALIGNMENT != 0, record.header))
        part = Path(f"{target}.part")
        header = _subset_header(records, server)
        _write_subset(part, header, records, remote, quiet)
        if _drop_damaged(part, header, records):  # what an earlier run wrote may have been damaged since
            _write_subset(part, header, records, remote, quiet)
            if damaged := _drop_damaged(part, header, records):
                raise DownloadError(
                    f"{part}: the tensor {damaged} is damaged although it arrived as it should; look after this disk, "
                    "or choose another folder"
                )
        part.replace(target)
        return target


def _subset_header(records: list[TensorRecord], server: Server) -> bytes:
    """The beginning of a safetensors file. It names the version of the source, so a part can tell whose it is."""
    crc32 = {record.name: record.crc32 for record in records}
    metadata = {"source": server.url, "source_size": str(server.size), "source_version": str(server.validator)}
    content: dict[str, Any] = {"__metadata__": {**metadata, "licence": LICENCE, "crc32": json.dumps(crc32)}}
    position = 0
    for record in records:
        offsets = [position, position := position + record.size]
        content[record.name] = {"dtype": record.dtype, "shape": record.shape, "data_offsets": offsets}
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _write_subset(part: Path, header: bytes, records: list[TensorRecord], remote: Remote, quiet: bool) -> None:
    total = len(header) + sum(record.size for record in records)
    part.touch()
    with part.open("r+b") as file:
        if file.read(len(header)) != header:  # new, or of another version of the checkpoint
            file.seek(0)
            file.truncate()
            file.write(header)
        done = file.seek(0, os.SEEK_END)
        check_space(part.parent, total - done)
        with progress(part.stem, total, done, quiet) as bar:
            start = len(header)
            waiting = []
            for record in records:
                if start + record.size > done:
                    waiting.append((record, start))
                start += record.size
            for run in _runs(waiting):
                _fetch_run(run, file, remote, bar)


def _drop_damaged(part: Path, header: bytes, records: list[TensorRecord]) -> str | None:
    """Cut the subset before its first tensor whose bytes do not fit their CRC; returns that tensor's name."""
    start = len(header)
    with part.open("r+b") as file:
        for record in records:
            crc = 0
            for chunk in chunks(file, start, record.size):
                crc = zlib.crc32(chunk, crc)
            if crc != record.crc32:
                file.truncate(start)
                return record.name
            start += record.size
    return None


Placed = tuple[TensorRecord, int]  # a tensor, and where its bytes begin in the subset


def _runs(placed: list[Placed]) -> Iterator[list[Placed]]:
    """Tensors that lie so close together in the checkpoint that one request will do."""
    run: list[Placed] = []
    for record, start in placed:
        if run and not 0 <= record.header - (run[-1][0].header + run[-1][0].size) < NEARBY:
            yield run
            run = []
        run.append((record, start))
    if run:
        yield run


def _fetch_run(run: list[Placed], file: IO[bytes], remote: Remote, bar: Any) -> None:
    """Write the tensors of a run behind what the file has. One that arrives damaged is asked for once more."""
    retried: set[str] = set()
    while run:
        damaged = _fetch_until_damaged(run, file, remote, bar)
        if damaged is None:
            return
        record, start = run[damaged]
        bar.update(start - file.tell())
        file.seek(start)
        file.truncate()
        if record.name in retried:
            raise DownloadError(
                f"{remote.server.url}: the tensor {record.name} arrived damaged twice (its CRC-32 is not "
                f"{record.crc32:08x}); the server's file may be damaged. What came before it is kept"
            )
        retried.add(record.name)
        run = run[damaged:]


def _fetch_until_damaged(run: list[Placed], file: IO[bytes], remote: Remote, bar: Any) -> int | None:
    """The position in the run of the first tensor whose bytes do not fit their CRC, or None."""
    (first, start), (last, _) = run[0], run[-1]
    have = file.seek(0, os.SEEK_END) - start  # of the first tensor, from an earlier attempt
    file.seek(start)
    crc = zlib.crc32(file.read(have))
    source = _Bytes(remote.server, remote.data_start(first) + have, remote.data_start(last) + last.size)
    for i, (record, _) in enumerate(run):
        if i:  # the header of this record and the padding before it lie between
            source.read(record.header - source.position)
            end = run[i + 1][0].header if i + 1 < len(run) else source.end
            if not _skip_header(source, record, end):
                return i
            have = crc = 0
        while have < record.size:
            chunk = source.read(min(record.size - have, CHUNK))
            file.write(chunk)
            bar.update(len(chunk))
            crc, have = zlib.crc32(chunk, crc), have + len(chunk)
        if crc != record.crc32:
            return i
    return None


def _skip_header(source: _Bytes, record: TensorRecord, end: int) -> bool:
    """Read a record's header up to the tensor. False if it is another record's, or leaves no room before `end`."""
    try:
        name, extra = header_rest(source.read(LOCAL_HEADER))
    except CheckpointError:
        return False
    if source.position + name + extra + record.size > end:
        return False
    return source.read(name + extra)[:name] == record.entry.encode()


class _Bytes:
    """A part of a file on a server, read in sizes of one's own."""

    def __init__(self, server: Server, start: int, end: int):
        self._chunks, self._rest = server.stream(start, end), b""
        self.position, self.end = start, end
        self._url = server.url

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise DownloadError(
                    f"{self._url}: its directory and its records contradict each other at byte {self.position:,}; the "
                    "server's file may be damaged: fetch the whole file, without --modalities"
                )
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        self.position += size
        return taken


class Remote:
    """A checkpoint on a server, of which single tensors are wanted."""

    def __init__(self, server: Server):
        self.server = server
        self._stream = io.BufferedReader(RemoteFile(server))

    def index(self) -> dict[str, TensorRecord]:
        return read_index(self._stream)

    def data_start(self, record: TensorRecord) -> int:
        """Where the bytes of a tensor begin: behind its record's header, whose length the header gives.

        Raises:
            NoRangesError: the header is missing; the server sent something else, or its file is damaged.
        """
        try:
            return data_start(self._stream, record)
        except CheckpointError as error:
            raise NoRangesError(f"{self.server.url}: the server sent other bytes than asked for: {error}") from error
