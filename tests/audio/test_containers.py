"""Files and text are known by how they begin, and samples are never taken for either."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws_imagebind.audio.containers import ENOUGH, container

RATE = 16_000


@pytest.mark.parametrize(
    ("kind", "subtype", "name"),
    [
        ("WAV", "PCM_16", "a WAV file"),
        ("RF64", "PCM_16", "a WAV file"),
        ("OGG", "VORBIS", "an Ogg file"),
        ("OGG", "OPUS", "an Ogg file"),
        ("FLAC", "PCM_16", "a FLAC file"),
        ("AIFF", "PCM_16", "an AIFF file"),
        ("CAF", "PCM_16", "a CAF file"),
        ("AU", "PCM_16", "an AU file"),
        ("MP3", "MPEG_LAYER_III", "an MP3 file"),
    ],
)
def test_what_libsndfile_writes_is_known(kind: str, subtype: str, name: str) -> None:
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile does not write {kind}")
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 2 * RATE), RATE, subtype, format=kind)
    assert container(file.getvalue()[:ENOUGH]) == name


def test_an_mp3_is_known_with_a_tag_and_at_any_rate() -> None:
    if "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile does not write MP3")
    for rate in (8_000, 16_000, 22_050, 44_100, 48_000):  # MPEG 2.5, 2, 2, 1, 1
        for channels in (1, 2):
            file = io.BytesIO()
            sound = np.random.default_rng(0).normal(0, 0.1, (rate, channels))
            soundfile.write(file, sound, rate, "MPEG_LAYER_III", format="MP3")
            data = file.getvalue()
            assert container(data[:ENOUGH]) == container((b"ID3\4\0\0\0\0\2\1" + data)[:ENOUGH]) == "an MP3 file"
            assert container(data[1 : ENOUGH + 1]) is None  # which begins with no frame


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0", "an MP4 file"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", "a WebM or Matroska file"),
        (b"yes,no,up\nstop,go\n" * 9, "text"),
        ("Grüße, ça va? 你好\r\n".encode() * 300, "text"),
        (b"<!doctype html>\n<title>404</title>", "text"),
    ],
)
def test_other_files_and_text_are_known(data: bytes, name: str) -> None:
    assert container(data[:ENOUGH]) == name


def test_text_is_known_where_a_letter_is_cut() -> None:
    text = "ü".encode() * 5_000 + b"abc"
    assert {container(b"abc" + text[:length]) for length in (ENOUGH - 3, ENOUGH - 4)} == {"text"}


def _samples() -> dict[str, np.ndarray]:
    rng, time = np.random.default_rng(0), np.arange(ENOUGH // 2) / RATE
    found = {
        "digital silence": np.zeros_like(time),
        "the last bit": rng.integers(-1, 2, len(time)),
        "hiss": rng.normal(0, 30, len(time)),
        "loud noise": rng.integers(-32_768, 32_768, len(time)),
        "full scale, clipped": np.clip(rng.normal(0, 1e6, len(time)), -32_768, 32_767),
    }
    for gain in (1, 3, 1_025, 8_000, 32_767):
        for hertz in (50, 441, 1_000, 8_000):
            found[f"{hertz} Hz at {gain}"] = gain * np.sin(2 * np.pi * hertz * time + 1.5)
    for constant in (-1, 1, -1_025, 0x2020, 0x4141, 0x0A41, -0x0500):  # -1,025 is a sync word of MP3, 0x4141 is "AA"
        found[f"always {constant}"] = np.full_like(time, constant)
    return found


@pytest.mark.parametrize("name", _samples())
def test_samples_are_neither(name: str) -> None:
    data = np.round(_samples()[name]).astype("<i2").tobytes()
    assert {container(data[start : start + length]) for start in (0, 2) for length in (64, 1_000, ENOUGH)} == {None}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 40, 1_100, 30_000]), st.integers(32, ENOUGH // 2))
def test_random_samples_are_neither(seed: int, loudest: int, count: int) -> None:
    data = np.random.default_rng(seed).integers(-loudest, loudest + 1, count).astype("<i2").tobytes()
    assert container(data) is None


def test_a_single_header_of_mp3_is_not_enough() -> None:
    header = b"\xff\xfb\x90\x64"  # 128 kbit/s at 44.1 kHz: 417 bytes
    frame = header + bytes(413)
    assert container(frame + bytes(3_000)) is None and container(2 * frame + bytes(3_000)) is None
    assert container(3 * frame) == "an MP3 file"
