"""From labelled clips to the folder of a finished run.

Everything that can be wrong is found before the first step; a run that was interrupted goes on from its last
checkpoint, and `run.json` is written last.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.base import Dataset, listed
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.encoders.base import Encoder, EncoderError, Scorer, resolve_device
from kws_imagebind.encoders.cards import Card, card_of
from kws_imagebind.encoders.registry import load_encoder
from kws_imagebind.encoders.trained import LearntClip, TrainedNetwork, TrainedRun, is_run, unit
from kws_imagebind.evaluation.guards import CORPUS_NAME
from kws_imagebind.files import make_folder, whole
from kws_imagebind.metrics.classification import measure
from kws_imagebind.models.networks import PROBE, Architecture, build
from kws_imagebind.models.probe import LinearProbe
from kws_imagebind.text.tasks import SILENCE
from kws_imagebind.training.supervised.clips import Clips, Splits, decoded, noise_of
from kws_imagebind.training.supervised.complexity import Complexity, complexity
from kws_imagebind.training.supervised.history import Epoch, best
from kws_imagebind.training.supervised.recipes import Recipe, TrainingError, recipe_of

PLAN = "plan.json"
STANDARDISED_ON = 1_000  # training clips whose mean and deviation standardise all
SMALLEST_BATCH = 8  # that few clips are divided into
MIDDLE_OF = 100  # training clips of a word, whose middle stands for its text
BATCH = 256  # clips, where nothing is learnt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        network: its name, such as "bc-resnet:3" or "probe:phonebind".
        splits: the clips.
        output: folder of the run.
        recipe: None takes the network's own.
        cache: folder of the decoded clips.
        seed: of everything that is random.
        device, devices: to train on.
        pretrained: start from ImageNet's weights.
        frozen: learn only the classifier.
        precision: "fp32" or "bf16".
        save_every: training time between two checkpoints, or steps.
    """

    network: str
    splits: Splits
    output: Path
    recipe: Recipe | None = None
    cache: Path = Path(".cache")
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    pretrained: bool = False
    frozen: bool = False
    precision: str = "fp32"
    save_every: timedelta | int = timedelta(seconds=30)

    @property
    def chosen(self) -> Recipe:
        """The recipe that is followed; of few clips the batches are smaller, so that an epoch has ten steps or more."""
        recipe = self.recipe or recipe_of(self.network)
        return replace(recipe, batch=min(recipe.batch, max(SMALLEST_BATCH, len(self.splits.training) // 10)))


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        network: ready to use.
        history: an entry an epoch.
        complexity: of the network.
        validation: clips that chose the epoch.
        macro_accuracy: the mean of the words' accuracies on them.
        never_named: words that the network gives none of them.
    """

    network: TrainedNetwork
    history: tuple[Epoch, ...]
    complexity: Complexity
    validation: int
    macro_accuracy: float
    never_named: tuple[str, ...] = ()

    @property
    def best(self) -> Epoch:
        return best(self.history)

    def __str__(self) -> str:
        found = self.best
        return (
            f"{self.network.name}: epoch {found.epoch} of {len(self.history)} is the best, with "
            f"{100 * found.validation_accuracy:.1f} % of the {self.validation:,} validation clips right (mean of the "
            f"words {100 * self.macro_accuracy:.1f} %), which chose it and so are no result\n{self.complexity}"
        )


@dataclass(frozen=True)
class _Material:
    """What the loop is made of."""

    network: nn.Module
    architecture: Architecture
    training: Clips
    validation: Clips
    front_end: FrontEnd | None
    noise: Tensor | None = None
    base: Encoder | None = field(default=None, repr=False)


def train(plan: Plan, progress: bool = False) -> Trained:
    """Trains a network, or goes on with a training that was interrupted.

    Args:
        plan: what is trained.
        progress: whether to show on stderr how it goes.

    Raises:
        TrainingError: Lightning is not installed, the folder holds another training, this one cannot go on, or a
            validation clip is a copy of a training clip.
        NetworkError, EncoderError, AudioError, FileProblem: as their causes say.
    """
    from kws_imagebind.training.supervised.loop import Loop, check_lightning, fit  # Lightning takes seconds to import

    check_lightning()
    _check_devices(plan)
    _begin(plan)
    torch.manual_seed(plan.seed)
    material = _probed(plan, progress) if plan.network.partition(":")[0] == PROBE else _heard(plan, progress)
    _check_copies(material)
    recipe, labels = plan.chosen, plan.splits.labels
    history = fit(
        Loop(
            network=material.network,
            training=material.training,
            validation=material.validation,
            classes=len(labels),
            recipe=recipe,
            front_end=material.front_end,
            noise=material.noise if recipe.augmentation.noise else None,
            quiet_class=labels.index(SILENCE) if SILENCE in labels else None,
            folder=plan.output,
            seed=plan.seed,
            device=plan.device,
            devices=plan.devices,
            precision=plan.precision,
            save_every=plan.save_every,
            progress=progress,
        )
    )
    if not math.isfinite(best(history).validation_loss):
        raise TrainingError(
            f"no epoch has a finite validation loss; start again with a lower --rate than {recipe.rate:g}, in another "
            "folder"
        )
    return _finish(plan, material, history)


def _check_copies(material: _Material) -> None:
    """Refuses validation clips whose very recording trains, under whatever name."""
    learnt = {each.content for each in material.training.identities}
    copies = sum(each.content in learnt for each in material.validation.identities)
    if copies:
        raise TrainingError(
            f"{copies:,} of the {len(material.validation):,} validation clips are copies of training clips, so they "
            "cannot choose; take the copies out of --data or --more"
        )


def _check_devices(plan: Plan) -> None:
    """Says before any clip is read that a device is not here."""
    if plan.device != "auto":
        resolve_device(plan.device)
    if plan.devices > 1 and torch.cuda.device_count() < plan.devices:
        raise TrainingError(
            f"{plan.devices} GPUs are asked for, and {torch.cuda.device_count()} are here; leave --devices out"
        )


def _begin(plan: Plan) -> None:
    """Makes the folder and notes the plan there, or holds the plan to the one that was begun."""
    if is_run(plan.output):
        raise TrainingError(f"'{plan.output}' holds a finished training; name another folder with --output")
    words = {name: Counter(each.label for each in part.utterances) for name, part in _parts(plan.splits).items()}
    content = {
        "network": plan.network,
        "labels": list(plan.splits.labels),
        "recipe": plan.chosen.as_dict(),
        "seed": plan.seed,
        "pretrained": plan.pretrained,
        "frozen": plan.frozen,
        "precision": plan.precision,
        "clips": {name: dict(sorted(counts.items())) for name, counts in words.items()},
    }
    content = json.loads(json.dumps(content))
    make_folder(plan.output)
    path = plan.output / PLAN
    if path.is_file():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TrainingError(f"'{path}' is damaged; remove '{plan.output}' and start again") from error
        other = [name for name in content if begun.get(name) != content[name]]
        if other:
            raise TrainingError(
                f"'{plan.output}' holds a training that was begun with other {', '.join(other)}; repeat its command to "
                "go on, or name another folder with --output"
            )
        log.info("going on with the training in '%s'", plan.output)
        return
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _parts(splits: Splits) -> dict[str, Dataset]:
    return {"training": splits.training, "validation": splits.validation}


def _heard(plan: Plan, progress: bool) -> _Material:
    """A network on spectrograms."""
    front_end, splits = plan.chosen.front_end, plan.splits
    architecture = Architecture(plan.network, len(splits.labels), front_end.shape, plan.frozen)
    network = build(architecture, plan.pretrained)  # before any clip is decoded, for it may fail
    _check_shape(network, architecture)
    training = decoded(splits.training, front_end, plan.cache, progress)
    validation = decoded(splits.validation, front_end, plan.cache, progress)
    noise = noise_of(splits.training, front_end.sample_rate, front_end.seconds)
    if noise is None and plan.chosen.augmentation.noise:
        log.info("there is no background noise beside the training clips, so none is added to them")
    return _Material(network, architecture, training, validation, _standardised(front_end, training), noise)


def _check_shape(network: nn.Module, architecture: Architecture) -> None:
    """Says that a network, which halves spectrograms on its way, cannot take those of this shape."""
    bands, frames = architecture.shape
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 1, bands, frames))
    except RuntimeError as error:
        raise TrainingError(
            f"{architecture.name} cannot take spectrograms of {bands} bands and {frames} frames; choose other --mels, "
            "such as 40 or 80, or leave --mels and --front-end out"
        ) from error
    network.train()


def _standardised(front_end: FrontEnd, training: Clips) -> FrontEnd:
    """With the mean and deviation of clips spread over the training set."""
    step = max(1, len(training) // STANDARDISED_ON)
    rows, _ = training.batch(list(range(0, len(training), step)))
    seen = torch.cat([front_end(part) for part in rows.split(BATCH)])
    return replace(front_end, mean=round(float(seen.mean()), 4), deviation=round(max(1e-3, float(seen.std())), 4))


def _probed(plan: Plan, progress: bool) -> _Material:
    """A linear head on an encoder's vectors, which begins at the words' text vectors where the encoder has them."""
    name = plan.network.partition(":")[2]
    splits = plan.splits
    base = load_encoder(name or "phonebind", "cpu" if plan.device == "auto" else plan.device)
    if isinstance(base, Scorer) and not isinstance(base, Encoder):
        raise EncoderError(f"'{name}' scores words and has no vectors; probe an encoder such as phonebind")
    architecture = Architecture(plan.network, len(splits.labels), (1, base.dim))
    network = build(architecture)
    clips = {}
    for part, dataset in _parts(splits).items():
        audio = embed(base, dataset, cache=plan.cache, progress=progress)
        clips[part] = Clips(audio.features.numpy(), audio.targets.numpy(), audio.identities)
    try:
        vectors = base.encode_text(list(splits.labels))
    except (ValueError, NotImplementedError):  # an encoder that cannot read these words
        log.info("%s has no text vectors for these words, so the probe starts at random", name)
    else:
        assert isinstance(network, LinearProbe)
        network.start_at(vectors)
    return _Material(network, architecture, clips["training"], clips["validation"], None, base=base)


def _finish(plan: Plan, material: _Material, history: Sequence[Epoch]) -> Trained:
    """Writes the run."""
    splits, network = plan.splits, material.network
    cost = complexity(network, material.architecture, history)
    found, macro, never = best(history), *_validated(material, splits.labels)
    run = TrainedRun(
        network=plan.network,
        labels=splits.labels,
        architecture=material.architecture,
        front_end=material.front_end,
        encoder=(plan.network.partition(":")[2], material.base.fingerprint) if material.base else None,
        card=_card(plan, material, cost),
        details={
            "recipe": plan.chosen.as_dict(),
            "seed": plan.seed,
            "pretrained": plan.pretrained,
            "precision": plan.precision,
            "data": {
                "training": {"clips": len(material.training), "note": splits.training.note},
                "validation": {"clips": len(material.validation), "note": splits.validation.note},
                "division": splits.note,
            },
            "best_epoch": found.epoch,
            "epochs": len(history),
            "validation_accuracy": found.validation_accuracy,
            "validation_macro_accuracy": macro,
            "never_named": list(never),
            "complexity": cost.as_dict(),
        },
    )
    middles = _middles(network, material, len(splits.labels))
    run.save(plan.output, network, middles, _learnt(splits, material))
    ready = TrainedNetwork.from_folder(plan.output, plan.device)
    if never:
        log.warning(
            "the network never names %s on the %s validation clips; more clips of %s, more epochs or --balance help",
            listed(never), f"{len(material.validation):,}", "it" if len(never) == 1 else "them",
        )  # fmt: skip
    return Trained(ready, tuple(history), cost, len(material.validation), macro, never)


def _validated(material: _Material, labels: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    """The mean of the words' accuracies on the validation clips, and the words that none of these is taken for."""
    found, clips = [], material.validation
    with torch.no_grad():
        for start in range(0, len(clips), BATCH):
            rows, _ = clips.batch(list(range(start, min(start + BATCH, len(clips)))))
            found.append(material.network(_fast(material.front_end(rows)) if material.front_end else rows).float())
    metrics = measure(torch.cat(found), torch.from_numpy(clips.targets))
    named = metrics.confusion.sum(0).tolist()
    return metrics.macro_accuracy.estimate, tuple(word for word, n in zip(labels, named, strict=True) if not n)


def _card(plan: Plan, material: _Material, cost: Complexity) -> Card:
    front_end = plan.chosen.front_end
    return Card(
        name=plan.network,
        parameters=cost.parameters,
        sample_rate=material.base.sample_rate if material.base else front_end.sample_rate,
        trained_on=card_of(material.base).trained_on if material.base else _trained_on(plan.splits),
        citation="Kim et al. 2021, arXiv:2106.04140" if plan.network.startswith("bc-resnet") else "",
    )


def _trained_on(splits: Splits) -> tuple[str, ...]:
    """The corpus behind the training clips; what a probe learnt from is told by its protocol, not by its encoder."""
    source = splits.training.name
    named = any(CORPUS_NAME.search(each.key) for each in splits.training.utterances)
    # The sample's synthetic voices only borrow the corpus's manner of naming.
    return ("Speech Commands" if source == "speech-commands" or (named and source != "sample") else source,)


def _middles(network: nn.Module, material: _Material, classes: int) -> Tensor:
    """(classes, dim) the mean unit vector of some training clips of each word, of unit norm itself."""
    targets = material.training.targets
    chosen = np.sort(np.concatenate([_spread(np.flatnonzero(targets == word)) for word in range(classes)]))
    found = []
    with torch.no_grad():
        for start in range(0, len(chosen), BATCH):
            rows, _ = material.training.batch(chosen[start : start + BATCH])
            seen = _fast(material.front_end(rows)) if material.front_end else rows
            found.append(unit(network.heads(seen)[-1]))  # type: ignore[operator]
    return unit(F.one_hot(torch.from_numpy(targets[chosen]), classes).float().T @ torch.cat(found))


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MIDDLE_OF` of some rows, spread over all."""
    return rows[:: -(-len(rows) // MIDDLE_OF)]


def _fast(spectrograms: Tensor) -> Tensor:
    """In the order of memory in which processors convolve fastest."""
    return spectrograms.contiguous(memory_format=torch.channels_last)


def _learnt(splits: Splits, material: _Material) -> list[LearntClip]:
    parts = ((splits.training, material.training), (splits.validation, material.validation))
    return [
        LearntClip(name, each.key, each.label, identity)
        for name, (dataset, clips) in zip(_parts(splits), parts, strict=True)
        for each, identity in zip(dataset.utterances, clips.identities, strict=True)
    ]
