"""Audio files to waveforms, whole or block by block."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from kws_imagebind.audio.resample import resample, resample_blocks
from kws_imagebind.audio.signal import AudioError

MAX_SECONDS = 600.0  # of one recording; a spoken keyword takes one
MIN_SECONDS = 0.01  # one hop of a spectrogram

MAX_VALUES = 60_000_000  # of all channels: ten minutes of 48 kHz stereo, 240 MB decoded
LOUDEST = 1e9  # full scale is 1; what is louder than this is no sound

# In libsndfile's log, which also holds the file's name: so only in the lines that tell sizes or complain.
_CUT = re.compile(r"^[\w ]+: (\d+) \(should be (\d+)\)|^\*\*\* .*(?:truncated|does not match)", re.MULTILINE)
_STREAMED = 0x7FFFF000  # bytes; writers that cannot seek back declare about 2 or 4 GB
_UNKNOWN = 2**53  # frames; what libsndfile says of a stream that does not tell its length
_OGG_PAGE = 65_307  # bytes of the longest
_SLACK = 8  # bytes a chunk's size may be off for padding


def load_audio(path: str | os.PathLike[str], sample_rate: int, max_seconds: float = MAX_SECONDS) -> Tensor:
    """A recording as a mono float32 waveform of shape (samples,) at `sample_rate` hertz.

    Any file libsndfile reads will do (WAV of every width, FLAC, Ogg, MP3 and more); channels are averaged.

    Raises:
        AudioError: the file is missing, empty, cut short, no audio, holds NaN, or is too long or too short.
    """
    channels, file_rate = load_channels(path, max_seconds)
    return resample(channels.mean(0), file_rate, sample_rate)


def load_channels(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> tuple[Tensor, int]:
    """A recording as its file holds it: float32 (channels, samples) and the file's sample rate in hertz.

    Raises:
        AudioError: as `load_audio`.
    """
    path = Path(path)
    samples, file_rate = _decode(path, max_seconds)
    _check_finite(path, samples)
    return torch.from_numpy(samples.T), file_rate


def _check_finite(path: Path, samples: np.ndarray) -> None:
    bad = samples.size - int(np.count_nonzero(np.abs(samples) < LOUDEST))
    if bad:
        raise AudioError(f"{path}: {bad} of {samples.size} samples are NaN, infinite or absurd; write the file again")


def _decode(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """(frames, channels) float32 and the file's own sample rate, or an AudioError."""
    with _opened(path) as file:
        _check_length(path, file, max_seconds)
        samples = file.read(file.frames, dtype="float32", always_2d=True)
        _check_whole(path, file, len(samples))
        return samples, file.samplerate


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """A recording open for reading; what goes wrong while it is open becomes an AudioError."""
    if not path.is_file():
        kind = "is a folder, not a recording" if path.is_dir() else "there is no such file"
        raise AudioError(f"{path}: {kind}")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        # As bytes, for a file name need not be valid UTF-8.
        with soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path) as file:
            yield file
    except AudioError:
        raise
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".").lower()
        raise AudioError(
            f"{path}: cannot be decoded ({reason}); expected WAV, FLAC, Ogg, MP3 or another format libsndfile reads, "
            "whole and undamaged"
        ) from error


def _check_whole(path: Path, file: soundfile.SoundFile, read: int) -> None:
    """After all is read: whether it is what the header promised, and enough."""
    if read < file.frames or _is_cut(path, file.format, file.extra_info):
        raise AudioError(f"{path}: the file is cut short (its header promises more sound than it holds); copy it again")
    if read < MIN_SECONDS * file.samplerate:
        raise AudioError(f"{path}: holds {read} samples; at least {1000 * MIN_SECONDS:.0f} ms of sound are expected")


def duration(path: str | os.PathLike[str]) -> float:
    """Seconds that a recording lasts, by its header.

    Raises:
        AudioError: the file is missing, empty, no audio, or does not tell.
    """
    with _opened(Path(path)) as file:
        _check_length(Path(path), file, math.inf, all_at_once=False)
        return file.frames / file.samplerate


def stream_audio(path: str | os.PathLike[str], sample_rate: int, block_seconds: float = 10.0) -> Iterator[Tensor]:
    """A recording of any length as mono float32 waveforms (samples,) that follow each other, as `load_audio` gives it.

    Only a block is in memory at a time. That a file is cut short may show only after its last block.

    Raises:
        AudioError: as `load_audio`, but for no recording is too long.
    """
    path = Path(path)
    with _opened(path) as file:
        _check_length(path, file, math.inf, all_at_once=False)
        blocks = _mono_blocks(path, file, block_seconds)
        yield from resample_blocks(blocks, file.samplerate, sample_rate)


def _mono_blocks(path: Path, file: soundfile.SoundFile, seconds: float) -> Iterator[Tensor]:
    read, size = 0, max(1, round(min(seconds * file.samplerate, MAX_VALUES / file.channels)))
    while len(samples := file.read(size, dtype="float32", always_2d=True)):
        _check_finite(path, samples)
        read += len(samples)
        yield torch.from_numpy(samples.T).mean(0)
    _check_whole(path, file, read)


def _check_length(path: Path, file: soundfile.SoundFile, max_seconds: float, all_at_once: bool = True) -> None:
    """Before anything is decoded: a small file can claim to be a very long one."""
    if file.frames > _UNKNOWN:
        raise AudioError(f"{path}: does not tell its length, as a file written through a pipe; save it as a WAV file")
    seconds = file.frames / file.samplerate
    if seconds > max_seconds:
        raise AudioError(f"{path}: lasts {seconds:,.0f} s; a recording of at most {max_seconds:,.0f} s is expected")
    values = file.frames * file.channels
    if all_at_once and values > MAX_VALUES:
        raise AudioError(
            f"{path}: {file.channels} channels at {file.samplerate:,} Hz hold {values / 1e6:,.0f} million samples; "
            f"at most {MAX_VALUES / 1e6:.0f} million are expected"
        )


def _is_cut(path: Path, format: str, log: str) -> bool:
    """libsndfile reads what is there of a truncated file without complaint, so ask what was promised.

    WAV, RF64, W64, AIFF, AU, Ogg and the formats whose decoder notices (FLAC, MP3, CAF) are covered; a few old formats
    carry no length to check.
    """
    for found in _CUT.finditer(log):
        if found[1] is None or int(found[2]) + _SLACK < int(found[1]) < _STREAMED:
            return True
    return format == "OGG" and _ogg_page_is_cut(path)


def _ogg_page_is_cut(path: Path) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, section 6) is not whole or not marked as the stream's last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OGG_PAGE))
        data = file.read()
    page = data[max(0, data.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    last = bool(page[5] & 4)
    return not last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
