"""How long the first answer takes: from the start of the process to the ranked words, and how much of that is torch.

    python -m benchmarks.startup

Each run is a process of its own, on one thread, as a person at a terminal has it. Wall-clock time is what they wait;
processor time is what a busy machine does not lengthen. Torch's import, some two seconds that no program around it can
shorten, is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CLIP = sorted((Path(__file__).parents[1] / "sample" / "yes").glob("*.wav"))[0]

PROBE = """
import json, sys, time
times = [(time.time(), time.process_time())]
import torch
times.append((time.time(), time.process_time()))
from kws_imagebind.cli import main
main(sys.argv[1:])
times.append((time.time(), time.process_time()))
print(json.dumps(times), file=sys.stderr)
"""


def first_answer(arguments: list[str]) -> dict[str, float]:
    """Seconds of one run: `wall` and `processor` without torch's import, `torch` of its wall-clock time."""
    start = time.time()
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    began, imported, done = json.loads(run.stderr.splitlines()[-1])
    return {
        "wall": began[0] - start + done[0] - imported[0],
        "processor": began[1] + done[1] - imported[1],
        "torch": imported[0] - began[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--encoder", default="phonebind")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    command = ["spot", str(arguments.clip), "--words", "yes,no", "--encoder", arguments.encoder]
    first_answer(command)  # the files are read from the disk once, and Python compiles
    runs = [first_answer(command) for _ in range(arguments.times)]
    print(
        f"first answer of '{' '.join(['kws-imagebind', 'spot', 'CLIP', *command[2:]])}', {len(runs)} runs, one thread"
    )
    for name, what in (
        ("wall", "without torch's import"),
        ("processor", "of processor time"),
        ("torch", "torch alone"),
    ):
        seconds = [run[name] for run in runs]
        print(f"  {statistics.median(seconds):.2f} s {what} (range {min(seconds):.2f}-{max(seconds):.2f})")


if __name__ == "__main__":
    main()
