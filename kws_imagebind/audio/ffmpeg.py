"""Recordings that libsndfile does not read, such as M4A and WebM, through the program ffmpeg where it is installed."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.files import explaining

EXTENSIONS = frozenset(
    f".{name}" for name in "3ga 3gp aac ac3 amr ape m4a m4b mka mkv mov mp4 tta weba webm wma wv".split()
)
PATIENCE = 60.0  # seconds until ffmpeg must have brought the next block

# Plain containers only: a playlist could name other files, or addresses.
_FORMATS = "aac,ac3,amr,ape,asf,matroska,mov,tta,wv"
_MAGIC = re.compile(
    rb"....(?:ftyp|moov|mdat|wide|free|skip)"  # MP4, M4A, MOV, 3GP
    rb"|\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|\xff[\xf0\xf1\xf8\xf9]"  # AAC in ADTS; the two bits of the layer are 0, which no MP3 has
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # ASF, WMA
    rb"|#!AMR|MAC |wvpk|TTA1|\x0b\x77",
    re.DOTALL,
)
_AU = struct.Struct(">4s5I")  # of a Sun AU file: magic, bytes of the header, of the data, encoding, rate, channels
_FLOAT32 = 6  # the encoding
_PREFIX = re.compile(r"^\[[^]]*\]\s*")  # of ffmpeg's messages: which part of it speaks


def is_installed() -> bool:
    """Whether there is an ffmpeg to ask."""
    return shutil.which("ffmpeg") is not None


def reads(start: bytes) -> bool:
    """Whether a file that begins with these bytes is one for ffmpeg.

    >>> reads(b"\\x00\\x00\\x00\\x20ftypM4A "), reads(b"RIFF\\x24\\x00\\x00\\x00WAVE")
    (True, False)
    """
    return _MAGIC.match(start) is not None


class Stream:
    """What ffmpeg decodes, as it comes.

    Attributes:
        samplerate: in hertz.
        channels: of each frame.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], path: Path) -> None:
        self._process, self._errors, self._path = process, errors, path
        head = self._bytes(_AU.size)
        if len(head) < _AU.size:
            raise self._error()
        magic, header, _, encoding, self.samplerate, self.channels = _AU.unpack(head)
        if magic != b".snd" or encoding != _FLOAT32:
            raise AudioError(f"{path}: this ffmpeg does not write AU with float32 samples; install ffmpeg 4 or later")
        self._bytes(header - _AU.size)

    def read(self, frames: int) -> np.ndarray:
        """The next (frames, channels) float32; fewer where the recording ends.

        Raises:
            AudioError: ffmpeg found the file cut short or damaged, or stands still.
        """
        data = self._bytes(frames * 4 * self.channels)
        if len(data) < frames * 4 * self.channels and (self._process.wait(PATIENCE) or self._message()):
            raise self._error()
        return np.frombuffer(data, ">f4").reshape(-1, self.channels).astype(np.float32)

    def _bytes(self, count: int) -> bytes:
        assert self._process.stdout is not None
        guard = threading.Timer(PATIENCE, self._process.kill)
        guard.start()
        try:
            return self._process.stdout.read(count)
        finally:
            guard.cancel()

    def _message(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read(4_000).decode("utf-8", "replace").strip().splitlines()
        return _PREFIX.sub("", lines[0]).rstrip(". ") if lines else ""

    def _error(self) -> AudioError:
        self._process.wait(PATIENCE)
        reason = re.sub(r"file:\S+?(?=: |$)", "the file", self._message())
        return AudioError(
            f"{self._path}: cannot be decoded (ffmpeg: {reason or 'it gave no sound'}); the file is cut short or "
            "damaged, or holds no sound: copy it again"
        )


@contextmanager
def opened(file: BinaryIO, path: Path, max_seconds: float = math.inf) -> Iterator[Stream]:
    """The sound of an open file, of which ffmpeg decodes little more than `max_seconds`.

    Args:
        file: the recording; only its bytes are read, whatever happens to the path meanwhile.
        path: its name, for messages.
        max_seconds: where to stop.

    Raises:
        AudioError: ffmpeg is not installed or cannot decode the file; the message gives the remedy.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        convert = shlex.join(["ffmpeg", "-i", str(path), str(path.with_suffix(".wav"))])
        raise AudioError(
            f"{path}: libsndfile does not read this format, and ffmpeg is not installed here; install ffmpeg, or "
            f"convert the file where it is installed: {convert}"
        )
    limit = [] if math.isinf(max_seconds) else ["-t", f"{max_seconds + 1:.3f}"]
    with _on_disk(file) as copy, tempfile.TemporaryFile() as errors:
        reading = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS]
        writing = ["-map", "0:a:0", *limit, "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        command = [*reading, "-i", f"file:{copy}", *writing]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        try:
            yield Stream(process, errors, path)
        finally:
            process.kill()
            process.communicate()


@contextmanager
def _on_disk(file: BinaryIO) -> Iterator[Path]:
    """The bytes of an open file as a file that ffmpeg can seek in, which M4A needs."""
    with tempfile.TemporaryDirectory(prefix="kws-imagebind-") as folder:
        copy = Path(folder) / "recording"
        file.seek(0)
        with explaining(copy, "write"), copy.open("wb") as target:
            shutil.copyfileobj(file, target, 1 << 20)
        yield copy
