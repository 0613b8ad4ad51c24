"""How each network is trained: the published recipe where there is one, scaled by the epochs that are asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from kws_imagebind.audio.spectrogram import FrontEnd, Kind
from kws_imagebind.models.networks import PROBE, tau_of

Optimiser = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "constant"]
Balance = Literal["none", "weights", "sampling"]


class TrainingError(ValueError):
    """A training that cannot start or go on; the message says why and what would help."""


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random in each training clip, each time that it is heard.

    Attributes:
        shift: seconds by which a clip is moved at most, earlier or later.
        noise: probability that background noise is added.
        loudest_noise: noise is multiplied by a number drawn from 0 to this.
        speed: a clip is played at a speed of 1 less to 1 plus this; 0 leaves the speed.
        frequency_mask: bands that a mask of SpecAugment hides at most; 0 for no masks.
        time_mask: frames that a mask hides at most.
        masks: of each kind.
    """

    shift: float = 0.1
    noise: float = 0.8
    loudest_noise: float = 0.1
    speed: float = 0.0
    frequency_mask: int = 0
    time_mask: int = 0
    masks: int = 2


NOTHING = Augmentation(shift=0.0, noise=0.0)


@dataclass(frozen=True)
class Recipe:
    """All that decides a training beside the network, the clips and the seed.

    Attributes:
        epochs: at most.
        batch: clips in a step.
        optimiser: "sgd" (with `momentum`), "adam" or "adamw".
        rate: the highest learning rate.
        schedule: "cosine" falls from `rate` to 0, "constant" stays.
        warmup: epochs in which the rate rises from 0.
        decay: weight decay.
        momentum: of "sgd".
        patience: epochs without a better validation accuracy after which training stops; None never stops.
        balance: against words with more clips than others: "weights" of the loss, "sampling" of the clips, or "none".
        front_end: what the network sees.
        augmentation: of the training clips.
    """

    epochs: int = 30
    batch: int = 100
    optimiser: Optimiser = "adamw"
    rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup: float = 1.0
    decay: float = 1e-2
    momentum: float = 0.9
    patience: int | None = None
    balance: Balance = "none"
    front_end: FrontEnd = field(default_factory=FrontEnd)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, kinds in (("optimiser", Optimiser), ("schedule", Schedule), ("balance", Balance)):
            if getattr(self, name) not in get_args(kinds):
                raise TrainingError(f"unknown {name} '{getattr(self, name)}'; available: {', '.join(get_args(kinds))}")
        if self.epochs < 1 or self.batch < 2 or not self.rate > 0:
            raise TrainingError(
                f"{self.epochs} epochs, batch {self.batch}, rate {self.rate:g}; expected at least 1 epoch, 2 clips in "
                "a batch and a rate above 0"
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# Frequencies that SpecAugment hides, by the width of BC-ResNet: section 4.1 of arXiv:2106.04140.
BC_RESNET_MASKS = {1.0: 0, 1.5: 1, 2.0: 3, 3.0: 5, 6.0: 7, 8.0: 7}


def recipe_of(network: str) -> Recipe:
    """The recipe of a network by name.

    >>> recipe_of("bc-resnet:8").epochs, recipe_of("residual").rate
    (200, 0.004)
    """
    name, _, argument = network.partition(":")
    if name == "bc-resnet":
        return _bc_resnet(tau_of(argument))
    if name == "residual":  # the student project's: Adam at 4e-3, 15 epochs
        return Recipe(
            epochs=15, batch=64, optimiser="adam", rate=4e-3, decay=0.0, patience=6, front_end=FrontEnd(mels=64)
        )
    if name == "light-cnn":
        return Recipe(epochs=30, batch=64, patience=10, augmentation=_masked(8, 20))
    if name == "imagenet":
        front_end = FrontEnd(mels=128, window=400)
        return Recipe(epochs=30, batch=64, patience=8, front_end=front_end, augmentation=_masked(16, 20))
    if name == PROBE:
        return Recipe(epochs=100, batch=256, rate=1e-2, patience=15, augmentation=NOTHING)
    return Recipe()


FEWEST_MELS, MOST_MELS = 16, 128
STFT = FrontEnd("stft", window=256, hop=128)  # 129 bins, 124 frames


def customised(
    recipe: Recipe,
    epochs: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    patience: int | None = None,
    balance: Balance | None = None,
    front_end: Kind | None = None,
    mels: int | None = None,
    speed: float | None = None,
    augmented: bool = True,
) -> Recipe:
    """A recipe with a user's choices in it; the warm-up keeps its share of the epochs.

    >>> customised(recipe_of("bc-resnet:1"), epochs=40).warmup
    1.0

    Raises:
        TrainingError: a choice makes no sense.
    """
    if speed is not None and not 0 <= speed < 0.5:
        raise TrainingError(f"a speed of {speed:g}; expected a share from 0 to 0.5, such as 0.1")
    changed = {"epochs": epochs, "batch": batch, "rate": rate, "patience": patience, "balance": balance}
    found = replace(recipe, **{name: value for name, value in changed.items() if value is not None})  # type: ignore[arg-type]
    if epochs is not None:
        found = replace(found, warmup=recipe.warmup * epochs / recipe.epochs)
    if front_end is not None and front_end != found.front_end.kind:
        found = replace(found, front_end=STFT if front_end == "stft" else FrontEnd())
    if mels is not None:
        found = replace(found, front_end=_banded(found.front_end, mels))
    if speed is not None:
        found = replace(found, augmentation=replace(found.augmentation, speed=speed))
    return found if augmented else replace(found, augmentation=NOTHING)


def _banded(front_end: FrontEnd, mels: int) -> FrontEnd:
    """A front end with another number of mel bands."""
    if front_end.kind != "log-mel":
        raise TrainingError(f"--mels {mels} is for log-mels; leave it out with --front-end {front_end.kind}")
    if not FEWEST_MELS <= mels <= MOST_MELS:
        raise TrainingError(f"{mels} mel bands; expected {FEWEST_MELS} to {MOST_MELS}")
    return replace(front_end, mels=mels)


def _bc_resnet(tau: float) -> Recipe:
    masked = BC_RESNET_MASKS.get(tau, 7 if tau > 3 else 3)
    return Recipe(
        epochs=200,
        batch=100,
        optimiser="sgd",
        rate=0.1,
        warmup=5.0,
        decay=1e-3,
        augmentation=_masked(masked, 20) if masked else Augmentation(),
    )


def _masked(frequencies: int, frames: int) -> Augmentation:
    return Augmentation(frequency_mask=frequencies, time_mask=frames)
