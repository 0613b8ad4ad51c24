"""Embeddings on disk, found again by what was encoded and by whom, never by a file's name.

One SQLite file holds every encoder's vectors, keyed by the sha256 of a recording's bytes and the encoder's fingerprint.
A batch is one transaction, so a process that is killed leaves whole batches behind and nothing else. A second table
remembers the sha256 of files that have not changed since (size, times, inode), as version-control systems do, so that
a second run reads no audio at all.

A cache only saves time: a damaged vector is encoded again, and a damaged file is moved aside and begun again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kws_imagebind.files import explained

FILE = "embeddings.sqlite3"
DAMAGED = ".damaged"  # after the name of a file that was moved aside
_SCHEMA = """
CREATE TABLE IF NOT EXISTS embedding (
    encoder TEXT NOT NULL, content BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (encoder, content)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, state TEXT NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
"""
_TURN = 400  # keys in one SELECT: every SQLite allows 999
_PATIENCE = 60.0  # s to wait for another process
_WRECKED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TOLERANCE = 1e-3  # of a vector's norm
# A file that was changed so lately could be changed again without a new time: FAT counts in steps of two seconds.
_SETTLED = 2_000_000_000  # ns

log = logging.getLogger(__name__)


class CacheError(RuntimeError):
    """A cache that cannot be read or written; the message names the file and the remedy."""


def _state(status: os.stat_result) -> str:
    """What changes when a file does. ctime cannot be set by hand, so even a restored mtime does not deceive it."""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _is_settled(status: os.stat_result) -> bool:
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED


class EmbeddingStore:
    """The embeddings of one encoder in a cache folder; a context manager, which closes the file at its end.

    Several threads may use one store.

    Args:
        folder: made if it is not there; several processes and encoders may share it.
        fingerprint: the encoder's, of its audio vectors.
        dim: length of its vectors.

    Raises:
        CacheError: the folder cannot be used.
    """

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        self.path, self._fingerprint, self._dim = folder / FILE, fingerprint, dim
        self._lock, self._warned = threading.RLock(), False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{explained(error, folder, 'create')}; see --cache and --no-cache") from error
        with self._guard():
            try:
                self._database = self._open()
            except sqlite3.DatabaseError as error:
                if not _is_wrecked(error):
                    raise
                self._database = self._begin_again()

    def known(self, paths: Iterable[Path]) -> dict[Path, bytes]:
        """The sha256 of those files whose bytes were read before and have not changed since."""
        states = {}
        for path in paths:
            with suppress(OSError, ValueError):
                states[path] = _state(path.stat())
        rows = self._select("SELECT path, state, content FROM file WHERE path IN", map(os.fsencode, states))
        remembered = {path: (state, content) for path, state, content in rows}
        found = {path: remembered.get(os.fsencode(path)) for path in states}
        return {path: entry[1] for path, entry in found.items() if entry and entry[0] == states[path]}

    def remember(self, files: Iterable[tuple[Path, os.stat_result, bytes]]) -> None:
        """Notes the sha256 of files' bytes, each with the status that the open file had before and after it was read.

        A file that was changed in the last seconds is left out: the next change might leave the same times.
        """
        rows = [(os.fsencode(path), _state(status), content) for path, status, content in files if _is_settled(status)]
        if rows:
            self._insert("INSERT OR REPLACE INTO file VALUES (?, ?, ?)", rows)

    def get(self, contents: Iterable[bytes]) -> dict[bytes, Tensor]:
        """The vectors (dim,) of those contents that have been encoded before. A damaged one counts as not there."""
        query = "SELECT content, vector FROM embedding WHERE encoder = ? AND content IN"
        rows = self._select(query, contents, self._fingerprint)
        fitting = [(content, stored) for content, stored in rows if len(stored) == 4 * self._dim]
        block = np.frombuffer(b"".join(stored for _, stored in fitting), "<f4").reshape(-1, self._dim)
        norms = np.linalg.norm(block.astype(np.float64), axis=1)
        vectors = torch.from_numpy(block.astype(np.float32))
        sound = np.abs(norms - 1) < _TOLERANCE  # false for NaN as well
        found = {content: vectors[i] for i, (content, _) in enumerate(fitting) if sound[i]}
        if len(found) < len(rows) and not self._warned:
            self._warned = True
            log.warning("%s holds damaged vectors; their recordings are encoded again", self.path)
        return found

    def put(self, contents: Sequence[bytes], vectors: Tensor) -> None:
        """Adds a batch (n, dim), all of it or nothing."""
        rows = [
            (self._fingerprint, content, vector.tobytes())
            for content, vector in zip(contents, vectors.numpy().astype("<f4"), strict=True)
        ]
        self._insert("INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)", rows)

    def _select(self, query: str, keys: Iterable[bytes], *before: str) -> list[tuple]:
        keys = list(dict.fromkeys(keys))
        rows: list[tuple] = []
        with self._lock, self._guard():
            for start in range(0, len(keys), _TURN):
                part = keys[start : start + _TURN]
                marks = ", ".join("?" * len(part))
                try:
                    rows += self._database.execute(f"{query} ({marks})", [*before, *part])
                except sqlite3.DatabaseError as error:
                    if not _is_wrecked(error):
                        raise
                    self._database.close()
                    self._database = self._begin_again()
        return rows

    def _insert(self, query: str, rows: list[tuple]) -> None:
        with self._lock, self._guard():
            try:
                with self._database:
                    self._database.executemany(query, rows)
            except sqlite3.DatabaseError as error:
                if not _is_wrecked(error):
                    raise
                self._database.close()
                self._database = self._begin_again()
                with self._database:
                    self._database.executemany(query, rows)

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        try:
            database.executescript(_SCHEMA)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _begin_again(self) -> sqlite3.Connection:
        """Moves a damaged file aside and opens a new one, unless another process has done so already."""
        with FileLock(f"{self.path}.lock", timeout=_PATIENCE):
            if healthy := self._open_if_healthy():
                return healthy
            for suffix in ("", "-journal", "-wal", "-shm"):
                part = Path(f"{self.path}{suffix}")
                if part.exists():
                    part.replace(f"{self.path}{DAMAGED}{suffix}")
            log.warning("%s was damaged: it is begun again; the old file is kept as %s%s", self.path, FILE, DAMAGED)
            return self._open()

    def _open_if_healthy(self) -> sqlite3.Connection | None:
        database = None
        try:
            database = self._open()
            if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return database
        except sqlite3.DatabaseError as error:
            if not _is_wrecked(error):  # locked, perhaps, and whole
                raise
        if database:
            database.close()
        return None

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, Timeout, OSError) as error:
            reason = explained(error, self.path) if isinstance(error, OSError) else str(error)
            raise CacheError(
                f"the cache {self.path} cannot be used ({reason}); choose another folder with --cache, or --no-cache"
            ) from error

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _is_wrecked(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged; a locked one, a full disk and the like are not."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _WRECKED
