"""How a correspondence network is trained: as published, or small enough for two cores."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.models.avenet import AVENetConfig
from kws_imagebind.training.supervised.recipes import NOTHING, Augmentation

# 1.005 s, since 200 windows of 10 ms that overlap by half need 48,240 samples at 48 kHz.
PUBLISHED_SOUND = FrontEnd("stft", sample_rate=48_000, seconds=1.005, window=480, hop=240)
SMALL_SOUND = FrontEnd()  # 40 mel bands at 16 kHz
SMALLEST_BATCH = 15
FEWEST_STEPS = 1_200
Schedule = Literal["steps", "cosine"]


@dataclass(frozen=True)
class CorrespondenceRecipe:
    """All that decides a training beside the data and the seed. The defaults are the published ones where it has any.

    Attributes:
        network: "avenet", "avolnet" or "l3net".
        config: its sizes.
        sound: what it hears.
        epochs: each shows every recording or video once.
        batch: pictures and as many sounds; every picture is paired with every sound.
        rate: the highest learning rate, of Adam.
        tiny_rate: that of the tiny layer, which has a few numbers that have far to go.
        decay: weight decay; the tiny layer has none, for decay would make all pairs equally likely.
        schedule: "steps" multiplies the rate by 0.94 every 16 epochs; "cosine" lets it fall to 0.
        warmup: epochs in which the rate rises from 0.
        augmentation: of the sounds.
        grid: rows and columns of the cells of a drawn page; each cell may hold a word.
        choice: weight of `choice_loss` beside the published loss of pairs, which has 1; 0 leaves it out.
        others: words on a page beside the one that is spoken, at most.
    """

    network: str = "avenet"
    config: AVENetConfig = field(default_factory=AVENetConfig)
    sound: FrontEnd = PUBLISHED_SOUND
    epochs: int = 200
    batch: int = 128
    rate: float = 1e-4
    tiny_rate: float = 1e-3
    decay: float = 1e-5
    schedule: Schedule = "steps"
    warmup: float = 0.0
    augmentation: Augmentation = NOTHING
    grid: tuple[int, int] = (1, 1)
    others: int = 0
    choice: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def published(network: str = "avenet") -> CorrespondenceRecipe:
    """The published network on the published picture and sound."""
    return CorrespondenceRecipe(network)


def fitted(recipe: CorrespondenceRecipe, pairs: int) -> CorrespondenceRecipe:
    """A recipe for so many pairs: of few, the batches are smaller and the epochs more, so that there are enough steps.

    >>> found = fitted(small(), 175)
    >>> found.batch, found.epochs
    (21, 134)
    >>> fitted(small(), 4_548) == small()
    True
    """
    batch = min(recipe.batch, max(SMALLEST_BATCH, pairs // 8))
    steps = max(1, math.ceil((pairs - 1) / batch))
    return replace(recipe, batch=batch, epochs=max(recipe.epochs, math.ceil(FEWEST_STEPS / steps)))


def small(network: str = "avenet", epochs: int = 40) -> CorrespondenceRecipe:
    """A quarter of the channels, pictures of 64x64 pixels and 40 mel bands: two cores train it in minutes.

    AVOL-Net learns from pages of six cells with one to three words, one of which is spoken.
    """
    page = network == "avolnet"
    image = (96, 128) if page else (64, 64)
    return CorrespondenceRecipe(
        network,
        AVENetConfig(image, SMALL_SOUND.shape, width=0.25),
        SMALL_SOUND,
        epochs=epochs,
        batch=64,
        rate=1e-3,
        tiny_rate=1e-2,
        schedule="cosine",
        warmup=1.0,
        augmentation=Augmentation(shift=0.1, noise=0.0, frequency_mask=5, time_mask=10, masks=1),
        grid=(3, 2) if page else (1, 1),
        others=2 if page else 0,
        choice=1.0,
    )
