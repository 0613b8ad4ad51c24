"""Three "words" that are tones of three pitches, by several made-up speakers: a corpus that is learnt in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

WORDS = {"low": 300.0, "middle": 900.0, "high": 2_400.0}
RATE = 16_000


def tone(hertz: float, seed: int, seconds: float = 0.6) -> np.ndarray:
    """A tone with a slightly wrong pitch, a random loudness and a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = random.uniform(0.05, 0.4) * np.sin(2 * np.pi * hertz * random.uniform(0.93, 1.07) * time)
    return (wave + random.normal(0, 0.004, len(time))).astype(np.float32)


def corpus(root: Path, speakers: int = 6, takes: int = 4, words: dict[str, float] = WORDS) -> Path:
    """A folder data set, word/SPEAKER_nohash_TAKE.wav."""
    seed = 0
    for word, hertz in words.items():
        (root / word).mkdir(parents=True)
        for speaker in range(speakers):
            for take in range(takes):
                seed += 1
                seconds = (0.3, 0.6, 1.0, 1.7)[take % 4]
                name = f"{speaker:08x}_nohash_{take}.wav"
                soundfile.write(root / word / name, tone(hertz, seed, seconds), RATE, subtype="PCM_16")
    return root
