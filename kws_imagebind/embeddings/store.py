"""Embeddings on disk, found again by what was encoded and by whom, never by a file's name.

One SQLite file holds every encoder's vectors, keyed by the sha256 of a recording's bytes and the encoder's fingerprint.
A batch is one transaction, so a process that is killed leaves whole batches behind and nothing else. A second table
remembers the sha256 of files that have not changed since (size, times, inode), as version-control systems do, so that
a second run reads no audio at all.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = "embeddings.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS embedding (
    encoder TEXT NOT NULL, content BLOB NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (encoder, content)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, state TEXT NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
"""
_TURN = 400  # keys in one SELECT: every SQLite allows 999


class CacheError(RuntimeError):
    """A cache that cannot be read or written; the message names the file and the remedy."""


def _state(path: Path) -> str:
    """What changes when a file does. ctime cannot be set by hand, so even a restored mtime does not deceive it."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


class EmbeddingStore:
    """The embeddings of one encoder in a cache folder; a context manager, which closes the file at its end.

    Args:
        folder: made if it is not there; several processes and encoders may share it.
        fingerprint: the encoder's.
        dim: length of its vectors.
    """

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        self.path, self._fingerprint, self._dim = folder / FILE, fingerprint, dim
        with self._guard():
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60)
            try:
                self._database.executescript(_SCHEMA)
            except sqlite3.Error:
                self._database.close()
                raise

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"the cache {self.path} cannot be used ({error}); choose another folder with --cache, or --no-cache; "
                "if it is damaged, remove it"
            ) from error

    def contents(self, paths: Sequence[Path]) -> list[bytes | None]:
        """The sha256 of each file's bytes; None where there is no file to read."""
        with self._guard():
            known = {path: (state, content) for path, state, content in self._select("file", map(os.fsencode, paths))}
        found: list[bytes | None] = []
        fresh: list[tuple[bytes, str, bytes]] = []
        for path in paths:
            try:
                state = _state(path)
                remembered = known.get(os.fsencode(path))
                if remembered and remembered[0] == state:
                    found.append(remembered[1])
                    continue
                content = hashlib.sha256(path.read_bytes()).digest()
            except OSError:
                found.append(None)
                continue
            found.append(content)
            fresh.append((os.fsencode(path), state, content))
        with self._guard(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?)", fresh)
        return found

    def get(self, contents: Iterable[bytes]) -> dict[bytes, Tensor]:
        """The vectors (dim,) of those contents that have been encoded before."""
        with self._guard():
            rows = list(self._select("embedding", contents))
        vectors = {}
        for _, content, vector in rows:
            if len(vector) != 4 * self._dim:
                raise CacheError(f"the cache {self.path} is damaged: a vector is {len(vector)} bytes long; remove it")
            vectors[content] = torch.from_numpy(np.frombuffer(vector, "<f4").copy())
        return vectors

    def put(self, contents: Sequence[bytes], vectors: Tensor) -> None:
        """Adds a batch (n, dim), all of it or nothing."""
        rows = [
            (self._fingerprint, content, vector.tobytes())
            for content, vector in zip(contents, vectors.numpy().astype("<f4"), strict=True)
        ]
        with self._guard(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)", rows)

    def _select(self, table: str, keys: Iterable[bytes]) -> Iterator[tuple]:
        keys = list(dict.fromkeys(keys))
        for start in range(0, len(keys), _TURN):
            part = keys[start : start + _TURN]
            marks = ", ".join("?" * len(part))
            if table == "file":
                yield from self._database.execute(f"SELECT * FROM file WHERE path IN ({marks})", part)
            else:
                query = f"SELECT * FROM embedding WHERE encoder = ? AND content IN ({marks})"
                yield from self._database.execute(query, [self._fingerprint, *part])

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
