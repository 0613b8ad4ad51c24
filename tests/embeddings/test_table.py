"""Embeddings as Parquet: others read the file as it is, nothing is lost on the way, and bad files get one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import kws_imagebind as kws
from kws_imagebind.datasets import load_dataset
from kws_imagebind.embeddings import table
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.embeddings.table import TableError
from tests.conftest import ToneEncoder

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def audio(tone_encoder: ToneEncoder, tones: Path) -> Embeddings:
    found = embed(tone_encoder, load_dataset("folder", root=tones, keywords="440,1000=2000,3000,5000"))
    contents = tuple(hashlib.sha256(u.path.read_bytes()).hexdigest() for u in found.utterances)
    return dataclasses.replace(found, contents=contents)


@pytest.fixture
def saved(audio: Embeddings, tmp_path: Path) -> Path:
    audio.save(tmp_path / "clips.parquet")
    return tmp_path / "clips.parquet"


def test_what_is_loaded_is_what_was_saved(audio: Embeddings, saved: Path) -> None:
    loaded = Embeddings.load(saved)
    assert torch.equal(loaded.features, audio.features) and torch.equal(loaded.targets, audio.targets)
    assert loaded.dataset == dataclasses.replace(audio.dataset, origin=None)
    for name in ("utterances", "encoder", "fingerprint", "precision", "padding", "contents", "card"):
        assert getattr(loaded, name) == getattr(audio, name), name


def test_crops_splits_and_skipped_clips_are_kept(audio: Embeddings, tmp_path: Path) -> None:
    from kws_imagebind.embeddings.embed import Skipped
    from kws_imagebind.encoders.cards import Card

    cropped = tuple(dataclasses.replace(u, crop=(0.25 * i, 1.0), speaker=None) for i, u in enumerate(audio.utterances))
    dataset = dataclasses.replace(audio.dataset, utterances=cropped, split="validation", note="a part", origin=None)
    changed = dataclasses.replace(
        audio,
        utterances=cropped,
        dataset=dataset,
        skipped=(Skipped("440/x.wav", "empty"),),
        contents=(),
        card=Card("tone", trained_on=("nothing",), parameters=3),
    )
    changed.save(tmp_path / "new" / "folder" / "cropped.parquet")
    loaded = Embeddings.load(tmp_path / "new" / "folder" / "cropped.parquet")
    for name in ("utterances", "dataset", "skipped", "contents", "card"):
        assert getattr(loaded, name) == getattr(changed, name), name


def test_an_evaluation_needs_no_audio(
    audio: Embeddings, saved: Path, tone_encoder: ToneEncoder, tones: Path, tmp_path: Path
) -> None:
    tones.rename(tmp_path / "gone")
    loaded = Embeddings.load(saved)
    scorer = kws.ZeroShotClassifier(tone_encoder, loaded.dataset.keywords)
    before, after = kws.evaluate(scorer(audio), audio), kws.evaluate(scorer(loaded), loaded)
    assert after.as_dict() == {**before.as_dict(), "cached": after.audio.cached, "seconds": 0, "clips_per_second": None}
    assert loaded.dataset.task == "custom" and loaded.dataset.labels == ("440", "1000", "3000", "5000")


def test_pandas_reads_it(audio: Embeddings, saved: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(saved)
    assert list(frame.columns) == list(table.COLUMNS) and len(frame) == 24
    np.testing.assert_array_equal(np.stack(frame["vector"]), audio.features.numpy())
    assert frame["label"].value_counts().to_dict() == {"440": 8, "1000": 8, "3000": 8}


def test_duckdb_reads_it(audio: Embeddings, saved: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    cosine = "list_cosine_similarity(a.vector::FLOAT[], b.vector::FLOAT[])"
    rows = duckdb.sql(
        f"SELECT a.key, b.key, {cosine} FROM '{saved}' a, '{saved}' b WHERE a.key < b.key ORDER BY 1, 2"
    ).fetchall()
    keys = [utterance.key for utterance in audio.utterances]
    first, second, found = rows[0]
    expected = float(audio.features[keys.index(first)] @ audio.features[keys.index(second)])
    assert len(rows) == 24 * 23 / 2 and found == pytest.approx(expected, abs=1e-5)


def test_hugging_face_datasets_reads_it(audio: Embeddings, saved: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    found = datasets.Dataset.from_parquet(str(saved), cache_dir=str(tmp_path / "cache")).with_format("numpy")
    np.testing.assert_array_equal(np.asarray(found["vector"][:]), audio.features.numpy())


def test_a_writer_that_is_stopped_leaves_the_old_table(
    audio: Embeddings, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parquet.ParquetWriter, "write_table", stopped)
    with pytest.raises(KeyboardInterrupt):
        audio.save(saved)
    assert saved.read_bytes() == before and [each.name for each in saved.parent.glob(".*")] == []


def test_bad_files_get_one_sentence(audio: Embeddings, saved: Path, tmp_path: Path) -> None:
    import pyarrow

    def refused(path: Path, reason: str) -> None:
        with pytest.raises(TableError, match=reason) as caught:
            Embeddings.load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    refused(tmp_path / "none.parquet", "No such file")
    (tmp_path / "text.parquet").write_text("path,label\n")
    refused(tmp_path / "text.parquet", "is not a Parquet file")
    (tmp_path / "cut.parquet").write_bytes(saved.read_bytes()[:-100])
    refused(tmp_path / "cut.parquet", "is cut short")
    data = bytearray(saved.read_bytes())
    data[-200:-100] = bytes(100)
    (tmp_path / "damaged.parquet").write_bytes(data)
    refused(tmp_path / "damaged.parquet", "cannot be read as Parquet")
    whole = parquet.read_table(saved)
    parquet.write_table(whole.drop_columns(["label", "vector"]), tmp_path / "columns.parquet")
    refused(tmp_path / "columns.parquet", "has no column label, vector")
    parquet.write_table(whole.replace_schema_metadata(None), tmp_path / "strange.parquet")
    refused(tmp_path / "strange.parquet", "does not say which encoder")
    parquet.write_table(whole.slice(0, 0), tmp_path / "empty.parquet")
    refused(tmp_path / "empty.parquet", "has no rows")
    longer = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(2 * audio.features.numpy().reshape(-1)), 200)
    place = whole.schema.get_field_index("vector")
    parquet.write_table(whole.set_column(place, "vector", longer), tmp_path / "long.parquet")
    refused(tmp_path / "long.parquet", r"has length 2 \(24 such rows\); expected 1")
    uneven = pyarrow.array([[1.0]] * 23 + [[0.6, 0.8]], pyarrow.list_(pyarrow.float32()))
    parquet.write_table(whole.set_column(place, "vector", uneven), tmp_path / "uneven.parquet")
    refused(tmp_path / "uneven.parquet", "one list of numbers of the same length")
    later = whole.replace_schema_metadata({table.METADATA: '{"format": 99}'})
    parquet.write_table(later, tmp_path / "later.parquet")
    refused(tmp_path / "later.parquet", "has format 99; this release reads 1")
    other = whole.replace_schema_metadata(
        {table.METADATA: whole.schema.metadata[table.METADATA].replace(b'"440"', b'"441"')}
    )
    parquet.write_table(other, tmp_path / "labels.parquet")
    refused(tmp_path / "labels.parquet", "labelled 440, which is not one of its keywords")


def test_what_is_a_table(saved: Path, tones: Path, tmp_path: Path) -> None:
    saved.rename(tmp_path / "clips")
    assert table.is_table(tmp_path / "clips") and table.is_table("other.parquet")
    assert not table.is_table(tones) and not table.is_table(tmp_path / "none")


def test_file_names_that_are_not_utf8_are_kept_as_escapes(audio: Embeddings, tmp_path: Path) -> None:
    strange = dataclasses.replace(audio.utterances[0], path=Path("b\udcffd.wav"))
    changed = dataclasses.replace(audio, utterances=(strange, *audio.utterances[1:]))
    changed.save(tmp_path / "clips.parquet")
    assert Embeddings.load(tmp_path / "clips.parquet").utterances[0].path == Path("b\\udcffd.wav")
