"""What a table of embeddings takes as the clips become more: seconds and memory of `kws-imagebind embed`.

    python -m benchmarks.scale --data ../shared/data
    python -m benchmarks.scale --data ../shared/data --encoder phonebind --clips 1000,10000
    python -m benchmarks.scale --data ../shared/data --encoder phonebind --clips 10000 --engine ray --workers 2

The clips are symbolic links to the real clips of Speech Commands. By default the encoder is a cheap one of this file
(the spectrum of a clip, 192 numbers), so that reading, decoding, writing and joining are what is measured; PhoneBind
takes some hundred clips a second of a core besides. Each size is a process of its own, and its memory is its own peak
(VmHWM). Of Ray both are those of the process that was started, without its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.memory import PROBE

SIZES = (1_000, 10_000, 100_000)
WORDS = 35  # folders
LIMIT = 3600  # s until a run is given up


class Spectrum:
    """A cheap encoder: the magnitudes of the lowest 192 bands of a clip's spectrum, unit norm."""

    name, sample_rate, dim, fingerprint, default_template = "spectrum", 16_000, 192, "spectrum-1", "{}"

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        padded = torch.stack([F.pad(waveform, (0, 4096))[:4096] for waveform in waveforms])
        return F.normalize(torch.fft.rfft(padded).abs()[:, : self.dim] + 1e-6, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError("there is nothing to read")


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Attributes:
        clips: encoded.
        seconds: from start to end, imports included.
        processor: seconds of all its threads; other work on the machine does not change them much.
        megabytes: peak of the process.
        table: bytes of the table.
    """

    clips: int
    seconds: float
    processor: float
    megabytes: float
    table: int


def corpus(data: Path) -> list[Path]:
    return sorted((data / "SpeechCommands" / "speech_commands_v0.02").glob("[a-z]*/*.wav"))


def link(clips: Sequence[Path], count: int, root: Path) -> None:
    """So many links to the clips, in as many folders as there are words, each with its speaker in its name."""
    found: Iterator[Path] = islice(cycle(clips), count)
    for word in range(WORDS):
        (root / f"word{word:02}").mkdir(parents=True)
    for number, clip in enumerate(found):
        (root / f"word{number % WORDS:02}" / f"{number % 1000:03}_nohash_{number}.wav").symlink_to(clip.resolve())


def embedding(root: Path, count: int, output: Path, more: Sequence[str]) -> Cost:
    """One run of the command."""
    started, before = time.perf_counter(), processor()
    asked = ["embed", "--data", str(root), "--output", str(output), "--no-cache", "--quiet", *more]
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *asked], capture_output=True, text=True, check=False, timeout=LIMIT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if run.returncode:
        raise SystemExit(run.stderr)
    megabytes = int(run.stderr.splitlines()[-1]) / 1e6
    seconds = time.perf_counter() - started
    return Cost(count, seconds, processor() - before, megabytes, output.stat().st_size)


def processor() -> float:
    """Seconds that processes took which this one started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def slope(costs: Sequence[Cost]) -> tuple[float, float]:
    """Between the smallest and the largest run: milliseconds of processor and bytes of memory for a clip more."""
    first, last = costs[0], costs[-1]
    more = last.clips - first.clips
    return 1000 * (last.processor - first.processor) / more, 1e6 * (last.megabytes - first.megabytes) / more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds SpeechCommands")
    parser.add_argument("--clips", default=",".join(map(str, SIZES)), help="with commas between")
    parser.add_argument("--encoder", default=f"{Path(__file__).resolve()}:Spectrum")
    parser.add_argument("--engine", default="local", choices=("local", "ray"))
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    clips = corpus(arguments.data)
    if not clips:
        raise SystemExit(f"'{arguments.data}' holds no clips of Speech Commands")
    more = ["--encoder", arguments.encoder, "--engine", arguments.engine]
    more += ["--workers", str(arguments.workers)] if arguments.workers else []
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, arguments.clips.split(",")):
            root = Path(folder) / str(size)
            link(clips, size, root)
            cost = embedding(root, size, Path(folder) / f"{size}.parquet", more)
            costs.append(cost)
            print(
                f"{cost.clips:>9,} clips: {cost.seconds:7.1f} s, {cost.processor:7.1f} s of processor, "
                f"peak {cost.megabytes:6.0f} MB, "
                f"table {cost.table / 1e6:7.1f} MB ({cost.table / cost.clips:.0f} bytes a clip)",
                flush=True,
            )
    if len(costs) > 1:
        milliseconds, memory = slope(costs)
        print(f"a clip more: {milliseconds:.2f} ms of processor, {memory:.0f} bytes of memory")
    print(json.dumps([cost.__dict__ for cost in costs]))


if __name__ == "__main__":
    main()
