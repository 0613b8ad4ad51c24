"""`train`: a network that learns its words from labelled recordings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kws_imagebind.cli.options import CACHE, positive, say

if TYPE_CHECKING:
    from kws_imagebind.datasets import Dataset
    from kws_imagebind.training.correspondence.recipes import CorrespondenceRecipe
    from kws_imagebind.training.correspondence.train import Material
    from kws_imagebind.training.supervised.recipes import Recipe


def add_train(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "train",
        help="train a network on labelled recordings of words",
        description="Trains a network on the training clips of a data set and keeps the epoch that is best on the "
        "validation clips; testing clips are only reported, once, at the end. A data set without splits is divided by "
        "speaker. The folder is an encoder then: 'evaluate --encoder DIR'. The same command goes on after an "
        "interruption. Needs the extra 'supervised'.",
    )
    command.set_defaults(run=_train)
    command.add_argument(
        "network",
        metavar="NETWORK",
        help="residual, light-cnn, bc-resnet:TAU, imagenet:NAME or probe:ENCODER; or avenet, avolnet or l3net, which "
        "learn from videos, or from recordings and drawn words, which picture and sound belong together",
    )
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the run")
    _add_data(command)
    _add_recipe(command)
    _add_correspondence(command)
    run = command.add_argument_group("run")
    run.add_argument("--seed", type=int, default=0, metavar="K", help="of everything that is random (default 0)")
    run.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")
    run.add_argument("--devices", type=positive, default=1, metavar="N", help="so many GPUs at once (default 1)")
    run.add_argument(
        "--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of decoded clips (default {CACHE})"
    )
    run.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="bf16 is faster where the processor knows it"
    )
    run.add_argument("--no-report", action="store_true", help="leave the testing clips for 'evaluate --encoder DIR'")
    run.add_argument("--json", action="store_true", help="print the content of run.json, or the results")
    run.add_argument("--quiet", action="store_true", help="show no progress")


def _add_data(command: argparse.ArgumentParser) -> None:
    data = command.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="DIR", help="where the data set lies (default: the bundled sample)")
    data.add_argument("--dataset", metavar="NAME", help="sample, speech-commands or folder; by default what DIR holds")
    data.add_argument("--dataset-version", metavar="V", help="of speech-commands: v0.01 or v0.02")
    data.add_argument("--download", action="store_true", help="fetch speech-commands (2.4 GB) if it is not there")
    data.add_argument("--task", metavar="T", help="a named choice of keywords, see 'kws-imagebind list'")
    data.add_argument("--keywords", metavar="A,B,C", help="your own choice of words")
    data.add_argument(
        "--more", nargs="+", type=Path, default=[], metavar="DIR", help="folders of further training clips"
    )
    data.add_argument(
        "--share", type=float, default=0.2, metavar="S",
        help="of the speakers that validate, and as many that test, where the data set has no splits (default 0.2)",
    )  # fmt: skip


def _add_recipe(command: argparse.ArgumentParser) -> None:
    recipe = command.add_argument_group("recipe", "by default the one that was published with the network")
    recipe.add_argument("--epochs", type=positive, metavar="N", help="at most")
    recipe.add_argument("--batch-size", type=positive, metavar="N", help="clips in a step")
    recipe.add_argument("--rate", type=float, metavar="R", help="the highest learning rate")
    recipe.add_argument(
        "--patience", type=positive, metavar="N", help="stop after N epochs without a better validation accuracy"
    )
    recipe.add_argument("--balance", choices=("none", "weights", "sampling"), help="against words with more clips")
    recipe.add_argument("--front-end", choices=("log-mel", "stft"), help="what the network sees")
    recipe.add_argument("--mels", type=positive, metavar="N", help="bands of the log-mels")
    recipe.add_argument("--speed", type=float, metavar="S", help="also play clips up to this share faster or slower")
    recipe.add_argument("--no-augmentation", action="store_true", help="leave the training clips as they are")
    recipe.add_argument("--pretrained", action="store_true", help="imagenet: start from ImageNet's weights")
    recipe.add_argument("--frozen", action="store_true", help="imagenet: learn only the classifier")


def _add_correspondence(command: argparse.ArgumentParser) -> None:
    pairs = command.add_argument_group("avenet, avolnet, l3net", "--data may be a folder of videos (extra 'video')")
    pairs.add_argument(
        "--size", choices=("small", "published"), help="a quarter of the channels (default), or the paper's"
    )
    pairs.add_argument("--begin", type=Path, metavar="DIR", help="avolnet: a run of avenet whose towers it begins with")
    pairs.add_argument("--segments", nargs="+", type=Path, metavar="CSV", help="AudioSet's lists, to evaluate by")
    pairs.add_argument("--ontology", type=Path, metavar="JSON", help="AudioSet's, for relevance by distance in it")


def _train(arguments: argparse.Namespace) -> int:
    from kws_imagebind.models.avenet import KINDS

    if arguments.network in KINDS:
        return _train_correspondence(arguments)
    from kws_imagebind.training.supervised.recipes import TrainingError

    _refuse(arguments, ("size", "begin", "segments", "ontology"), TrainingError)
    return _train_supervised(arguments)


def _refuse(arguments: argparse.Namespace, options: tuple[str, ...], error: type[Exception]) -> None:
    """Says which options do not belong to a network."""
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(arguments, name)]
    if given:
        raise error(f"{', '.join(given)} does not go with '{arguments.network}'; leave it out")


def _train_correspondence(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from kws_imagebind.encoders.avenet import read_correspondence_run
    from kws_imagebind.training.correspondence.recipes import fitted, published, small
    from kws_imagebind.training.correspondence.train import CorrespondencePlan, report, train
    from kws_imagebind.training.supervised.recipes import TrainingError

    supervised = ("patience", "balance", "front_end", "mels", "speed", "no_augmentation", "pretrained", "frozen")
    _refuse(arguments, supervised, TrainingError)
    if arguments.begin is not None:
        if arguments.network != "avolnet":
            _refuse(arguments, ("begin",), TrainingError)
        read_correspondence_run(arguments.begin)  # or say now that there is none
    recipe = (published if arguments.size == "published" else small)(arguments.network)
    material = _material(arguments, recipe)
    recipe = fitted(recipe, len(material.training)) if arguments.size != "published" else recipe
    changes = {"epochs": arguments.epochs, "batch": arguments.batch_size, "rate": arguments.rate}
    recipe = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    say(f"{material.note}; {len(material.training):,} pairs to learn from")
    plan = CorrespondencePlan(material, arguments.output, recipe, arguments.begin, arguments.seed, arguments.device)
    train(plan, progress=not arguments.quiet)
    say(f"wrote the run to {arguments.output}; 'index' and 'search' take it as --encoder {arguments.output}")
    if material.testing is None or arguments.no_report:
        return 0
    result = report(plan)
    print((arguments.output / "correspondence_results.json").read_text(encoding="utf-8") if arguments.json else result)
    return 0


def _material(arguments: argparse.Namespace, recipe: CorrespondenceRecipe) -> Material:
    """Videos where --data holds any, or else recordings of words."""
    from kws_imagebind.datasets.audio_visual import AudioVisualFolder, MomentConfig, Ontology, is_video, read_segments
    from kws_imagebind.training.correspondence.train import reading_aloud, videos
    from kws_imagebind.training.supervised.clips import split
    from kws_imagebind.training.supervised.recipes import TrainingError

    root = arguments.data
    if root is not None and root.is_dir() and any(is_video(path) for path in root.rglob("*")):
        segments = [each for path in arguments.segments or () for each in read_segments(path)]
        ontology = Ontology.read(arguments.ontology) if arguments.ontology else None
        config = MomentConfig(recipe.config.image, recipe.sound.sample_rate, recipe.sound.seconds)
        return videos(
            AudioVisualFolder(root, config), arguments.cache, segments, ontology, arguments.seed, arguments.share
        )
    if arguments.segments or arguments.ontology:
        raise TrainingError("--segments and --ontology label videos, and --data holds none; leave them out")
    dataset, more = _datasets(arguments)
    return reading_aloud(
        split(dataset, more, arguments.seed, arguments.share), recipe, arguments.cache, not arguments.quiet
    )


def _train_supervised(arguments: argparse.Namespace) -> int:
    from kws_imagebind.embeddings.map import MapError
    from kws_imagebind.models.networks import NETWORKS
    from kws_imagebind.training.supervised.artefacts import draw, report
    from kws_imagebind.training.supervised.clips import split
    from kws_imagebind.training.supervised.train import Plan, train

    NETWORKS.find(arguments.network)  # or say now that there is none of that name
    recipe = _recipe(arguments)
    dataset, more = _datasets(arguments)
    plan = Plan(
        network=arguments.network,
        splits=split(dataset, more, arguments.seed, arguments.share),
        output=arguments.output,
        recipe=recipe,
        cache=arguments.cache,
        seed=arguments.seed,
        device=arguments.device,
        devices=arguments.devices,
        pretrained=arguments.pretrained,
        frozen=arguments.frozen,
        precision=arguments.precision,
    )
    say(f"{plan.splits.note}; {len(plan.splits.training):,} training clips, {len(plan.splits.validation):,} validate")
    trained = train(plan, progress=not arguments.quiet)
    if arguments.json:
        print((arguments.output / "run.json").read_text(encoding="utf-8"), end="")
    else:
        print(trained)
    try:
        say(f"wrote {', '.join(draw(trained, plan))} in {arguments.output}")
    except MapError as error:
        say(f"no map of the heads was drawn: {error}")
    if plan.splits.testing is None or arguments.no_report:
        say(f"no testing clips were reported; 'kws-imagebind evaluate --encoder {arguments.output}' does it")
        return 0
    result = report(trained, plan)
    if not arguments.json:
        print(result)
    return 0


def _datasets(arguments: argparse.Namespace) -> tuple[Dataset, list[Dataset]]:
    """The training clips of a data set with splits, or all clips of one without; and the clips that are added."""
    from kws_imagebind.datasets import load_dataset
    from kws_imagebind.datasets.registry import dataset_at, splits_of
    from kws_imagebind.text.keywords import KeywordError

    name = arguments.dataset or dataset_at(arguments.data, arguments.download)

    def load(split: str | None) -> Dataset:
        return load_dataset(
            name, arguments.data, split, arguments.task, arguments.keywords, arguments.download,
            arguments.dataset_version,
        )  # fmt: skip

    dataset = load("training" if "training" in splits_of(name) else None)
    if len(dataset.keywords) < 2:
        raise KeywordError(f"'{dataset.keywords[0]}' is the only keyword; a choice needs at least two")
    return dataset, [load_dataset("folder", folder, keywords=dataset.keywords) for folder in arguments.more]


def _recipe(arguments: argparse.Namespace) -> Recipe:
    from kws_imagebind.training.supervised.recipes import customised, recipe_of

    return customised(
        recipe_of(arguments.network),
        epochs=arguments.epochs,
        batch=arguments.batch_size,
        rate=arguments.rate,
        patience=arguments.patience,
        balance=arguments.balance,
        front_end=arguments.front_end,
        mels=arguments.mels,
        speed=arguments.speed,
        augmented=not arguments.no_augmentation,
    )
