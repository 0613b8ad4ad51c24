"""Deterministic stand-in weights and inputs for parity checks against the reference ImageBind.

The golden files beside this script hold what the reference implementation (facebookresearch/ImageBind,
commit 53680b0) computed from exactly these weights and inputs. Anyone can rebuild both from the formulas
below, so an implementation is checked without the 4.5 GB checkpoint.

    tensor  = weight(salt, name, shape)            # for every (name, shape) of the state dict
    samples = waveform(salt, index)                # float32 (channels, n), sample rate in WAVEFORMS
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

# index -> (seconds, sample rate, channels)
WAVEFORMS = [
    (1.0, 16000, 1),
    (0.37, 16000, 1),
    (2.0, 16000, 1),
    (3.3, 16000, 1),
    (10.0, 16000, 1),
    (1.0, 8000, 1),
    (1.5, 44100, 2),
    (0.98, 16000, 1),
]

SMALL_CONFIG = dict(
    vision_embed_dim=64,
    vision_num_blocks=2,
    vision_num_heads=4,
    text_embed_dim=48,
    text_num_blocks=3,
    text_num_heads=4,
    audio_embed_dim=96,
    audio_num_blocks=3,
    audio_num_heads=6,
    depth_embed_dim=32,
    depth_num_blocks=1,
    depth_num_heads=4,
    thermal_embed_dim=32,
    thermal_num_blocks=1,
    thermal_num_heads=4,
    imu_embed_dim=32,
    imu_num_blocks=1,
    imu_num_heads=4,
    out_embed_dim=40,
    audio_drop_path=0.1,
    imu_drop_path=0.7,
)
HUGE_CONFIG = dict(
    vision_embed_dim=1280,
    vision_num_blocks=32,
    vision_num_heads=16,
    text_embed_dim=1024,
    text_num_blocks=24,
    text_num_heads=16,
    out_embed_dim=1024,
    audio_drop_path=0.1,
    imu_drop_path=0.7,
)
LOGIT_SCALE = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}


def weight(salt: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 tensor that stands for parameter `name` of the official state dict."""
    if name.endswith("log_logit_scale"):
        return torch.tensor(math.log(LOGIT_SCALE[name.split(".")[1]])).reshape(shape)
    if name.endswith("mask"):  # causal mask buffer of the text tower
        return torch.full(shape, float("-inf")).triu_(1)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{salt}:{name}".encode())))
    if len(shape) == 1 and name.endswith("weight"):  # LayerNorm gains
        return 1 + 0.1 * noise
    if (
        len(shape) == 1
        or "pos_embed" in name
        or "cls_token" in name
        or "bias_" in name
        or "token_embedding" in name
    ):
        return 0.1 * noise
    return noise * math.prod(shape[1:]) ** -0.5


def state_dict(
    salt: str, shapes: dict[str, list[int]], modalities=("audio", "text", "vision")
) -> dict[str, torch.Tensor]:
    """All tensors of the given modalities, keyed as in the official checkpoint."""
    return {
        name: weight(salt, name, tuple(shape))
        for name, shape in shapes.items()
        if name.split(".")[1] in modalities
    }


def waveform(salt: str, index: int) -> tuple[np.ndarray, int]:
    """Float32 samples (channels, n) in [-1, 1] and their sample rate: chirps in coloured noise, with an offset."""
    seconds, rate, channels = WAVEFORMS[index]
    n = round(seconds * rate)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{salt}:wave:{index}".encode())))
    t = np.arange(n) / rate
    out = []
    for _ in range(channels):
        f0, f1, phase = rng.uniform(80, 300), rng.uniform(500, 3000), rng.uniform(0, 6)
        chirp = np.sin(2 * np.pi * (f0 * t + (f1 - f0) * t**2 / (2 * seconds)) + phase)
        envelope = np.exp(-((t - seconds / 2) ** 2) / (2 * (seconds / 4) ** 2))
        out.append(0.3 * envelope * chirp + 0.02 * rng.standard_normal(n) + 0.01)
    return np.stack(out).astype(np.float32), rate


def image(salt: str, index: int, size: int = 224) -> torch.Tensor:
    """A preprocessed float32 image (3, size, size)."""
    return torch.randn(
        (3, size, size), generator=torch.Generator().manual_seed(zlib.crc32(f"{salt}:image:{index}".encode()))
    )


TEXTS = [
    "a person saying yes",
    "a person saying backward",
    "A dog.",
    "yes",
    "",
    " ",
    "the  sound   of rain\n",
    "don't STOP — it's 100% naïve café",
    'a person saying "marvin"!',
    "&lt;b&gt;visual&lt;/b&gt; &amp; wow",
    "zero one two three 4567",
    "日本語のキーワード",
    "😀 happy",
    "word " * 100,
    "speech-commands_v0.02",
    "a person saying " + "antidisestablishmentarianism",
]


def shapes(path=Path(__file__).with_name("huge_shapes.json")) -> dict[str, list[int]]:
    return json.loads(Path(path).read_text())
