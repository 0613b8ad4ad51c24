"""The benchmarks of search: their synthetic clusters, their joined speech, and a small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.index import clusters, compare
from benchmarks.scale import Cost, Spectrum, embedding, link, slope
from benchmarks.search import best_threshold, shares
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.encoders.base import check_encoder, check_vectors


def test_clusters_are_unit_vectors_around_shared_centres() -> None:
    vectors, queries = clusters(3000, 32, 20)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.dtype == np.float32 and queries.shape == (20, 32)
    np.testing.assert_array_equal(vectors, clusters(3000, 32, 20)[0])


def test_a_small_comparison_runs() -> None:
    pytest.importorskip("faiss")
    plain, exact, ivf, hnsw = compare(2000, 16, ["exact", "ivf", "hnsw"], queries=16)
    assert plain.recall == exact.recall == 1 and min(ivf.recall, hnsw.recall) > 0.5
    assert hnsw.megabytes > exact.megabytes == plain.megabytes and min(ivf.single.milliseconds, hnsw.batch.ratio) > 0


def test_the_threshold_is_that_of_the_best_f1() -> None:
    scores, right = np.array([[0.9, 0.8, 0.3], [0.7, 0.2, 0.1]]), np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    assert best_threshold(scores, right) == 0.8  # 2 of 2 right, 2 of 3 found


def test_precision_and_recall_are_shares_of_places_and_of_sentences() -> None:
    said = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)
    right = np.array([[1, 0, 0, 1], [0, 1, 1, 0]], dtype=bool)
    speakers = ("a", "a", "b", "b")
    precision, recall = shares(said & right, said, speakers), shares(said & right, right, speakers)
    assert (precision.estimate, precision.n, recall.estimate, recall.n) == (2 / 3, 3, 1 / 2, 4)
    assert precision.low < precision.estimate < precision.high


def test_the_scale_of_a_few_links(tmp_path: Path, tones: Path) -> None:
    pytest.importorskip("pyarrow")
    link(sorted(tones.rglob("*.wav")), 70, tmp_path / "links")
    assert len(list((tmp_path / "links").glob("word*/*.wav"))) == 70
    encoder = f"{Path(__file__).parents[1] / 'benchmarks' / 'scale.py'}:Spectrum"
    cost = embedding(tmp_path / "links", 70, tmp_path / "out.parquet", ["--encoder", encoder, "--part", "32"])
    assert (
        len(Embeddings.load(tmp_path / "out.parquet")) == 70
        and cost.megabytes > 50
        and cost.processor > 0
        and cost.table > 0
    )
    assert check_vectors(check_encoder(Spectrum()).encode_audio([torch.rand(9000)]), 1, Spectrum()).shape == (1, 192)


def test_the_slope_is_of_a_clip_more() -> None:
    assert slope([Cost(1000, 50.0, 10.0, 500.0, 0), Cost(11_000, 60.0, 30.0, 501.0, 0)]) == (2.0, 100.0)
