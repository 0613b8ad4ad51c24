"""What several test files share: small recordings, a fake encoder, and the real clips beside the project, if any."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

REAL = Path(__file__).parents[2] / "shared" / "data"

torch.set_num_threads(1)  # pytest-xdist runs the files side by side


class ToneEncoder:
    """An encoder to check by hand: the spectrum of a clip, and that of a tone at the text's number of hertz."""

    name = "tone"
    sample_rate = 16_000
    dim = 200
    fingerprint = "tone-1"
    default_template = "a person whistling {}"

    def __init__(self) -> None:
        self.heard: list[int] = []  # sizes of the batches
        self.read: list[str] = []

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        self.heard.append(len(waveforms))
        padded = torch.stack([F.pad(waveform, (0, 16_000))[:16_000] for waveform in waveforms])
        return F.normalize(torch.fft.rfft(padded).abs()[:, : 40 * self.dim].unflatten(1, (self.dim, 40)).sum(2), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.read += texts
        hertz = [int(text.removeprefix("a person whistling ").removeprefix("a whistle of ")) for text in texts]
        return F.one_hot(torch.tensor(hertz) // 40, self.dim).float()


@pytest.fixture
def tone_encoder() -> ToneEncoder:
    return ToneEncoder()


@pytest.fixture
def write_tone() -> Callable[..., Path]:
    """Writes a tone of some hertz with a little noise, and returns its path."""

    def write(path: Path, hertz: float = 440.0, seconds: float = 0.5, rate: int = 16_000, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * time) + noise, rate)
        return path

    return write


@pytest.fixture
def tones(tmp_path: Path, write_tone: Callable[..., Path]) -> Path:
    """A folder data set of three words, eight clips each, that are tones of 440, 1000 and 3000 Hz."""
    root = tmp_path / "tones"
    for word in ("440", "1000", "3000"):
        for take in range(8):
            write_tone(root / word / f"speaker{take % 3}_nohash_{take}.wav", hertz=float(word), seed=int(word) + take)
    return root


@pytest.fixture
def real_clips() -> Path:
    """The folder that holds real Speech Commands clips; the test is skipped where there are none."""
    if not (REAL / "SpeechCommands").is_dir():
        pytest.skip("no real Speech Commands clips beside the project")
    return REAL


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Training on few clips is chaotic: sums in another order, as more threads make them, end elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def loggers_speak() -> None:
    """Libraries that configure logging disable the loggers that exist; what a test says is then lost for the others."""
    logging.disable(logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("kws_imagebind") and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate = False, True
