"""An index of vectors to search in: exact, or approximate for millions of them.

The one file that needs faiss (the extra `search`), and only for approximate indexes: an exact search is a product of
matrices, which torch does three times as fast as faiss. What was indexed is kept as a table of embeddings beside it, so
that other programs can read that as well.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from kws_imagebind.embeddings import table
from kws_imagebind.embeddings.table import Row, TableError
from kws_imagebind.registry import to_install

Kind = Literal["exact", "hnsw", "ivf"]
CLIPS, VECTORS = "clips.parquet", "vectors.faiss"  # of an index's folder; an exact one has no second file
NEIGHBOURS, BREADTH = 32, 128  # of a node of the HNSW graph, and of its search
PROBED = 1 / 16  # of the cells of an IVF index are searched, and at least 8
FEWEST = 39  # vectors a cell that faiss wants
LEARNT = 64  # vectors a cell that k-means learns from; faiss's 256 take four times as long
SAMPLED, AT = 200, 10  # clips whose nearest ten say how much an approximate index finds
SEED = 0
SCORES = 64_000_000  # held at once by an exact search: 256 MB

log = logging.getLogger(__name__)


class VectorIndexError(ValueError):
    """An index that cannot be made, read or searched; the message names it and the remedy."""


class VectorIndex:
    """Unit vectors, found by cosine.

    Attributes:
        kind: "exact" compares with every vector. "hnsw" walks a graph of neighbours (Malkov and Yashunin 2018,
            arXiv:1603.09320), "ivf" searches the nearest cells of a k-means partition (Jégou et al. 2011, PAMI 33).
        dim: length of the vectors.

    Args:
        vectors: (n, dim) float32, unit norm.
        kind: as above.

    Raises:
        VectorIndexError: the kind is unknown, there is no vector, or an approximate index needs faiss, which is not
            installed.
    """

    def __init__(self, vectors: NDArray[np.float32], kind: Kind = "exact") -> None:
        if kind not in get_args(Kind):
            raise VectorIndexError(f"unknown kind of index '{kind}'; available: {', '.join(get_args(Kind))}")
        if vectors.ndim != 2 or not len(vectors):
            raise VectorIndexError(f"vectors of shape {vectors.shape}; expected (n, dim) and at least one")
        self.kind, self.dim = kind, vectors.shape[1]
        self._index = _built(np.ascontiguousarray(vectors, dtype=np.float32), kind)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def read(cls, path: Path, kind: Kind) -> VectorIndex:
        """An index from a file that `write` wrote.

        Raises:
            VectorIndexError: it cannot be read.
        """
        faiss, found = _faiss(), cls.__new__(cls)
        try:
            found._index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise VectorIndexError(f"{path} cannot be read (damaged or cut short); build the index again") from error
        found.kind, found.dim = kind, int(found._index.d)
        return found

    def write(self, path: Path) -> None:
        """Writes the index to a file."""
        _faiss().write_index(self._index, str(path))

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest vectors of each query.

        Args:
            queries: (q, dim) float32, unit norm.
            count: how many; an approximate index may find fewer, whose rows are -1 then.

        Returns:
            (q, count) cosines from the nearest on, and (q, count) the rows of those vectors.

        Raises:
            VectorIndexError: the queries have another length, or more are wanted than there are.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise VectorIndexError(f"queries of shape {queries.shape}; expected (q, {self.dim})")
        if not 1 <= count <= len(self):
            raise VectorIndexError(f"{count:,} nearest are asked for; expected 1 to {len(self):,}, the vectors indexed")
        cosines, rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        return cosines, rows

    def recall(self, vectors: NDArray[np.float32], queries: NDArray[np.float32], count: int = AT) -> float:
        """The share of the exact nearest vectors that this index finds.

        Args:
            vectors: (n, dim) those indexed.
            queries: (q, dim).
            count: how many nearest.
        """
        count = min(count, len(self))
        exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :count]
        found = self.search(queries, count)[1]
        return float(
            np.mean([len(set(a.tolist()) & set(b.tolist())) / count for a, b in zip(exact, found, strict=True)])
        )


@dataclass(frozen=True)
class ClipIndex:
    """Clips that can be searched.

    Attributes:
        rows: what is known of each clip.
        vectors: (n, dim) float32, unit norm.
        encoder: its name.
        fingerprint: of the encoder.
        card: of the encoder, as its fields.
        kind: of the index.
        hop: seconds between the windows of long recordings; None where there are none.
        recall: of the nearest ten against an exact search, measured when it was built.
    """

    rows: tuple[Row, ...]
    vectors: NDArray[np.float32]
    encoder: str
    fingerprint: str
    card: dict[str, Any] | None = None
    kind: Kind = "exact"
    hop: float | None = None
    recall: float = 1.0
    _index: list[VectorIndex] = field(default_factory=list, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def index(self) -> VectorIndex:
        """The index itself, built when it is first needed."""
        if not self._index:
            self._index.append(VectorIndex(self.vectors, self.kind))
        return self._index[0]

    @classmethod
    def build(
        cls,
        rows: Sequence[Row],
        vectors: NDArray[np.float32],
        encoder: str,
        fingerprint: str,
        card: dict[str, Any] | None = None,
        kind: Kind = "exact",
        hop: float | None = None,
    ) -> ClipIndex:
        """An index of clips; what an approximate one finds is measured on clips drawn from it.

        Raises:
            VectorIndexError: as `VectorIndex`.
        """
        made, recall = VectorIndex(vectors, kind), 1.0
        if kind != "exact":
            drawn = np.random.default_rng(SEED).permutation(len(vectors))[:SAMPLED]
            recall = made.recall(vectors, vectors[drawn])
        return cls(tuple(rows), vectors, encoder, fingerprint, card, kind, hop, recall, [made])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the index as a folder. An interrupted call leaves the old one, or none.

        Raises:
            VectorIndexError: something else is there already.
        """
        folder = Path(folder)
        check_place(folder)
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            size = 0
            if self.kind != "exact":
                self.index.write(part / VECTORS)
                size = (part / VECTORS).stat().st_size
            metadata = {
                "encoder": self.encoder,
                "fingerprint": self.fingerprint,
                "card": self.card,
                "index": {"kind": self.kind, "hop": self.hop, "recall": self.recall, "bytes": size},
            }
            table.write(part / CLIPS, self.rows, self.vectors, metadata)
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ClipIndex:
        """An index from its folder, or an exact one of the clips of a table.

        Raises:
            VectorIndexError: there is none, or it is damaged.
            TableError: the table cannot be read.
        """
        path = Path(path)
        if not path.exists():
            raise VectorIndexError(f"'{path}' does not exist; expected an index that 'kws-imagebind index' wrote")
        if path.is_dir() and not (path / CLIPS).is_file():
            raise VectorIndexError(f"'{path}' is not an index: it has no {CLIPS}; build one with 'kws-imagebind index'")
        rows, vectors, metadata = table.read(path / CLIPS if path.is_dir() else path)
        missing = [name for name in ("encoder", "fingerprint") if name not in metadata]
        if missing:
            raise TableError(f"{path} does not say its {', '.join(missing)}; build it again with 'kws-imagebind index'")
        about = metadata.get("index") or {}
        kind = about.get("kind", "exact")
        made = []
        if path.is_dir() and kind != "exact":
            made = [_read(path / VECTORS, kind, about.get("bytes"), len(rows))]
        return cls(
            tuple(rows),
            vectors,
            metadata["encoder"],
            metadata["fingerprint"],
            metadata.get("card"),
            kind,
            about.get("hop"),
            about.get("recall", 1.0),
            made,
        )


def check_place(folder: Path, kind: Kind = "exact") -> None:
    """Says before any work whether an index can be written there; an index that is there is replaced.

    Raises:
        VectorIndexError: something else is there already, or the kind needs faiss, which is not installed.
    """
    if kind != "exact":
        _faiss()
    table.check_writable((folder if folder.is_dir() else folder.parent) / CLIPS)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / CLIPS).is_file()):
        raise VectorIndexError(f"'{folder}' is there already and is not an index; choose another name")


def _read(path: Path, kind: Kind, size: int | None, count: int) -> VectorIndex:
    found = path.stat().st_size if path.is_file() else 0
    if size is not None and found != size:
        raise VectorIndexError(f"{path} holds {found:,} of {size:,} bytes; it is cut short, so build the index again")
    index = VectorIndex.read(path, kind)
    if len(index) != count:
        raise VectorIndexError(f"{path} holds {len(index):,} vectors for {count:,} clips; build the index again")
    return index


class _Product:
    """An exact search with the names that faiss gives its own."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._matrix = torch.from_numpy(vectors).T  # (dim, n)
        self.d, self.ntotal = self._matrix.shape

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = [
            (part @ self._matrix).topk(count, dim=1)
            for part in torch.from_numpy(queries).split(max(1, SCORES // self.ntotal))
        ]
        return torch.cat([each.values for each in found]).numpy(), torch.cat([each.indices for each in found]).numpy()


def _built(vectors: NDArray[np.float32], kind: Kind) -> Any:
    if kind == "exact":
        return _Product(vectors)
    faiss = _faiss()
    dim, product = vectors.shape[1], faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, NEIGHBOURS, product)
        index.hnsw.efSearch = BREADTH
    else:
        cells = max(1, min(round(len(vectors) ** 0.5), len(vectors) // FEWEST))
        if cells == 1:
            log.warning(
                "%s clips are too few to divide, so ivf compares with all of them, as --kind exact does",
                f"{len(vectors):,}",
            )
        index = faiss.index_factory(dim, f"IVF{cells},Flat", product)
        index.cp.min_points_per_centroid = min(FEWEST, len(vectors))
        index.nprobe = min(cells, max(8, round(PROBED * cells)))
        index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = SEED + 1, 10, LEARNT
        index.train(vectors)
    index.add(vectors)
    return index


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise VectorIndexError(
            f"an approximate index needs faiss; {to_install('faiss-cpu', 'search')}, or take --kind exact"
        ) from error
    return faiss
