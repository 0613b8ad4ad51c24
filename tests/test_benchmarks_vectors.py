"""The benchmarks of search: their synthetic clusters, their joined speech, and a small run."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.index import clusters, compare
from benchmarks.search import best_threshold


def test_clusters_are_unit_vectors_around_shared_centres() -> None:
    vectors, queries = clusters(3000, 32, 20)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.dtype == np.float32 and queries.shape == (20, 32)
    np.testing.assert_array_equal(vectors, clusters(3000, 32, 20)[0])


def test_a_small_comparison_runs() -> None:
    pytest.importorskip("faiss")
    plain, exact, ivf, hnsw = compare(2000, 16, ["exact", "ivf", "hnsw"], queries=16)
    assert plain.recall == exact.recall == 1 and min(ivf.recall, hnsw.recall) > 0.5
    assert hnsw.megabytes > exact.megabytes == plain.megabytes and min(ivf.milliseconds, hnsw.milliseconds) > 0


def test_the_threshold_is_that_of_the_best_f1() -> None:
    scores, right = np.array([[0.9, 0.8, 0.3], [0.7, 0.2, 0.1]]), np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    assert best_threshold(scores, right) == 0.8  # 2 of 2 right, 2 of 3 found
