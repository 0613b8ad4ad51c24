"""Files from a web server: resumed after every cut, verified, and only then put under their final name.

`fetch` brings a whole file. `Server` reads parts of one by HTTP ranges (RFC 9110, section 14), for those who need a
few of its bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from kws_imagebind.files import FileProblem, explaining, make_folder

CHUNK = 1 << 18  # bytes of one read
BLOCK = 1 << 18  # bytes of one small range
ATTEMPTS = 4  # to reach a server
CONTINUED_ATTEMPTS = 24  # connections in a row that bring nothing new, once it has been reached
PAUSE_SECONDS = 0.5  # after the first of them; it doubles each time
MAX_PAUSE_SECONDS = 10.0
TIMEOUT_SECONDS = 30.0

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_NETWORK_ERRORS = (OSError, http.client.HTTPException)  # URLError and time-outs are OSErrors


class DownloadError(RuntimeError):
    """A download that failed; the message says what went wrong and gives the remedy."""


class NoRangesError(DownloadError):
    """The server does not send the parts of a file that it is asked for."""


@dataclass(frozen=True)
class Server:
    """One file on a web server.

    Attributes:
        url: its address.
        size: bytes.
        validator: the server's name for this version of the file (ETag or date), if it has one.
        has_ranges: whether the server sends parts of it.
        pause: seconds before the second fruitless attempt.
    """

    url: str
    size: int
    validator: str | None
    has_ranges: bool
    pause: float = PAUSE_SECONDS

    @classmethod
    def ask(cls, url: str, pause: float = PAUSE_SECONDS) -> Server:
        """What the server says about a file when asked for its first byte.

        Raises:
            DownloadError: it cannot be reached, does not have the file, or does not say its size.
        """
        for attempt in range(ATTEMPTS):
            try:
                with _open(url, {"Range": "bytes=0-0"}) as answer:
                    return cls._from_answer(url, answer, pause)
            except _NETWORK_ERRORS as error:
                _give_up_or_wait(url, error, attempt, ATTEMPTS, pause)
        raise AssertionError("unreachable")

    @classmethod
    def _from_answer(cls, url: str, answer: Any, pause: float) -> Server:
        # A weak ETag may stand for other bytes, so it cannot vouch for the rest of a file.
        tag = answer.headers.get("ETag")
        validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
        promised = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        has_ranges = answer.status == 206 and promised is not None and promised.group(1, 2) == ("0", "0")
        size = promised[3] if has_ranges and promised else answer.headers.get("Content-Length")
        if size is None or (answer.status == 206 and not has_ranges):
            # Asked again without a range, a server that muddles them still says the length.
            with _open(url, {}) as plain:
                size = plain.headers.get("Content-Length")
        if size is None:
            raise DownloadError(f"{url}: the server does not say how large the file is; try another address")
        return cls(url, int(size), validator, has_ranges, pause)

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to `end`, asking again from where a connection is cut.

        Raises:
            NoRangesError: the server answered with other bytes than those asked for.
            DownloadError: `CONTINUED_ATTEMPTS` connections in a row brought nothing.
        """
        fruitless = 0
        while start < end:
            before = start
            error: Exception | None = None
            try:
                with self._part(start, end) as answer:
                    while start < end and (chunk := answer.read(min(CHUNK, end - start))):
                        start += len(chunk)
                        yield chunk
            except _NETWORK_ERRORS as caught:
                error = caught
            if start == end:
                return
            fruitless = 0 if start > before else fruitless + 1
            _give_up_or_wait(self.url, error, fruitless - 1, CONTINUED_ATTEMPTS, self.pause)

    def _part(self, start: int, end: int) -> Any:
        if not self.has_ranges:
            raise NoRangesError(f"{self.url}: the server does not serve parts of a file")
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self.validator:
            headers["If-Range"] = self.validator
        answer = _open(self.url, headers)
        promised = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != 206 or not promised or tuple(map(int, promised.groups())) != (start, end - 1, self.size):
            answer.close()
            raise NoRangesError(
                f"{self.url}: asked for bytes {start}-{end - 1} of {self.size}, the server answered "
                f"{answer.status} with {answer.headers.get('Content-Range', 'no range')}"
            )
        return answer


class RemoteFile(io.RawIOBase):
    """A file on a server as a seekable stream, read in blocks that are kept."""

    def __init__(self, server: Server):
        self.server = server
        self._position = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.server.size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        start, size = divmod(self._position, BLOCK)
        if self._position >= self.server.size:
            return 0
        if start not in self._blocks:
            end = min((start + 1) * BLOCK, self.server.size)
            self._blocks[start] = b"".join(self.server.stream(start * BLOCK, end))
        data = self._blocks[start][size : size + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def fetch(
    url: str,
    target: Path,
    size: int | None = None,
    sha256: str | None = None,
    pause: float = PAUSE_SECONDS,
    quiet: bool = False,
) -> Path:
    """Download a whole file, continuing where an earlier attempt stopped.

    Args:
        url: its address.
        target: where to put it once it is whole and right; until then it is called `target` + ".part".
        size: bytes it must have.
        sha256: hexadecimal checksum it must have.
        pause: seconds before the second fruitless attempt.
        quiet: show no progress.

    Returns:
        `target`. A file that is already there, and of the right size, is left alone.

    Raises:
        DownloadError: the server or the file is not as expected. Nothing lies under `target` then.
        FileProblem: the file cannot be written.
    """
    with lock(target), explaining(target, "write"):
        if target.exists():
            check_size(target, size)
            return target
        server = Server.ask(url, pause)
        if size not in (None, server.size):
            raise DownloadError(f"{url}: the server has a file of {server.size:,} bytes; {size:,} were expected")
        part = Path(f"{target}.part")
        position = _resumable(part, server)
        check_space(target.parent, server.size - position)
        with progress(target.name, server.size, position, quiet) as bar:
            _fill(part, server, position, bar)
        _verify(part, sha256, url)
        _note_of(part).unlink(missing_ok=True)
        part.replace(target)
        return target


def check_size(target: Path, size: int | None) -> None:
    """Raise a DownloadError if a file that is there has another size than expected."""
    if size is not None and target.stat().st_size != size:
        raise DownloadError(
            f"{target} has {target.stat().st_size:,} bytes, not {size:,}; it is another file or damaged: remove it and "
            "download again"
        )


def check_space(folder: Path, needed: int) -> None:
    """Raise a DownloadError if the disk has no room for `needed` more bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder}: {needed / 1e9:.2f} GB more are needed and {free / 1e9:.2f} GB are free; make room or choose "
            "another folder"
        )


def progress(name: str, total: int, done: int, quiet: bool) -> Any:
    """A bar on standard error."""
    return tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True, disable=quiet)


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Keep other processes from downloading the same file. The lock ends with the process that holds it.

    Raises:
        DownloadError: another process holds it.
        FileProblem: the folder cannot be made or written to.
    """
    make_folder(target.parent)
    path = target.with_name(f".{target.name}.lock")
    with explaining(path, "write"):
        held = FileLock(path, timeout=0)
        try:
            held.acquire()
        except Timeout as error:
            raise DownloadError(
                f"another process is downloading {target.name} into {target.parent}; wait for it, or end it"
            ) from error
    try:
        yield
    finally:
        held.release()


def _open(url: str, headers: dict[str, str]) -> Any:
    """An open answer of status 200 or 206.

    Raises:
        DownloadError: the server refuses, for good.
        OSError: it may do better next time.
    """
    headers = {"User-Agent": "kws-imagebind", "Accept-Encoding": "identity", **headers}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (408, 425, 429) or error.code >= 500:
            raise OSError(f"the server answered {error.code} {error.reason}") from error
        kind = NoRangesError if error.code == 416 else DownloadError
        raise kind(f"{url}: the server answered {error.code} {error.reason}; check the address") from error
    except ValueError as error:
        raise DownloadError(f"'{url}' is not the address of a file ({error})") from error


def _give_up_or_wait(url: str, error: Exception | None, fruitless: int, attempts: int, pause: float) -> None:
    if fruitless >= attempts - 1:
        reason = getattr(error, "reason", None) or error or "the connection ends early every time"
        raise DownloadError(
            f"{url}: {attempts} attempts brought nothing ({reason}); what has arrived is kept: run the command again "
            "to continue"
        ) from error
    if fruitless >= 0:
        time.sleep(min(pause * 2**fruitless, MAX_PAUSE_SECONDS))


def _note_of(part: Path) -> Path:
    return Path(f"{part}.json")


def _resumable(part: Path, server: Server) -> int:
    """How many bytes of a part can be kept: all of them if they are of the file the server still has."""
    note = _note_of(part)
    about = {"url": server.url, "size": server.size, "validator": server.validator}
    try:
        same = json.loads(note.read_text()) == about
    except (OSError, ValueError):
        same = False
    if same and server.has_ranges and part.exists() and part.stat().st_size <= server.size:
        return part.stat().st_size
    part.unlink(missing_ok=True)
    note.write_text(json.dumps(about))
    return 0


def _fill(part: Path, server: Server, position: int, bar: Any) -> None:
    if server.has_ranges:
        try:
            with part.open("ab") as file:
                for chunk in server.stream(position, server.size):
                    file.write(chunk)
                    bar.update(len(chunk))
            return
        except NoRangesError:
            bar.reset()
    _fill_at_once(part, server, bar)


def _fill_at_once(part: Path, server: Server, bar: Any) -> None:
    """Without ranges a connection that is cut starts over; it is given up when that brings no more than before."""
    most, fruitless = 0, 0
    while True:
        position, error = 0, None
        bar.reset()
        try:
            with _open(server.url, {}) as answer, _new(part) as file:
                while chunk := answer.read(CHUNK):
                    position += len(chunk)
                    if position > server.size:
                        raise DownloadError(
                            f"{server.url}: the server sends more than the {server.size:,} bytes it announced"
                        )
                    with explaining(part, "write"):
                        file.write(chunk)
                    bar.update(len(chunk))
        except FileProblem:  # a full disk is not the network's fault
            raise
        except _NETWORK_ERRORS as caught:
            error = caught
        if position == server.size:
            return
        fruitless = 0 if position > most else fruitless + 1
        most = max(most, position)
        _give_up_or_wait(server.url, error, fruitless - 1, CONTINUED_ATTEMPTS, server.pause)


def _new(part: Path) -> IO[bytes]:
    with explaining(part, "write"):
        return part.open("wb", buffering=0)  # so that a full disk shows when a chunk is written


def _verify(part: Path, sha256: str | None, url: str) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        _note_of(part).unlink(missing_ok=True)
        raise DownloadError(
            f"{url}: what arrived has the sha256 {found}, not {sha256}; it is damaged or another file, and has been "
            "removed: download again"
        )
