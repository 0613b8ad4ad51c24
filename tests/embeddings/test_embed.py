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
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from kws_imagebind.audio.files import decode, read_bytes
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets import load_dataset
from kws_imagebind.embeddings import embed as embedding
from kws_imagebind.embeddings import store
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.embeddings.store import FILE, CacheError, EmbeddingStore
from kws_imagebind.encoders import EncoderError, load_encoder
from kws_imagebind.evaluation.evaluate import evaluate
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
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


def test_a_file_replaced_while_others_are_encoded_keeps_no_wrong_vector(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path
) -> None:
    dataset, cache = load_dataset("folder", root=tones), tmp_path / "cache"
    expected = embed(tone_encoder, dataset).features
    plain = tone_encoder.encode_audio
    shutil.copytree(tones, tmp_path / "backup")

    def swap(waveforms: Sequence[Tensor]) -> Tensor:
        for utterance in dataset.utterances:  # every file becomes the first one of another word
            other = "1000" if utterance.label == "440" else "440"
            shutil.copy(sorted((tmp_path / "backup" / other).iterdir())[0], tmp_path / "new.wav")
            (tmp_path / "new.wav").replace(utterance.path)  # at once: the next clips are being read meanwhile
        return plain(waveforms)

    tone_encoder.encode_audio = swap  # type: ignore[method-assign]
    embed(tone_encoder, dataset, cache=cache, batch_size=1)
    tone_encoder.encode_audio = plain  # type: ignore[method-assign]
    for utterance in dataset.utterances:
        shutil.copy(tmp_path / "backup" / utterance.label / utterance.path.name, utterance.path)
    assert torch.equal(embed(tone_encoder, dataset, cache=cache).features, expected)


def test_a_file_changed_while_it_is_read_is_not_remembered(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tones / "440" / "speaker0_nohash_0.wav"
    content = path.read_bytes()
    monkeypatch.setattr(store, "_SETTLED", 0)
    with EmbeddingStore(tmp_path, "x", 4) as cache:
        data, status = read_bytes(path)
        assert data == content and status
        cache.remember([(path, status, sha256(data).digest())])
        assert cache.known([path]) == {path: sha256(content).digest()}
        path.write_bytes(content[::-1])
        assert cache.known([path]) == {}
    before = path.stat()
    plain = os.fstat
    calls = []

    def later(number: int) -> os.stat_result:
        calls.append(number)
        if len(calls) == 2:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        return plain(number)

    monkeypatch.setattr(os, "fstat", later)
    assert read_bytes(path)[1] is None


def test_a_file_changed_a_moment_ago_is_read_again(tones: Path, tmp_path: Path) -> None:
    # Its next change might come within the same tick of the file system's clock.
    path = tones / "440" / "speaker0_nohash_0.wav"
    os.utime(path)
    data, status = read_bytes(path)
    with EmbeddingStore(tmp_path, "x", 4) as cache:
        cache.remember([(path, status, sha256(data).digest())])  # type: ignore[list-item]
        assert cache.known([path]) == {}


def test_a_second_run_reads_no_audio(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SETTLED", 0)
    dataset = load_dataset("folder", root=tones)
    first = embed(tone_encoder, dataset, cache=tmp_path / "cache")
    monkeypatch.setattr(embedding, "read_bytes", None)
    again = embed(tone_encoder, dataset, cache=tmp_path / "cache")
    assert again.cached == 24 and torch.equal(first.features, again.features) and first.contents == again.contents


def test_contents_are_the_hashes_of_files_and_crops(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root=tones)
    whole = dataset.utterances[0]
    parts = [dataclasses.replace(whole, key=f"part{i}", crop=(0.1 * i, 0.2)) for i in range(3)]
    mixed = dataclasses.replace(dataset, utterances=(*dataset.utterances, *parts))
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        audio = embed(tone_encoder, mixed, cache=cache, batch_size=5)
        assert audio.contents[:24] == tuple(sha256(u.path.read_bytes()).hexdigest() for u in dataset.utterances)
        assert len(set(audio.contents)) == len(audio) == 27
    alone = embed(tone_encoder, dataclasses.replace(dataset, utterances=(parts[2],))).features
    torch.testing.assert_close(audio.features[26], alone[0])


def test_a_file_of_many_crops_is_read_once(
    tone_encoder: ToneEncoder, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, read = load_dataset("folder", root=tones), []
    crops = [dataclasses.replace(dataset.utterances[0], key=str(i), crop=(0.01 * i, 0.1)) for i in range(20)]
    monkeypatch.setattr(embedding, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    embed(tone_encoder, dataclasses.replace(dataset, utterances=tuple(crops)), batch_size=6)
    assert len(read) == 1


def test_only_a_few_waveforms_are_in_memory_at_a_time(
    tone_encoder: ToneEncoder, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = [0]

    def decoded(*arguments: object) -> Tensor:
        waveform = decode(*arguments)  # type: ignore[arg-type]
        alive.add(waveform)
        most[0] = max(most[0], len(alive))
        return waveform

    monkeypatch.setattr(embedding, "decode", decoded)
    embed(tone_encoder, load_dataset("folder", root=tones), batch_size=2)
    assert 2 <= most[0] <= 8


def test_a_damaged_cache_is_moved_aside_and_begun_again(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, wrecked = load_dataset("folder", root=tones), b"this is no database" * 100
    (tmp_path / FILE).write_bytes(wrecked)
    assert len(embed(tone_encoder, dataset, cache=tmp_path)) == 24
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == wrecked
    assert len(caplog.messages) == 1 and "begun again" in caplog.messages[0] and str(tmp_path) in caplog.messages[0]
    assert embed(tone_encoder, dataset, cache=tmp_path).cached == 24


def test_a_cache_damaged_inside_is_found_out_in_use(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = load_dataset("folder", root=tones)
    expected = embed(tone_encoder, dataset, cache=tmp_path).features
    data = bytearray((tmp_path / FILE).read_bytes())
    data[4096:] = bytes(range(256)) * ((len(data) - 4096) // 256)  # all but the page that describes the tables
    (tmp_path / FILE).write_bytes(data)
    again = embed(tone_encoder, dataset, cache=tmp_path)
    assert again.cached == 0 and torch.equal(again.features, expected) and len(caplog.messages) == 1
    assert embed(tone_encoder, dataset, cache=tmp_path).cached == 24


def test_a_healthy_cache_that_another_holds_is_never_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PATIENCE", 0.1)
    with EmbeddingStore(tmp_path, "x", 2) as cache:
        cache.put([b"a"], torch.tensor([[0.6, 0.8]]))
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheError, match="locked"), EmbeddingStore(tmp_path, "x", 2):
            pass
    # A process that saw the damage late finds that it was repaired meanwhile.
    with EmbeddingStore(tmp_path, "x", 2) as cache:
        cache._database = cache._begin_again()
        assert list(cache.get([b"a"])) == [b"a"]
    assert not (tmp_path / f"{FILE}.damaged").exists()


@pytest.mark.parametrize("spoilt", [b"short", np.full(200, np.nan, "<f4").tobytes(), np.ones(200, "<f4").tobytes()])
def test_a_damaged_vector_is_encoded_again(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoilt: bytes
) -> None:
    dataset = load_dataset("folder", root=tones)
    expected = embed(tone_encoder, dataset, cache=tmp_path).features
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute(
            "UPDATE embedding SET vector = ? WHERE content IN (SELECT content FROM embedding LIMIT 2)", [spoilt]
        )
    again = embed(tone_encoder, dataset, cache=tmp_path)
    assert again.encoded == 2 and torch.equal(again.features, expected)
    assert caplog.messages == [f"{tmp_path / FILE} holds damaged vectors; their recordings are encoded again"]


def test_a_cache_whose_folder_cannot_be_made_says_why(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="file' is a file, and a folder is expected"):
        embed(tone_encoder, load_dataset("folder", root=tones), cache=tmp_path / "file" / "cache")


def test_the_cache_goes_by_what_audio_vectors_depend_on(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root=tones)
    tone_encoder.audio_fingerprint = "sound-1"  # type: ignore[attr-defined]
    embed(tone_encoder, dataset, cache=tmp_path)
    tone_encoder.fingerprint = "tone-with-another-lexicon"
    again = embed(tone_encoder, dataset, cache=tmp_path)
    assert again.cached == 24 and again.fingerprint == "tone-with-another-lexicon"
    tone_encoder.audio_fingerprint = "sound-2"  # type: ignore[attr-defined]
    assert embed(tone_encoder, dataset, cache=tmp_path).cached == 0


def test_digital_silence_is_encoded_and_listed_unless_its_label_is_silence(tmp_path: Path) -> None:
    for name, samples in (("yes/a", np.zeros(16_000)), ("yes/b", np.full(9_000, 0.2)), ("silence/c", np.zeros(16_000)),
                          ("no/d", np.random.default_rng(0).normal(0, 0.1, 16_000))):  # fmt: skip
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "set" / f"{name}.wav", samples, 16_000)
    encoder, dataset = load_encoder("phonebind", device="cpu"), load_dataset("folder", root=tmp_path / "set")
    for _ in range(2):  # a cache does not hide it
        audio = embed(encoder, dataset, cache=tmp_path / "cache")
        assert len(audio) == 4 and audio.silent == ("yes/a.wav", "yes/b.wav")
    result = evaluate(ZeroShotClassifier(encoder, dataset.keywords)(audio), audio)
    assert result.n == 4 and any("2 of 4 clips hold only silence" in warning for warning in result.warnings)


def test_what_is_not_an_encoder_is_named_before_any_audio_is_read(tones: Path) -> None:
    with pytest.raises(EncoderError, match="object is not an encoder: it has no attribute 'name'"):
        embed(object(), load_dataset("folder", root=tones))  # type: ignore[arg-type]


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    with EmbeddingStore(tmp_path, "x", 4) as cache:
        with pytest.raises(CacheError, match="NOT NULL"):
            cache.put([b"a", None], torch.eye(4)[:2])  # type: ignore[list-item]
        assert cache.get([b"a"]) == {}


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


def test_progress_is_given_to_those_who_ask(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    dataset, told = load_dataset("folder", root=tones), []
    embed(tone_encoder, dataset, cache=tmp_path, batch_size=10, progress=lambda *counts: told.append(counts))
    assert told == [(0, 24), (10, 24), (20, 24), (24, 24)]
    again: list[tuple[int, int]] = []
    embed(tone_encoder, dataset, cache=tmp_path, progress=lambda *counts: again.append(counts))
    assert again == [(0, 24), (24, 24)]  # all of it from the cache
