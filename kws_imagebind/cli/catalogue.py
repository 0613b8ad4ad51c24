"""`list`, `describe` and `download`: what there is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kws_imagebind.cli.options import add_data_options, chosen_dataset, say
from kws_imagebind.registry import BUNDLED, Registry


def add_describe(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "describe",
        help="count the clips and speakers of each word of a data set",
        description="Counts the clips and speakers of each word of a data set, before anything is measured.",
    )
    command.set_defaults(run=_describe)
    add_data_options(command)
    command.add_argument("--output", type=Path, metavar="FILE.png", help="draw the distribution there")
    command.add_argument("--json", action="store_true", help="print JSON")


def add_download(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "download",
        help="fetch the weights of an encoder that is not bundled",
        description="Fetches weights, verifies them, and goes on where an earlier attempt was cut.",
    )
    command.set_defaults(run=_download)
    command.add_argument("encoder", choices=("imagebind",))
    command.add_argument("--modalities", metavar="A,B", help="audio,text are 1.8 GB of 4.8; default everything")
    command.add_argument("--checkpoints", type=Path, metavar="DIR", help="where to put them (default .checkpoints)")


def add_list(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("list", help="the encoders, data sets, tasks, read-outs and networks that exist")
    command.set_defaults(run=_list)
    command.add_argument("--json", action="store_true", help="print JSON")


def _describe(arguments: argparse.Namespace) -> int:
    from kws_imagebind.datasets.description import describe

    found = describe(chosen_dataset(arguments))
    print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
    if arguments.output:
        from kws_imagebind.reporting.figures.accuracy import distribution_figure
        from kws_imagebind.reporting.figures.style import save_figure

        words = found.words
        figure = distribution_figure([each.clips for each in words], [each.word for each in words], found.title)
        save_figure(figure, arguments.output)
        say(f"wrote {arguments.output}")
    return 0


def _download(arguments: argparse.Namespace) -> int:
    from kws_imagebind.encoders.imagebind.download import download

    modalities = None if arguments.modalities is None else arguments.modalities.split(",")
    print(download(arguments.checkpoints, modalities))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from kws_imagebind.datasets.registry import DATASETS
    from kws_imagebind.encoders.registry import ENCODERS
    from kws_imagebind.models.networks import NETWORKS
    from kws_imagebind.readouts.registry import READOUTS
    from kws_imagebind.text.tasks import TASKS

    found = {"encoders": ENCODERS, "datasets": DATASETS, "tasks": TASKS, "readouts": READOUTS, "networks": NETWORKS}
    if arguments.json:
        print(json.dumps({kind: _described(entries) for kind, entries in found.items()}, ensure_ascii=False))
        return 0
    width = max(len(name) for entries in found.values() for name in entries)
    for kind, entries in found.items():
        print(kind)
        for name, entry in entries.items():
            source = "" if entry.source == BUNDLED else f"  [{entry.source}]"
            print(f"  {name:<{width}}  {entry.description}{source}")
    print("your own: FILE.py:NAME or module:NAME, for --encoder and --dataset")
    return 0


def _described(entries: Registry) -> dict[str, dict[str, str]]:
    return {name: {"description": entry.description, "source": entry.source} for name, entry in entries.items()}
