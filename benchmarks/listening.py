"""What listening costs: processor time and memory for a stream of speech, for lists of words.

    python -m benchmarks.listening --minutes 20

The stream is the bundled sample's clips one after another with pauses, in blocks of a tenth of a second as a microphone
gives them, and in blocks of ten seconds as a file is read; one thread. Memory is the growth of the process's peak after
the first minute.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from kws_imagebind.audio.files import load_audio
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.spotting.stream import Listener
from kws_imagebind.text.fillers import FILLERS

SAMPLE = Path(__file__).parents[1] / "sample"
RATE = 16_000


def speech(seconds: float) -> Iterator[np.ndarray]:
    """Clips of a second and pauses of a third, until they last so long."""
    paths = sorted(SAMPLE.glob("*/*.wav"))
    clips = cycle([load_audio(path, RATE).numpy() for path in paths[:: max(1, len(paths) // 100)]])
    pause = np.random.default_rng(0).normal(0, 1e-3, RATE // 3).astype(np.float32)
    given = 0
    while given < seconds * RATE:
        part = np.concatenate([next(clips), pause])
        given += len(part)
        yield part


def blocks(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same sound in blocks of so many samples."""
    held = np.zeros(0, np.float32)
    for part in parts:
        held = np.concatenate([held, part])
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    yield held


def measure(encoder: PhoneBindEncoder, words: int, minutes: float, block: float) -> tuple[float, float, int]:
    """How many times as fast as it lasts a stream is heard, megabytes of growth after a minute, and hits."""
    listener, found = Listener(FILLERS[:words], encoder=encoder), 0
    early, started = 0, time.process_time()
    for part in blocks(speech(60 * minutes), round(block * RATE)):
        found += len(listener.hear(part))
        if not early and listener.seconds > 60:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found += len(listener.finish())
    spent = time.process_time() - started
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) / 1_000
    return 60 * minutes / spent, growth, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--words", default="1,10", help="how many words (default 1,10)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = PhoneBindEncoder.from_weights(device="cpu")
    for words in map(int, arguments.words.split(",")):
        for block in (10.0, 0.1):
            speed, growth, found = measure(encoder, words, arguments.minutes, block)
            print(
                f"{words} words, blocks of {block:g} s, {arguments.minutes:g} minutes: 1/{speed:.0f} of real time "
                f"(processor time), {growth:+.1f} MB after the first minute, {found} hits",
                flush=True,
            )


if __name__ == "__main__":
    main()
