"""Options that several commands share, and what was chosen with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kws_imagebind.datasets import Dataset
    from kws_imagebind.embeddings.embed import Embeddings
    from kws_imagebind.encoders import Encoder

BAD_INPUT = 2  # exit code
CACHE = ".cache"


def add_data_options(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    data = command.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="DIR", help="where the data set lies, or a table of 'embed'")
    data.add_argument(
        "--dataset", metavar="NAME", help="sample, speech-commands, folder or pictures; by default what DIR holds"
    )
    data.add_argument("--dataset-version", metavar="V", help="of speech-commands: v0.01 or v0.02")
    data.add_argument("--download", action="store_true", help="fetch speech-commands (2.4 GB) if it is not there")
    data.add_argument("--split", metavar="S", help="of speech-commands: training, validation, testing (default) or all")
    data.add_argument("--task", metavar="T", help="a named choice of keywords, see 'kws-imagebind list'")
    data.add_argument("--keywords", metavar="A,B,C", help="your own choice; ARPAbet as in 'kettle=/K EH T AH L/'")
    return data


def add_encoder_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("encoder")
    group.add_argument("--encoder", default="phonebind", metavar="NAME", help="see 'kws-imagebind list'")
    prompts = group.add_mutually_exclusive_group()
    prompts.add_argument(
        "--template", action="append", metavar="T", help="prompt with {} for the word; may be repeated"
    )
    prompts.add_argument("--prompts", metavar="SET", help="a named set of templates: bare, saying, clip, speech")
    group.add_argument("--average", choices=("embedding", "score"), default="embedding", help="of several templates")
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")
    group.add_argument(
        "--checkpoints", type=Path, metavar="DIR", help="folder of downloaded weights (default .checkpoints)"
    )
    group.add_argument("--precision", default="auto", metavar="P", help="auto, fp32, bf16, fp16, int8")


def add_run_options(run: argparse._ArgumentGroup) -> None:
    run.add_argument("--batch-size", type=positive, default=64, metavar="N", help="clips at once (default 64)")
    run.add_argument("--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of embeddings (default {CACHE})")
    run.add_argument("--no-cache", action="store_true", help="encode every clip again and keep nothing")


def positive(text: str) -> int:
    number = int(text) if text.lstrip("-").isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return number


def chosen_dataset(arguments: argparse.Namespace) -> Dataset:
    from kws_imagebind.datasets.registry import dataset_at, load_dataset
    from kws_imagebind.text.keywords import KeywordError

    dataset = (
        table_of(arguments).dataset
        if is_table(arguments)
        else load_dataset(
            arguments.dataset or dataset_at(arguments.data, arguments.download),
            root=arguments.data,
            split=arguments.split,
            task=arguments.task,
            keywords=arguments.keywords,
            download=arguments.download,
            version=arguments.dataset_version,
        )
    )
    if len(dataset.keywords) < 2:
        raise KeywordError(f"'{dataset.keywords[0]}' is the only keyword; a choice needs at least two")
    return dataset


def limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """A random part of the clips, if one is asked for; says where there are no more clips than that."""
    if limit and limit > len(dataset):
        say(f"--limit {limit:,} is more than the {len(dataset):,} clips that there are, so all of them are measured")
    return dataset.subset(limit, seed) if limit else dataset


def is_table(arguments: argparse.Namespace) -> bool:
    """Whether --data is a table of `embed`."""
    from kws_imagebind.embeddings import table

    place = getattr(arguments, "data", None)  # which not every command has
    return place is not None and table.is_table(place)


def table_of(arguments: argparse.Namespace) -> Embeddings:
    """The clips of a table of `embed` that say one of the chosen keywords."""
    from kws_imagebind.embeddings import table
    from kws_imagebind.text.keywords import KeywordError, parse_keywords
    from kws_imagebind.text.tasks import task

    if arguments.task and arguments.keywords:
        raise KeywordError("a task and keywords are given; expected one of the two, for a task is a list of keywords")
    audio = table.load(arguments.data)
    if arguments.keywords:
        return table.restricted(audio, parse_keywords(arguments.keywords))
    return table.restricted(audio, task(arguments.task).keywords, arguments.task) if arguments.task else audio


def check_table(audio: Embeddings, encoder: Encoder) -> None:
    """Says that the vectors of a table are not of an encoder.

    Raises:
        EncoderError: they are not.
    """
    from kws_imagebind.encoders import EncoderError

    if encoder.fingerprint != audio.fingerprint:
        raise EncoderError(
            f"the table's vectors are of encoder '{audio.encoder}' ({audio.fingerprint}), and not of '{encoder.name}' "
            f"({encoder.fingerprint}); encode the clips again, or name the table's encoder and precision"
        )


def chosen_templates(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """The templates asked for; None leaves the encoder its own."""
    from kws_imagebind.text.prompts import template_set

    if arguments.prompts:
        return template_set(arguments.prompts)
    return tuple(arguments.template) if arguments.template else None


def embed_clips(arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder) -> Embeddings:
    import kws_imagebind as kws
    from kws_imagebind.embeddings import table

    if dataset.origin is None and is_table(arguments):
        audio = table_of(arguments)
        check_table(audio, encoder)
        return table.only(audio, dataset)
    return kws.embed(
        encoder,
        dataset,
        cache=None if arguments.no_cache else arguments.cache,
        batch_size=arguments.batch_size,
        on_error=arguments.on_error,
        progress=not arguments.quiet,
    )


def chosen_encoder(arguments: argparse.Namespace) -> Encoder:
    """The encoder asked for, ready to encode."""
    from kws_imagebind import load_encoder

    options = {"weights": arguments.checkpoints} if arguments.checkpoints else {}
    return load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision, **options)


def check_folder(folder: Path) -> None:
    """Makes a folder to write into, or says now that it cannot be, not after all clips."""
    from kws_imagebind.files import make_folder

    make_folder(folder)


def say(message: str) -> None:
    print(message, file=sys.stderr)
