"""ImageBind here against Meta's own code, in one run on the same formula weights: `python -m benchmarks.imagebind`.

Needs the package imagebind-unofficial (the official code, unchanged) in the same environment; docs/imagebind.md says
how to install it. Without it the benchmark says so and ends. Timings of the two sides alternate, and the best of each
is compared: read the ratios, since seconds are the machine's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.memory import peak
from kws_imagebind.encoders.imagebind import frontend
from kws_imagebind.encoders.imagebind.encoder import ImageBindEncoder
from kws_imagebind.models import int8
from tests.golden import formula_weights as formula

SALT = "public"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
PRECISIONS = ("fp32", "bf16", "int8")
ROUNDS = 3
Clock = Callable[[], float]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=8, help="one-second clips in a batch (default 8)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each timing; the best counts")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="where to write, or find, the formula checkpoint"
    )
    parser.add_argument("--skip-ready", action="store_true", help="leave out the time and memory to get ready")
    parser.add_argument(
        "--processor-time", action="store_true", help="of one thread, where other work shares the cores"
    )
    parser.add_argument(
        "--ready", choices=("reference", *PRECISIONS), help=argparse.SUPPRESS
    )  # in a process of its own
    arguments = parser.parse_args(argv)
    if importlib.util.find_spec("imagebind") is None:
        print("imagebind-unofficial is not installed, so there is nothing to compare with; see docs/imagebind.md")
        return 0
    if arguments.ready:
        print(json.dumps(_ready(arguments.ready, arguments.checkpoint)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = arguments.checkpoint or Path(scratch)
        write_checkpoint(checkpoint / "imagebind_huge.pth")
        if not arguments.skip_ready:
            _compare_ready(checkpoint)
        if arguments.processor_time:
            torch.set_num_threads(1)
        clock = time.process_time if arguments.processor_time else time.perf_counter
        _compare_speed(checkpoint, arguments.clips, arguments.rounds, clock)
    return 0


def write_checkpoint(path: Path) -> None:
    """All 1,311 tensors of the official layout, from the formula; 4.8 GB."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    official = reference()[1].imagebind_huge(pretrained=False).state_dict()
    shapes = {name: list(value.shape) for name, value in official.items()}
    del official
    torch.save(formula.state_dict(SALT, shapes, tuple({name.split(".")[1] for name in shapes})), path)


def reference() -> tuple[ModuleType, ModuleType]:
    """The official package's `data` and `models.imagebind_model`, adapted to today's torchvision and torchaudio."""
    logging.disable(logging.WARNING)  # it warns at every clip that is not two seconds long
    warnings.simplefilter("ignore")
    import torchaudio
    import torchvision.transforms._functional_tensor as functional_tensor

    sys.modules["torchvision.transforms.functional_tensor"] = functional_tensor

    def load(path: str, *_: Any, **__: Any) -> tuple[Tensor, int]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    torchaudio.load = load
    from imagebind import data
    from imagebind.models import imagebind_model

    return data, imagebind_model


def reference_model(checkpoint: Path) -> torch.nn.Module:
    _, module = reference()
    home = Path.cwd()
    os.chdir(checkpoint)  # the package looks for .checkpoints/imagebind_huge.pth, and downloads it otherwise
    try:
        Path(".checkpoints").mkdir(exist_ok=True)
        link = Path(".checkpoints/imagebind_huge.pth")
        if not link.exists():
            link.symlink_to(Path("imagebind_huge.pth").resolve())
        return module.imagebind_huge(pretrained=True).eval()
    finally:
        os.chdir(home)


def _ready(kind: str, checkpoint: Path) -> dict[str, float]:
    """Seconds until a model is there and until it has encoded one clip and one text, and the process's peak memory.

    The peak is this process's own (`benchmarks.memory.peak`): the parent, which may have made the checkpoint, had more.
    """
    start = time.perf_counter()
    encoder = (
        ImageBindEncoder.from_module(reference_model(checkpoint))
        if kind == "reference"
        else ImageBindEncoder.from_weights(checkpoint, device="cpu", precision=kind)
    )
    ready = time.perf_counter() - start
    encoder.encode_text(["yes"])
    encoder.encode_audio([torch.from_numpy(formula.waveform(SALT, 0)[0][0])])
    answered = time.perf_counter() - start
    return {"ready": ready, "answered": answered, "gigabytes": peak() / 1e9}


def _compare_ready(checkpoint: Path) -> None:
    print("getting ready to encode audio and text, and the first clip and text encoded")
    baseline = None
    for kind in ("reference", *PRECISIONS):
        command = [sys.executable, "-m", "benchmarks.imagebind", "--ready", kind, "--checkpoint", str(checkpoint)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(output.splitlines()[-1])
        baseline = baseline or found
        print(
            f"  {kind:<10} {found['ready']:6.1f} s ({baseline['ready'] / found['ready']:5.1f} x)"
            f"   first answers {found['answered']:6.1f} s ({baseline['answered'] / found['answered']:5.1f} x)"
            f"   peak {found['gigabytes']:.2f} GB"
        )


def _compare_speed(checkpoint: Path, clips: int, rounds: int, clock: Clock) -> None:
    data, _ = reference()
    official = reference_model(checkpoint)
    encoders = {p: ImageBindEncoder.from_weights(checkpoint, device="cpu", precision=p) for p in PRECISIONS}
    prompts = [f"a person saying {word}" for word in WORDS]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        paths, waveforms = _clips(Path(folder), clips)
        mels = data.load_and_transform_audio_data(paths, "cpu")
        tokens = data.load_and_transform_text(prompts, "cpu")
        audio: dict[str, Callable[[], Tensor]] = {"reference": lambda: official({"audio": mels})["audio"]}
        text: dict[str, Callable[[], Tensor]] = {"reference": lambda: official({"text": tokens})["text"]}
        front: dict[str, Callable[[], Tensor]] = {
            "reference": lambda: data.load_and_transform_audio_data(paths, "cpu"),
            "here": lambda: _front(waveforms),
        }
        for precision, encoder in encoders.items():
            audio[precision] = lambda encoder=encoder: encoder.encode_audio(waveforms)
            text[precision] = lambda encoder=encoder: encoder.encode_text(prompts)
        print(f"{torch.get_num_threads()} threads; 8-bit products native: {int8.is_fast()}")
        vectors = {
            "audio": _report(
                f"audio, per clip of one second ({clips} at once, front end included here)", audio, clips, rounds, clock
            ),
            "text": _report(f"text, {len(prompts)} prompts", text, 1, rounds, clock),
        }
        _report(
            f"front end, per clip ({clips} at once; the reference's includes reading the files)",
            front,
            clips,
            rounds,
            clock,
        )
    _parity(vectors)


def _clips(folder: Path, count: int) -> tuple[list[str], list[Tensor]]:
    paths, waveforms = [], []
    base = torch.from_numpy(formula.waveform(SALT, 0)[0][0])
    for i in range(count):
        waveforms.append(base.roll(800 * i) * (1 - 0.05 * i))
        paths.append(str(folder / f"{i}.wav"))
        soundfile.write(paths[-1], waveforms[-1].numpy(), 16_000, subtype="FLOAT")
    return paths, waveforms


def _front(waveforms: list[Tensor]) -> Tensor:
    windows = [frontend.cut_windows(waveform[None])[0] for waveform in waveforms]
    return frontend.normalise(frontend.mel_images(windows))


def _report(
    title: str, kinds: dict[str, Callable[[], Tensor]], per: int, rounds: int, clock: Clock
) -> dict[str, Tensor]:
    """Time the kinds by turns, print the best of each, and return what they computed."""
    results = {name: run() for name, run in kinds.items()}  # the first time warms up
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, run in kinds.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    best = {name: min(times) / per for name, times in seconds.items()}
    print(title)
    for name, value in best.items():
        print(f"  {name:<10} {1000 * value:9.2f} ms  {best['reference'] / value:6.1f} x")
    return results


def _parity(vectors: dict[str, dict[str, Tensor]]) -> None:
    unit = {kind: {name: F.normalize(v, dim=-1) for name, v in some.items()} for kind, some in vectors.items()}
    chosen = {name: (unit["audio"][name] @ unit["text"][name].T).argmax(1) for name in unit["audio"]}
    print("against the reference: lowest cosine, and how often the same word is chosen")
    for name in PRECISIONS:
        low = {kind: float(F.cosine_similarity(unit[kind][name], unit[kind]["reference"]).min()) for kind in unit}
        agree = np.mean((chosen[name] == chosen["reference"]).numpy())
        print(f"  {name:<10} audio {low['audio']:.7f}   text {low['text']:.7f}   same word {agree:.0%}")


if __name__ == "__main__":
    sys.exit(main())
