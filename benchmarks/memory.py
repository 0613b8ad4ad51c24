"""How much memory `kws-imagebind spot` takes for a long recording, above what it takes for a short one.

    python -m benchmarks.memory
    python -m benchmarks.memory --rate 44100 --channels 2 --list 1000

The recordings are clips of the sample, two seconds apart, in faint noise: ten seconds and an hour of the same. Each is
spotted by a process of its own, on one thread; its peak resident memory is its own high-water mark, which the kernel
keeps (VmHWM of /proc/self/status). `ru_maxrss` would not do: a process inherits its parent's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

SAMPLE = Path(__file__).parents[1] / "sample"
WORDS = "yes,no,up,down,left,right,on,off,stop,go"
SHORT = 10.0  # s
LIMIT = 1800  # s until a run is given up
RATE = 16_000  # hertz of the sample

PROBE = """
import sys
from benchmarks.memory import peak
from kws_imagebind.cli import main
code = main(sys.argv[1:])
print(peak(), file=sys.stderr)
sys.exit(code)
"""


def peak() -> int:
    """The most bytes that this process has had in memory since it was started."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    except OSError:  # no Linux: with what its parent had when it was started
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def sounds(seconds: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Clips of the sample and pauses of two seconds, all in noise, float32 at 16 kHz, until there are enough."""
    noise = np.random.default_rng(seed)
    clips = sorted(SAMPLE.glob("*/*.wav"))
    missing, turn = round(seconds * RATE), 0
    while missing > 0:
        clip, _ = soundfile.read(clips[37 * turn % len(clips)], dtype="float32")
        part = np.concatenate([np.zeros(2 * RATE, np.float32), clip])[:missing]
        yield part + noise.normal(0, 0.003, len(part)).astype(np.float32)
        missing, turn = missing - len(part), turn + 1


def write(path: Path, seconds: float, rate: int, channels: int) -> Path:
    """A recording of so many seconds, 16 bits."""
    from torch import from_numpy

    from kws_imagebind.audio.resample import resample_blocks

    blocks = resample_blocks(map(from_numpy, sounds(seconds)), RATE, rate)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for block in blocks:
            file.write(np.repeat(block.numpy()[:, None], channels, axis=1))
    return path


def spotting(path: Path, words: str) -> tuple[float, float]:
    """Peak memory in MB and seconds of `kws-imagebind spot`."""
    started = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", PROBE, "spot", str(path), "--words", words, "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return int(run.stderr.splitlines()[-1]) / 1e6, time.perf_counter() - started


def word_list(count: int) -> str:
    """So many words of the lexicon."""
    from kws_imagebind.text.phonemes import entries

    words = dict.fromkeys(word for word, _ in entries() if word.isalpha() and 5 <= len(word) <= 8)
    return ",".join(list(words)[:: max(1, len(words) // count)][:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=RATE, help="hertz (default 16000)")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--list", type=int, metavar="N", help="spot N words of the lexicon instead of ten commands")
    arguments = parser.parse_args()
    words = word_list(arguments.list) if arguments.list else WORDS
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, seconds in (("short", SHORT), ("long", 60 * arguments.minutes)):
            path = write(Path(folder) / f"{name}.wav", seconds, arguments.rate, arguments.channels)
            found[name] = spotting(path, words)
            print(f"{seconds:7,.0f} s of sound: peak {found[name][0]:6.0f} MB, {found[name][1]:6.1f} s")
    more = found["long"][0] - found["short"][0]
    kind = f"{arguments.rate:,} Hz, {arguments.channels} channels, {len(words.split(',')):,} words"
    print(f"the long recording takes {more:.0f} MB more than the short one ({kind})")


if __name__ == "__main__":
    main()
