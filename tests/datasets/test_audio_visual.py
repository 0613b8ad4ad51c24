"""Folders of videos that PyAV writes here: moments on one grid, what cannot be used, AudioSet's labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="videos need PyAV")

from kws_imagebind.datasets.audio_visual import (
    GRID,
    INSTRUMENTS_AND_TOOLS,
    AudioVisualFolder,
    MomentConfig,
    Ontology,
    class_counts,
    labels_of,
    moments_of,
    read_segments,
)
from kws_imagebind.datasets.base import DatasetError

from .videos import FPS, KINDS, RATE, write

CONFIG = MomentConfig((24, 24), RATE, 1.0, moments=4)


def test_moments_are_frames_and_the_second_of_sound_around_them(tmp_path: Path) -> None:
    found = moments_of(write(tmp_path / "a.mkv", "square", 2.0), CONFIG)
    assert found.frames.shape == (4, 24, 24, 3) and found.sounds.shape == (4, RATE)
    on_grid = found.times / GRID
    assert np.abs(on_grid - on_grid.round()).max() < 1e-9
    assert found.times.min() >= 0.5 and found.times.max() <= 1.5
    for sound in found.sounds:
        spectrum = np.abs(np.fft.rfft(sound.astype(float)))
        assert int(spectrum.argmax()) == pytest.approx(KINDS["square"], abs=2)  # a bin is 1 Hz


def test_the_frame_is_the_one_that_is_shown_then(tmp_path: Path) -> None:
    """A bar moves by a pixel a frame, so a frame says when it was shown."""
    import av

    path = tmp_path / "bar.mkv"
    with av.open(str(path), "w") as file:
        video = file.add_stream("ffv1", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        audio = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for step in range(50):
            picture = np.zeros((32, 64, 3), np.uint8)
            picture[:, step : step + 6] = 255
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))
        noise = np.random.default_rng(0).integers(-9_000, 9_000, (1, 2 * RATE)).astype(np.int16)
        part = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        part.sample_rate = RATE
        file.mux(audio.encode(part))
        file.mux(audio.encode(None))
    found = moments_of(path, MomentConfig((32, 64), RATE, 1.0, moments=5))
    for time, frame, sound in zip(found.times, found.frames, found.sounds, strict=True):
        first = int((frame.mean((0, 2)) > 128).argmax())
        assert first == pytest.approx(round(time * FPS), abs=1)
        start = round((time - 0.5) * RATE)
        assert np.abs(sound.astype(int) - noise[0, start : start + RATE]).max() <= 1


def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write(root / "good" / "a.mkv", "square", 2.0)
    write(root / "short.mkv", "square", 0.6)
    write(root / "silent.mkv", "square", 1.6, silent=True)
    write(root / "black.mkv", "black", 1.6)
    write(root / "no_sound.mkv", "square", 1.6, sound=False)
    (root / "broken.mp4").write_bytes(b"this is no video" * 100)
    cut = write(root / "cut.mkv", "square", 2.0)
    cut.write_bytes(cut.read_bytes()[:40])
    shards = AudioVisualFolder(root, CONFIG).decoded(tmp_path / "cache")
    assert shards.names == ("good/a.mkv",)
    assert shards.left_out == {"short": 1, "silent": 1, "black": 1, "no sound": 1, "broken": 2}
    assert shards.note == "1 videos; 6 left out: 2 broken, 1 no sound, 1 short, 1 silent, 1 black"
    assert len(shards.frames) == len(shards.sounds) == len(shards.times) == shards.first[-1]


def test_videos_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "videos"
    write(root / "a.mkv", "cross", 1.6)
    first = AudioVisualFolder(root, CONFIG).decoded(tmp_path / "cache")
    monkeypatch.setattr(AudioVisualFolder, "_attempt", lambda *_: pytest.fail("decoded again"))
    second = AudioVisualFolder(root, CONFIG).decoded(tmp_path / "cache")
    assert second.names == first.names and (second.frames == first.frames).all()


def test_folders_without_videos_say_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        AudioVisualFolder(tmp_path / "none")
    with pytest.raises(DatasetError, match="holds no videos"):
        AudioVisualFolder(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"no video .* can be used: 1 broken"):
        AudioVisualFolder(tmp_path, CONFIG).decoded(tmp_path / "cache")


SEGMENTS = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=3, num_segs=3, num_unique_labels=4, num_positive_labels=5
# YTID, start_seconds, end_seconds, positive_labels
--aaa, 30.000, 40.000, "/m/0342h,/m/speech"
-bbb, 0.000, 10.000, "/m/speech"
ccc, 21.000, 31.000, "/m/05r5c"
"""


def test_segment_lists(tmp_path: Path) -> None:
    path = tmp_path / "segments.csv"
    path.write_text(SEGMENTS)
    every = read_segments(path)
    assert [each.video for each in every] == ["--aaa", "-bbb", "ccc"] and every[0].labels == ("/m/0342h", "/m/speech")
    assert (every[2].start, every[2].end) == (21.0, 31.0)
    subset = read_segments(path, INSTRUMENTS_AND_TOOLS)
    assert [each.labels for each in subset] == [("/m/0342h",), ("/m/05r5c",)]
    names = ("x/--aaa.mp4", "ccc_21.000.webm", "other.mp4")
    assert labels_of(names, every) == (("/m/0342h", "/m/speech"), ("/m/05r5c",), ())
    assert class_counts([each.labels for each in every]).most_common(1) == [("/m/speech", 2)]
    path.write_text("a,b\n")
    with pytest.raises(DatasetError, match=r"line 1 of .* is not a segment"):
        read_segments(path)
    path.write_text(SEGMENTS)
    with pytest.raises(DatasetError, match="holds no segment"):
        read_segments(path, ["/m/none"])


def test_the_subset_has_fifty_classes() -> None:
    assert len(set(INSTRUMENTS_AND_TOOLS)) == 50


TREE = [
    {"id": "music", "name": "Music", "child_ids": ["guitar", "drum"]},
    {"id": "guitar", "name": "Guitar", "child_ids": ["bass"]},
    {"id": "bass", "name": "Bass guitar", "child_ids": []},
    {"id": "drum", "name": "Drum", "child_ids": []},
    {"id": "tools", "name": "Tools", "child_ids": ["saw"]},
    {"id": "saw", "name": "Saw", "child_ids": []},
]


def test_relevance_by_distance_in_the_tree(tmp_path: Path) -> None:
    """bass-guitar-music-(root)-tools-saw: 5 edges, the farthest."""
    path = tmp_path / "ontology.json"
    path.write_text(json.dumps(TREE))
    found = Ontology.read(path).relevance([["bass"], ["guitar"], ["drum"], ["saw"], ["saw", "drum"], []])
    assert found[0].tolist() == pytest.approx([1, 1 - 1 / 5, 1 - 3 / 5, 0, 1 - 3 / 5, 0])
    assert np.allclose(found, found.T) and not found[5].any()
    with pytest.raises(DatasetError, match="violin"):
        Ontology.read(path).relevance([["violin"]])
    path.write_text("[{}]")
    with pytest.raises(DatasetError, match="lacks 'id'"):
        Ontology.read(path)
