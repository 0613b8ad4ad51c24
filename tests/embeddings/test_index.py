"""Indexes: exact is what a matrix product says, approximate is nearly that, and damaged ones are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from kws_imagebind.embeddings import table
from kws_imagebind.embeddings.index import CLIPS, VECTORS, ClipIndex, Kind, VectorIndex, VectorIndexError, check_place
from kws_imagebind.embeddings.table import Row, TableError

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")


def unit(rows: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, dim))
    vectors = centres[rng.integers(30, size=rows)] + 0.5 * rng.normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clip_index(kind: Kind = "exact", rows: int = 600) -> ClipIndex:
    clips = [Row(f"{i}.wav", f"/somewhere/{i}.wav", f"{i:064x}", None, None, "word", None) for i in range(rows)]
    return ClipIndex.build(clips, unit(rows), "tone", "tone-1", {"name": "tone"}, kind, 0.25)


def test_an_exact_search_is_a_matrix_product() -> None:
    vectors, queries = unit(500), unit(20, seed=1)
    cosines, rows = VectorIndex(vectors).search(queries, 7)
    products = queries @ vectors.T
    expected = np.argsort(-products, axis=1)[:, :7]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(cosines, np.take_along_axis(products, expected, 1), atol=1e-6)
    assert VectorIndex(vectors).recall(vectors, queries) == 1.0


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_approximate_search_finds_nearly_all_and_says_how_many(kind: Kind) -> None:
    vectors, queries = unit(3000), unit(50, seed=1)
    index = VectorIndex(vectors, kind)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = index.search(queries, 10)[1]
    share = np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(found, exact, strict=True)])
    assert share == pytest.approx(index.recall(vectors, queries)) and share > 0.9
    again = VectorIndex(vectors, kind).search(queries, 10)[1]
    np.testing.assert_array_equal(found, again)


def test_a_check_of_the_place_makes_no_index(tmp_path: Path) -> None:
    check_place(tmp_path / "made" / "my.index")
    assert not list((tmp_path / "made").iterdir())
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(VectorIndexError, match="is there already and is not an index"):
        check_place(tmp_path / "file.txt")


def test_an_ivf_index_of_few_clips_says_so_itself(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    vectors = unit(20)
    found = VectorIndex(vectors, "ivf").search(vectors, 1)[1]
    assert found[:, 0].tolist() == list(range(20))
    assert [record.message for record in caplog.records] == [
        "20 clips are too few to divide, so ivf compares with all of them, as --kind exact does"
    ]
    assert "WARNING" not in capfd.readouterr().err  # faiss's own


@pytest.mark.parametrize("kind", ["exact", "hnsw", "ivf"])
def test_what_is_loaded_finds_what_was_saved(kind: Kind, tmp_path: Path) -> None:
    index = clip_index(kind)
    index.save(tmp_path / "my.index")
    loaded = ClipIndex.load(tmp_path / "my.index")
    assert loaded.rows == index.rows and loaded.recall == index.recall
    for name in ("encoder", "fingerprint", "card", "kind", "hop"):
        assert getattr(loaded, name) == getattr(index, name), name
    for mine, theirs in zip(
        loaded.index.search(unit(5, seed=2), 4), index.index.search(unit(5, seed=2), 4), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["my.index"]
    clip_index("exact", 20).save(tmp_path / "my.index")  # replaces it
    assert len(ClipIndex.load(tmp_path / "my.index")) == 20
    assert not (tmp_path / "my.index" / VECTORS).exists() and len(list(tmp_path.iterdir())) == 1


def test_a_save_that_is_stopped_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_index(rows=20).save(tmp_path / "my.index")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        clip_index(rows=30).save(tmp_path / "my.index")
    assert len(ClipIndex.load(tmp_path / "my.index")) == 20 and len(list(tmp_path.iterdir())) == 1


def test_an_exact_search_needs_no_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    clip_index().save(tmp_path / "index")
    assert ClipIndex.load(tmp_path / "index").index.search(unit(1), 1)[1] == [[0]]
    with pytest.raises(VectorIndexError, match=r"needs faiss; install faiss-cpu, .* or take --kind exact"):
        check_place(tmp_path / "new", "hnsw")


def test_an_exact_search_of_many_queries_goes_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = unit(50), unit(9, seed=1)
    whole = VectorIndex(vectors).search(queries, 5)
    monkeypatch.setattr("kws_imagebind.embeddings.index.SCORES", 100)
    for mine, theirs in zip(VectorIndex(vectors).search(queries, 5), whole, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_bad_input_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VectorIndexError, match="unknown kind of index 'flat'; available: exact, hnsw, ivf"):
        VectorIndex(unit(5), "flat")  # type: ignore[arg-type]
    with pytest.raises(VectorIndexError, match="at least one"):
        VectorIndex(unit(5)[:0])
    with pytest.raises(VectorIndexError, match=r"6 nearest are asked for; expected 1 to 5"):
        VectorIndex(unit(5)).search(unit(1), 6)
    with pytest.raises(VectorIndexError, match=r"shape \(1, 8\); expected \(q, 24\)"):
        VectorIndex(unit(5)).search(unit(1, 8), 1)
    with pytest.raises(VectorIndexError, match="does not exist"):
        ClipIndex.load(tmp_path / "none")
    with pytest.raises(VectorIndexError, match=r"is not an index: it has no clips.parquet"):
        ClipIndex.load(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(VectorIndexError, match="is there already and is not an index"):
        clip_index().save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    clip_index("hnsw").save(tmp_path / "cut")
    file = tmp_path / "cut" / VECTORS
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(VectorIndexError, match="it is cut short, so build the index again"):
        ClipIndex.load(tmp_path / "cut")
    file.unlink()
    with pytest.raises(VectorIndexError, match="holds 0 of"):
        ClipIndex.load(tmp_path / "cut")
    clip_index().save(tmp_path / "short")
    file = tmp_path / "short" / CLIPS
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(TableError, match="is cut short"):
        ClipIndex.load(tmp_path / "short")
