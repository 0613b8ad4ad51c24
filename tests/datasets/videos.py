"""Tiny videos for tests, written by PyAV: moving shapes, each kind with its own tone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

RATE, FPS, SIDE = 16_000, 25, 48
KINDS = {"square": 300.0, "cross": 900.0, "stripes": 2_700.0}  # shape -> hertz


def frame(kind: str, step: int, random: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8 of a shape that moves."""
    picture = np.full((SIDE, SIDE, 3), 40, np.uint8)
    x, y = 4 + (step + int(random.integers(8))) % 20, 4 + int(random.integers(20))
    if kind == "square":
        picture[y : y + 18, x : x + 18] = 220
    elif kind == "cross":
        picture[y + 8 : y + 11, x : x + 20] = 220
        picture[y : y + 20, x + 8 : x + 11] = 220
    elif kind == "stripes":
        picture[:, (np.arange(SIDE) + x) % 8 < 4] = 220
    else:  # black
        picture[:] = 0
    return picture


def write(path: Path, kind: str, seconds: float, seed: int = 0, silent: bool = False, sound: bool = True) -> Path:
    """A video of a shape and its tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=FPS)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        audio = file.add_stream("pcm_s16le", rate=RATE, layout="mono") if sound else None
        for step in range(round(seconds * FPS)):
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame(kind, step, random), format="rgb24")))
        file.mux(video.encode(None))
        if audio is not None:
            times = np.arange(round(seconds * RATE)) / RATE
            tone = 0 if silent else 0.3 * np.sin(2 * np.pi * KINDS.get(kind, 500.0) * times + random.uniform(0, 6))
            samples = (32_767 * (tone + np.zeros(len(times)))).astype(np.int16)
            part = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            part.sample_rate = RATE
            file.mux(audio.encode(part))
            file.mux(audio.encode(None))
    return path
