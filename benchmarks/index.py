"""Searching a million vectors: exact and approximate, as ratios to a plain matrix product in the same run.

    python -m benchmarks.index --dim 192
    python -m benchmarks.index --dim 1024

Vectors are synthetic clusters on the sphere; queries are drawn around the same centres. Times are the medians of
several turns; before each search the plain product takes its turn, so that a busy machine slows both alike.
`--n 100000` is a quick run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kws_imagebind.embeddings.index import Kind, VectorIndex

CLUSTERS = 20_000
SPREAD = 0.6  # length of the noise around a centre, whose length is 1
TOP = 10
TURNS = 5
BLOCK = 100_000  # vectors made at once


@dataclass(frozen=True)
class Times:
    """Milliseconds for a query, and the ratio to a plain product; medians over the turns."""

    milliseconds: float
    ratio: float


@dataclass(frozen=True)
class Outcome:
    """One way to search.

    Attributes:
        name: of it.
        build: seconds.
        megabytes: that the index adds to the process, by its own serialised size.
        single: one query alone.
        batch: each of the queries at once.
        recall: of the exact ten nearest.
    """

    name: str
    build: float
    megabytes: float
    single: Times
    batch: Times
    recall: float


def clusters(n: int, dim: int, queries: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, dim) vectors and (queries, dim) queries around the same centres, unit norm."""
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((min(CLUSTERS, n), dim), dtype=np.float32))
    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        vectors[start : start + rows] = _around(centres, rows, rng)
    return vectors, _around(centres, queries, rng)


def _around(centres: NDArray[np.float32], rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    noise = rng.standard_normal((rows, centres.shape[1]), dtype=np.float32) * np.float32(
        SPREAD / centres.shape[1] ** 0.5
    )
    return _unit(centres[rng.integers(len(centres), size=rows)] + noise)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compare(n: int, dim: int, kinds: list[Kind], queries: int = 64) -> Iterator[Outcome]:
    """Every way to search the same vectors, the plain product first; each as soon as it is measured."""
    vectors, asked = clusters(n, dim, queries)
    matrix, rows = torch.from_numpy(vectors), torch.from_numpy(asked)
    exact = (rows @ matrix.T).topk(TOP, dim=1).indices.numpy()
    for kind in (None, *kinds):
        build, megabytes, recall, index = 0.0, vectors.nbytes / 1e6, 1.0, None
        if kind is not None:
            started = time.perf_counter()
            index = VectorIndex(vectors, kind)
            build = time.perf_counter() - started
            found = index.search(asked, TOP)[1]
            recall = float(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))
            megabytes = size(index)
        single, batch = turns(index, matrix, asked)
        yield Outcome(kind or "torch product", build, megabytes, single, batch, recall)
        del index  # one index in memory at a time


def turns(index: VectorIndex | None, matrix: torch.Tensor, asked: NDArray[np.float32]) -> tuple[Times, Times]:
    """One query alone, and each of all at once; the plain product takes its turn before each search."""
    rows = torch.from_numpy(asked)

    def plain(queries: slice) -> object:
        return (rows[queries] @ matrix.T).topk(TOP, dim=1)

    def search(queries: slice) -> object:
        return plain(queries) if index is None else index.search(asked[queries], TOP)

    alone = [slice(turn, turn + 1) for turn in range(2 * TURNS)]
    return _paired(plain, search, alone, 1), _paired(plain, search, [slice(None)] * TURNS, len(asked))


def _paired(
    plain: Callable[[slice], object], search: Callable[[slice], object], queries: Sequence[slice], count: int
) -> Times:
    pairs = [(timed(lambda part=part: plain(part)), timed(lambda part=part: search(part))) for part in queries]
    return Times(
        1000 * statistics.median(found for _, found in pairs) / count,
        statistics.median(found / product for product, found in pairs),
    )


def size(index: VectorIndex) -> float:
    """Megabytes by what the index holds: its vectors, and what it adds to find them."""
    count, dim = len(index), index.dim
    added = {"exact": 0, "hnsw": count * (2 * 32 * 4 + 8), "ivf": count * 8 + count**0.5 * dim * 4}
    return (count * dim * 4 + added[index.kind]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--kinds", default="exact,ivf,hnsw", help="with commas between")
    arguments = parser.parse_args()
    print(f"{arguments.n:,} vectors of {arguments.dim}, {torch.get_num_threads()} threads, best {TOP}, 64 queries")
    print(f"{'':<14} {'one query':>18} {'each of 64':>18} {'recall':>8} {'memory':>10} {'build':>8}", flush=True)
    for each in compare(arguments.n, arguments.dim, arguments.kinds.split(",")):
        single, batch = each.single, each.batch
        print(
            f"{each.name:<14} {single.milliseconds:8.2f} ms ({single.ratio:4.2f}) "
            f"{batch.milliseconds:8.2f} ms ({batch.ratio:4.2f}) "
            f"{100 * each.recall:6.1f} % {each.megabytes:7,.0f} MB {each.build:6.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
