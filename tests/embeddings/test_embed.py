"""Embedding and its cache: nothing but speed depends on batches, order, caching or being killed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets import load_dataset
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.embeddings.store import FILE, CacheError, EmbeddingStore
from kws_imagebind.encoders import EncoderError, load_encoder
from tests.conftest import ToneEncoder


def test_features_are_the_encoders_in_the_data_sets_order(tone_encoder: ToneEncoder, tones: Path) -> None:
    dataset = load_dataset("folder", root=tones)
    audio = embed(tone_encoder, dataset)
    assert audio.features.shape == (24, tone_encoder.dim)
    torch.testing.assert_close(audio.features.norm(dim=1), torch.ones(24))
    loudest = audio.features.argmax(1) * 40
    assert [str(int(hertz)) for hertz in loudest] == [utterance.label for utterance in audio.utterances]
    assert [dataset.keywords[target] for target in audio.targets] == [u.label for u in audio.utterances]


@pytest.mark.parametrize("batch_size", [1, 5, 24, 1_000])
def test_batch_size_changes_nothing(tones: Path, batch_size: int) -> None:
    encoder, dataset = load_encoder("phonebind", device="cpu"), load_dataset("folder", root=tones)
    torch.testing.assert_close(
        embed(encoder, dataset, batch_size=batch_size).features,
        embed(encoder, dataset, batch_size=7).features,
        atol=1e-5,
        rtol=0,
    )


def test_clip_order_changes_nothing(tones: Path) -> None:
    encoder, dataset = load_encoder("phonebind", device="cpu"), load_dataset("folder", root=tones)
    backwards = dataclasses.replace(dataset, utterances=dataset.utterances[::-1])
    features = embed(encoder, backwards).features.flip(0)
    torch.testing.assert_close(features, embed(encoder, dataset).features, atol=1e-5, rtol=0)


def test_a_cache_hit_equals_a_miss_and_encodes_nothing(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root=tones)
    fresh = embed(tone_encoder, dataset)
    first = embed(tone_encoder, dataset, cache=tmp_path / "cache")
    heard = sum(tone_encoder.heard)
    second = embed(tone_encoder, dataset, cache=tmp_path / "cache")
    assert sum(tone_encoder.heard) == heard
    assert (first.cached, second.cached) == (0, 24)
    assert torch.equal(fresh.features, first.features) and torch.equal(first.features, second.features)


def test_the_cache_goes_by_content_and_encoder_not_by_name(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, write_tone: Callable[..., Path]
) -> None:
    cache = tmp_path / "cache"
    embed(tone_encoder, load_dataset("folder", root=tones), cache=cache)
    moved = tmp_path / "moved"
    shutil.copytree(tones, moved)
    assert embed(tone_encoder, load_dataset("folder", root=moved), cache=cache).cached == 24
    changed = write_tone(moved / "440" / "speaker0_nohash_0.wav", hertz=7_000)
    again = embed(tone_encoder, load_dataset("folder", root=moved), cache=cache)
    assert again.cached == 23
    position = [utterance.path for utterance in again.utterances].index(changed)
    assert int(again.features[position].argmax()) * 40 == 7_000
    tone_encoder.fingerprint = "tone-2"
    assert embed(tone_encoder, load_dataset("folder", root=moved), cache=cache).cached == 0


def test_a_file_changed_within_the_same_size_and_mtime_is_noticed(
    tone_encoder: ToneEncoder, tmp_path: Path, write_tone: Callable[..., Path]
) -> None:
    for word in ("440", "1000"):
        write_tone(tmp_path / "set" / word / "a.wav", hertz=float(word))
    path = tmp_path / "set" / "440" / "a.wav"
    stat = path.stat()
    embed(tone_encoder, load_dataset("folder", root=tmp_path / "set"), cache=tmp_path / "cache")
    write_tone(path, hertz=3_000)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert embed(tone_encoder, load_dataset("folder", root=tmp_path / "set"), cache=tmp_path / "cache").cached == 1


def test_copies_of_a_clip_are_encoded_once(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    for number in range(10):
        shutil.copy(tones / "440" / "speaker0_nohash_0.wav", tones / "440" / f"copy{number}_nohash_0.wav")
    audio = embed(tone_encoder, load_dataset("folder", root=tones), cache=tmp_path / "cache")
    assert len(audio) == 34 and sum(tone_encoder.heard) == audio.encoded == 24


def test_a_bad_clip_is_raised_or_listed(tone_encoder: ToneEncoder, tones: Path) -> None:
    (tones / "440" / "bad_nohash_0.wav").write_bytes(b"no sound")
    (tones / "1000" / "empty_nohash_0.wav").write_bytes(b"")
    dataset = load_dataset("folder", root=tones)
    with pytest.raises(AudioError, match=r"(bad|empty)_nohash_0.wav"):
        embed(tone_encoder, dataset)
    audio = embed(tone_encoder, dataset, on_error="skip")
    assert len(audio) == len(audio.targets) == len(audio.features) == 24
    assert sorted(skip.key for skip in audio.skipped) == ["1000/empty_nohash_0.wav", "440/bad_nohash_0.wav"]
    assert all(skip.reason for skip in audio.skipped)


def test_a_data_set_of_bad_clips_alone_is_refused(tone_encoder: ToneEncoder, tmp_path: Path) -> None:
    for word in ("440", "1000"):
        (tmp_path / word).mkdir()
        (tmp_path / word / "a.wav").write_bytes(b"")
    with pytest.raises(AudioError, match="none of the 2 recordings can be used"):
        embed(tone_encoder, load_dataset("folder", root=tmp_path), on_error="skip")


def test_a_clip_that_vanishes_between_listing_and_reading_is_named(tone_encoder: ToneEncoder, tones: Path) -> None:
    dataset = load_dataset("folder", root=tones)
    (tones / "440" / "speaker0_nohash_0.wav").unlink()
    with pytest.raises(AudioError, match=r"speaker0_nohash_0\.wav: there is no such file"):
        embed(tone_encoder, dataset, cache=tones / "cache")


def test_a_damaged_cache_says_what_to_do(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(CacheError, match="remove it"):
        embed(tone_encoder, load_dataset("folder", root=tones), cache=tmp_path)


def test_a_cache_of_vectors_of_another_length_is_refused(tmp_path: Path) -> None:
    with EmbeddingStore(tmp_path, "x", 4) as store:
        store.put([b"a"], torch.ones(1, 4))
    with EmbeddingStore(tmp_path, "x", 5) as store, pytest.raises(CacheError, match="damaged"):
        store.get([b"a"])


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    with EmbeddingStore(tmp_path, "x", 4) as store:
        with pytest.raises(CacheError, match="NOT NULL"):
            store.put([b"a", None], torch.ones(2, 4))  # type: ignore[list-item]
        assert store.get([b"a"]) == {}


def test_an_encoder_that_breaks_the_protocol_is_named_before_anything_is_kept(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path
) -> None:
    dataset, plain = load_dataset("folder", root=tones), tone_encoder.encode_audio
    for broken, reason in (
        (lambda waveforms: plain(waveforms) * float("nan"), "unit norm"),
        (lambda waveforms: plain(waveforms) * 2, "unit norm"),
        (lambda waveforms: plain(waveforms)[:, :5], r"expected \(24, 200\)"),
    ):
        tone_encoder.encode_audio = broken  # type: ignore[method-assign]
        with pytest.raises(EncoderError, match=reason):
            embed(tone_encoder, dataset, cache=tmp_path / "cache")
    tone_encoder.encode_audio = plain  # type: ignore[method-assign]
    assert embed(tone_encoder, dataset, cache=tmp_path / "cache").cached == 0


def test_a_file_name_that_is_no_utf8_is_a_file_name(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, write_tone: Callable[..., Path]
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tones / "440") + b"/\xff_nohash_0.wav"))
    (tones / "440" / "speaker0_nohash_0.wav").rename(odd)
    dataset = load_dataset("folder", root=tones)
    assert len(embed(tone_encoder, dataset, cache=tmp_path / "cache")) == 24
    assert embed(tone_encoder, dataset, cache=tmp_path / "cache").cached == 24
    assert len(embed(tone_encoder, dataset)) == 24


def test_two_processes_share_a_cache(tones: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tones), str(tmp_path / "cache")]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0] and _stored(tmp_path / "cache") == 24


RUN = """
import sys, time
from kws_imagebind.datasets import load_dataset
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.encoders import EncoderError, load_encoder
encoder = load_encoder("phonebind", device="cpu")
plain = encoder.encode_audio
def slow(waveforms):
    time.sleep(0.05)
    return plain(waveforms)
encoder.encode_audio = slow
embed(encoder, load_dataset("folder", root=sys.argv[1]), cache=sys.argv[2], batch_size=2)
"""


def test_a_killed_run_keeps_its_batches_and_goes_on_to_the_same_numbers(tones: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tones), str(cache)])
    deadline = time.monotonic() + 120
    while _stored(cache) < 6 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = _stored(cache)
    assert 6 <= kept < 24 and kept % 2 == 0
    encoder, dataset = load_encoder("phonebind", device="cpu"), load_dataset("folder", root=tones)
    resumed = embed(encoder, dataset, cache=cache, batch_size=2)
    assert resumed.cached == kept
    assert torch.equal(resumed.features, embed(encoder, dataset, batch_size=2).features)


def _stored(cache: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{cache / FILE}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM embedding").fetchone()[0]
    except sqlite3.Error:
        return 0


def test_progress_is_told_to_whoever_asks(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    dataset, told = load_dataset("folder", root=tones), []
    embed(tone_encoder, dataset, cache=tmp_path, batch_size=10, progress=lambda *counts: told.append(counts))
    assert told == [(0, 24), (10, 24), (20, 24), (24, 24)]
    again: list[tuple[int, int]] = []
    embed(tone_encoder, dataset, cache=tmp_path, progress=lambda *counts: again.append(counts))
    assert again == [(24, 24)]  # all of it from the cache
