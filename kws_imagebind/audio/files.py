"""Audio files to waveforms, whole or block by block.

libsndfile reads them, and ffmpeg those that libsndfile does not know (M4A, WebM, AAC and others), if it is installed.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
import torch
from torch import Tensor

from kws_imagebind.audio import ffmpeg
from kws_imagebind.audio.resample import resample, resample_blocks
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.files import explained

MAX_SECONDS = 600.0  # of one recording; a spoken keyword takes one
MIN_SECONDS = 0.01  # one hop of a spectrogram

MAX_VALUES = 60_000_000  # of all channels: ten minutes of 48 kHz stereo, 240 MB decoded
MAX_BYTES = 8 * 60_000_000 + (1 << 20)  # of a file read at once: as many in 64 bits, and a header
LOUDEST = 1e9  # full scale is 1; what is louder than this is not sound

# Names that libsndfile's formats go by besides their own; RAW is left out, for such a file does not say its rate.
_OTHER_NAMES = ("aif", "aifc", "iff", "mp2", "oga", "opus", "sf", "snd", "sph", "wave")
_RAW = ".raw"

# In libsndfile's log, which also holds the file's name: so only in the lines that report sizes or complain.
_CUT = re.compile(r"^[\w ]+: (\d+) \(should be (\d+)\)|^\*\*\* .*(?:truncated|does not match)", re.MULTILINE)
_STREAMED = 0x7FFFF000  # bytes; writers that cannot seek back declare about 2 or 4 GB
_UNKNOWN = 2**53  # frames; what libsndfile says of a stream that does not say its length
_OGG_PAGE = 65_307  # bytes of the longest
_SLACK = 8  # bytes a chunk's size may be off for padding
_BLOCK = 1 << 20  # values decoded at once where the length is not known before


@cache
def _libsndfile_extensions() -> frozenset[str]:
    formats = {name.lower() for name in soundfile.available_formats()} - {"raw"}
    return frozenset(f".{name}" for name in formats.union(_OTHER_NAMES))


def extensions(with_ffmpeg: bool | None = None) -> frozenset[str]:
    """Lower-case file extensions, with their dot, of the recordings that can be read here.

    Args:
        with_ffmpeg: count those that only ffmpeg reads, such as ".m4a" and ".webm"; by default if it is installed.
    """
    if ffmpeg.is_installed() if with_ffmpeg is None else with_ffmpeg:
        return _libsndfile_extensions() | ffmpeg.EXTENSIONS
    return _libsndfile_extensions()


def load_audio(path: str | os.PathLike[str], sample_rate: int, max_seconds: float = MAX_SECONDS) -> Tensor:
    """A recording as a mono float32 waveform of shape (samples,) at `sample_rate` hertz.

    libsndfile reads WAV of every width, FLAC, Ogg, MP3 and more; ffmpeg, where it is installed, M4A, WebM and others.
    Channels are averaged.

    Raises:
        AudioError: the file is missing, empty, cut short, not audio, holds NaN, or is too long or too short.
    """
    return decode(read_bytes(path)[0], path, sample_rate, max_seconds)


def load_channels(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> tuple[Tensor, int]:
    """A recording as its file holds it: float32 (channels, samples) and the file's sample rate in hertz.

    Raises:
        AudioError: as `load_audio`.
    """
    return decode_channels(read_bytes(path)[0], path, max_seconds)


def decode(data: bytes, path: str | os.PathLike[str], sample_rate: int, max_seconds: float = MAX_SECONDS) -> Tensor:
    """The bytes of a recording as `load_audio` returns it.

    Args:
        data: what the file holds.
        path: the file's name, for messages; it is not opened.
        sample_rate: of the waveform, in hertz.
        max_seconds: the longest recording that is accepted.

    Raises:
        AudioError: as `load_audio`.
    """
    channels, file_rate = decode_channels(data, path, max_seconds)
    return resample(channels.mean(0), file_rate, sample_rate)


def decode_channels(data: bytes, path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> tuple[Tensor, int]:
    """The bytes of a recording as `load_channels` returns it.

    Raises:
        AudioError: as `load_audio`.
    """
    path = Path(path)
    if not data:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    with _sound_of(io.BytesIO(data), path, max_seconds) as sound:
        samples = sound.read_all(max_seconds)
    _check_finite(path, samples)
    return torch.from_numpy(samples.T), sound.rate


def read_bytes(path: str | os.PathLike[str]) -> tuple[bytes, os.stat_result | None]:
    """All bytes of a recording's file, and its status if no one changed the file while it was read.

    Raises:
        AudioError: it cannot be read, or is larger than any recording that `load_audio` accepts.
    """
    path = Path(path)
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > MAX_BYTES:
            with _sound_of(file, path) as sound:
                sound.check_length(MAX_SECONDS)
        data = file.read(MAX_BYTES + 1)
        after = os.fstat(file.fileno())
    if len(data) > MAX_BYTES:
        raise AudioError(f"{path}: the file is larger than {MAX_BYTES / 1e6:,.0f} MB; cut the recording into parts")
    same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (len(data), after.st_mtime_ns, after.st_ctime_ns)
    return data, after if same else None


def duration(path: str | os.PathLike[str]) -> float:
    """Seconds that a recording lasts: by its header, or counted where only ffmpeg reads it.

    Raises:
        AudioError: the file is missing, empty, not audio, or does not say.
    """
    path = Path(path)
    with _opened(path) as file, _sound_of(file, path) as sound:
        return sound.seconds()


def stream_audio(path: str | os.PathLike[str], sample_rate: int, block_seconds: float = 10.0) -> Iterator[Tensor]:
    """A recording of any length as mono float32 waveforms (samples,) that follow each other, as `load_audio` gives it.

    Only a block is in memory at a time. That a file is cut short may show only after its last block.

    Raises:
        AudioError: as `load_audio`, except that no recording is too long.
    """
    path = Path(path)
    with _opened(path) as file, _sound_of(file, path) as sound:
        sound.check_length(math.inf, all_at_once=False)
        yield from resample_blocks(_mono_blocks(path, sound, block_seconds), sound.rate, sample_rate)


def _mono_blocks(path: Path, sound: _Sound, seconds: float) -> Iterator[Tensor]:
    size = max(1, round(min(seconds * sound.rate, MAX_VALUES / sound.channels)))
    for samples in sound.blocks(size):
        _check_finite(path, samples)
        yield torch.from_numpy(samples.T).mean(0)


def _check_finite(path: Path, samples: np.ndarray) -> None:
    bad = samples.size - int(np.count_nonzero(np.abs(samples) < LOUDEST))
    if bad:
        raise AudioError(f"{path}: {bad} of {samples.size} samples are NaN, infinite or absurd; write the file again")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """An ordinary file open for reading."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{path}: is a folder, not a recording")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{path}: is a pipe or a device, not a file; save the recording as a file")
        file = path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{path}: there is no such file") from error
    except OSError as error:
        raise AudioError(f"{path}: {explained(error, path, 'read')}") from error
    with file:
        yield file


@contextmanager
def _sound_of(file: BinaryIO, path: Path, max_seconds: float = math.inf) -> Iterator[_Sound]:
    """The sound of an open file; what goes wrong while it is read becomes an AudioError."""
    try:
        start = file.read(16)
        file.seek(0, os.SEEK_END)  # which files of the system's own, as in /proc, cannot
        file.seek(0)
        if not start:
            raise AudioError(f"{path}: the file is empty (0 bytes)")
        if path.suffix.lower() == _RAW:
            raise AudioError(f"{path}: cannot be decoded (a headerless file has no samplerate); save it as a WAV file")
        if ffmpeg.reads(start):
            with ffmpeg.opened(file, path, max_seconds) as stream:
                yield _Streamed(stream, path)
        else:
            with soundfile.SoundFile(file) as sound:
                yield _Decoded(sound, file, path)
    except soundfile.SoundFileError as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".").lower()
        raise AudioError(
            f"{path}: cannot be decoded ({reason}); expected WAV, FLAC, Ogg, MP3 or another format libsndfile reads, "
            "whole and undamaged"
        ) from error
    except OSError as error:
        raise AudioError(f"{path}: {explained(error, path, 'read')}") from error


class _Sound(Protocol):
    """A recording that is being decoded."""

    rate: int  # hertz
    channels: int

    def seconds(self) -> float:
        """How long it lasts."""

    def check_length(self, max_seconds: float, all_at_once: bool = True) -> None:
        """Refuses what is too long, as far as that is known before anything is decoded."""

    def read_all(self, max_seconds: float) -> np.ndarray:
        """(frames, channels) float32 of a recording that is whole and not too long."""

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """The same in parts of `size` frames."""


class _Decoded:
    """What libsndfile reads."""

    def __init__(self, sound: soundfile.SoundFile, file: BinaryIO, path: Path) -> None:
        self.rate, self.channels = sound.samplerate, sound.channels
        self._sound, self._file, self._path = sound, file, path

    def seconds(self) -> float:
        self.check_length(math.inf, all_at_once=False)
        return self._sound.frames / self.rate

    def check_length(self, max_seconds: float, all_at_once: bool = True) -> None:
        """A small file can claim to be a very long one."""
        frames, path = self._sound.frames, self._path
        if frames > _UNKNOWN:
            raise AudioError(
                f"{path}: does not say its length, as a file written through a pipe; save it as a WAV file"
            )
        _check_seconds(path, f"{frames / self.rate:,.0f} s", frames / self.rate, max_seconds)
        values = frames * self.channels
        if all_at_once and values > MAX_VALUES:
            raise AudioError(
                f"{path}: {self.channels} channels at {self.rate:,} Hz hold {values / 1e6:,.0f} million samples; "
                f"at most {MAX_VALUES / 1e6:.0f} million are expected"
            )

    def read_all(self, max_seconds: float) -> np.ndarray:
        self.check_length(max_seconds)
        samples = self._sound.read(self._sound.frames, dtype="float32", always_2d=True)
        self._check_whole(len(samples))
        return samples

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        read = 0
        while len(samples := self._sound.read(size, dtype="float32", always_2d=True)):
            read += len(samples)
            yield samples
        self._check_whole(read)

    def _check_whole(self, read: int) -> None:
        """After all is read: whether it is what the header promised, and enough."""
        if read < self._sound.frames or _is_cut(self._file, self._sound.format, self._sound.extra_info):
            raise AudioError(
                f"{self._path}: the file is cut short (its header promises more sound than it holds); copy it again"
            )
        _check_least(self._path, read, self.rate)


class _Streamed:
    """What ffmpeg reads."""

    def __init__(self, stream: ffmpeg.Stream, path: Path) -> None:
        self.rate, self.channels = stream.samplerate, stream.channels
        self._stream, self._path = stream, path

    def seconds(self) -> float:
        return sum(map(len, self.blocks(_BLOCK // self.channels))) / self.rate

    def check_length(self, max_seconds: float, all_at_once: bool = True) -> None:
        """Its headers may lack the length or be wrong about it; `read_all` stops where it is too much."""

    def read_all(self, max_seconds: float) -> np.ndarray:
        longest = int(min(max_seconds * self.rate, MAX_VALUES / self.channels))
        samples = self._stream.read(longest + 1)
        if len(samples) > longest:
            _check_seconds(self._path, f"more than {longest / self.rate:,.0f} s", math.inf, longest / self.rate)
        _check_least(self._path, len(samples), self.rate)
        return samples

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        read = 0
        while len(samples := self._stream.read(size)):
            read += len(samples)
            yield samples
        _check_least(self._path, read, self.rate)


def _check_seconds(path: Path, lasts: str, length: float, longest: float) -> None:
    if length > longest:
        raise AudioError(f"{path}: lasts {lasts}; a recording of at most {longest:,.0f} s is expected")


def _check_least(path: Path, frames: int, rate: int) -> None:
    if frames < MIN_SECONDS * rate:
        raise AudioError(f"{path}: holds {frames} samples; at least {1000 * MIN_SECONDS:.0f} ms of sound are expected")


def _is_cut(file: BinaryIO, format: str, log: str) -> bool:
    """libsndfile reads what is there of a truncated file without complaint, so ask what was promised.

    WAV, RF64, W64, AIFF, AU, Ogg and the formats whose decoder notices (FLAC, MP3, CAF) are covered; a few old formats
    carry no length to check.
    """
    for found in _CUT.finditer(log):
        if found[1] is None or int(found[2]) + _SLACK < int(found[1]) < _STREAMED:
            return True
    return format == "OGG" and _ogg_page_is_cut(file)


def _ogg_page_is_cut(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, section 6) is not whole or not marked as the stream's last."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _OGG_PAGE))
    data = file.read()
    page = data[max(0, data.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    last = bool(page[5] & 4)
    return not last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
