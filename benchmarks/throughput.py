"""How fast PhoneBind hears, and how fast new words are scored once it has heard.

    python -m benchmarks.throughput

Both figures are end to end. The first decodes and encodes WAV files of one second, without a cache. The second has the
embeddings of as many clips as the official v0.02 test split in the cache already, and answers for words never asked
before: it looks every file up, reads its vector, encodes the prompts, scores and evaluates. Machines differ and are
shared, so each figure is the median of several runs, with the range beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import soundfile
import torch

import kws_imagebind as kws
from kws_imagebind.embeddings.store import EmbeddingStore
from kws_imagebind.encoders.base import audio_fingerprint

TEST_SPLIT = 11_005  # clips
ENCODERS = ("phonebind", "phonebind-large")
WORDS = ("lamp", "kettle", "window", "garden", "pillow", "river", "candle", "monkey", "rocket", "yellow")


def noise_clips(folder: Path, count: int, seconds: float) -> None:
    """A folder data set of noise, its words being those of `WORDS`."""
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / WORDS[index % len(WORDS)] / f"speaker{index % 97}_nohash_{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, round(16_000 * seconds)), 16_000)


def timed(run: Callable[[], object], times: int) -> list[float]:
    """Seconds of each run, after one that does not count."""
    run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def seconds_of(encoder: kws.Encoder, dataset: kws.Dataset) -> float:
    start = time.perf_counter()
    kws.embed(encoder, dataset)
    return time.perf_counter() - start


def hearing(clips: int, times: int) -> None:
    """Both sizes in turns, so that what else the machine does falls on both."""
    encoders = [kws.load_encoder(name, device="cpu") for name in ENCODERS]
    with tempfile.TemporaryDirectory() as folder:
        noise_clips(Path(folder), clips, seconds=1.0)
        dataset = kws.load_dataset("folder", root=folder)
        turns = [[seconds_of(encoder, dataset) for encoder in encoders] for _ in range(times + 1)][1:]
    for encoder, taken in zip(encoders, zip(*turns, strict=True), strict=True):
        rates = [clips / seconds for seconds in taken]
        print(
            f"{encoder.name}, files to embeddings: {statistics.median(rates):.0f} clips/s "
            f"(range {min(rates):.0f}-{max(rates):.0f} of {times} runs, n = {clips}, {torch.get_num_threads()} threads)"
        )
    ratios = [large / default for default, large in turns]
    print(
        f"{ENCODERS[1]} takes {statistics.median(ratios):.2f} times as long as {ENCODERS[0]} "
        f"(range {min(ratios):.2f}-{max(ratios):.2f} of {times} turns)"
    )


def rescoring(times: int) -> None:
    encoder = kws.load_encoder("phonebind", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "clips", Path(folder) / "cache"
        noise_clips(root, TEST_SPLIT, seconds=0.1)
        dataset = kws.load_dataset("folder", root=root)
        vectors = torch.nn.functional.normalize(torch.randn(TEST_SPLIT, encoder.dim), dim=1)
        with EmbeddingStore(cache, audio_fingerprint(encoder), encoder.dim) as store:
            store.put([sha256(utterance.path.read_bytes()).digest() for utterance in dataset.utterances], vectors)

        def score() -> None:
            audio = kws.embed(encoder, dataset, cache=cache)
            assert audio.cached == TEST_SPLIT
            kws.evaluate(kws.ZeroShotClassifier(encoder, dataset.keywords)(audio), audio)

        seconds = timed(score, times)
    print(
        f"new words against {TEST_SPLIT:,} cached embeddings: {statistics.median(seconds):.2f} s "
        f"(range {min(seconds):.2f}-{max(seconds):.2f} of {times} runs)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    hearing(arguments.clips, arguments.times)
    rescoring(arguments.times)


if __name__ == "__main__":
    main()
