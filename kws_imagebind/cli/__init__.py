"""The command line.

Results go to stdout, progress and notices to stderr; bad input ends with exit code 2 and one line.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from kws_imagebind.cli import (
    catalogue,
    enrolment,
    leaderboard,
    listening,
    measuring,
    page,
    recordings,
    runs,
    searching,
    training,
    vectors,
)
from kws_imagebind.cli.options import BAD_INPUT, say

INTERRUPTED = 130
UNREAD = 141  # what a shell reports of a program that SIGPIPE ended

# In the order of --help. Each adds its parser, and sets as its default `run` what takes the arguments to an exit code.
COMMANDS: tuple[Callable[[argparse._SubParsersAction], None], ...] = (
    measuring.add_evaluate,
    runs.add_report,
    runs.add_compare,
    leaderboard.add_leaderboard,
    recordings.add_spot,
    listening.add_listen,
    listening.add_check_word,
    listening.add_export,
    enrolment.add_enrol,
    catalogue.add_describe,
    recordings.add_submit,
    measuring.add_prompts,
    vectors.add_embed,
    vectors.add_few_shot,
    vectors.add_probe,
    searching.add_index,
    searching.add_search,
    searching.add_retrieve,
    training.add_train,
    page.add_demo,
    catalogue.add_download,
    catalogue.add_list,
)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does; but what a command does not know, the command itself refuses, under its own name."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and not rest[0].startswith("-") and getattr(found, "data", "") is None:
            self.error(f"'{rest[0]}' stands alone; name a folder or a table with --data {shlex.quote(rest[0])}")
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(prog="kws-imagebind", description="Zero-shot keyword spotting, measured honestly.")
    top.add_argument("--version", action="version", version=f"kws-imagebind {_version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return top


def _version() -> str:
    try:
        return version("kws-imagebind")
    except PackageNotFoundError:
        return "(not installed)"


def bad_input() -> tuple[type[Exception], ...]:
    """The errors that a person can mend; any other is a fault of ours and shows its traceback."""
    from kws_imagebind.audio.signal import AudioError
    from kws_imagebind.datasets import DatasetError
    from kws_imagebind.demo import DemoError
    from kws_imagebind.download import DownloadError
    from kws_imagebind.embeddings.index import VectorIndexError
    from kws_imagebind.embeddings.map import MapError
    from kws_imagebind.embeddings.store import CacheError
    from kws_imagebind.embeddings.table import TableError
    from kws_imagebind.encoders import EncoderError
    from kws_imagebind.metrics.classification import MetricError
    from kws_imagebind.models.networks import NetworkError
    from kws_imagebind.readouts.arithmetic import QueryError
    from kws_imagebind.readouts.enrolment import EnrolmentError
    from kws_imagebind.readouts.support import FewShotError
    from kws_imagebind.reporting.predictions import PredictionsError
    from kws_imagebind.text.keywords import KeywordError
    from kws_imagebind.text.phonemes import PronunciationError
    from kws_imagebind.text.prompts import PromptError
    from kws_imagebind.training.supervised.recipes import TrainingError

    return (
        AudioError,
        CacheError,
        DatasetError,
        DemoError,
        DownloadError,
        EncoderError,
        EnrolmentError,
        FewShotError,
        KeywordError,
        MapError,
        MetricError,
        NetworkError,
        OSError,
        PredictionsError,
        PromptError,
        PronunciationError,
        QueryError,
        TableError,
        TrainingError,
        VectorIndexError,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    arguments = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may be what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("kws_imagebind").setLevel(logging.INFO)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        resumes = arguments.command in ("embed", "train")
        goes_on = resumes or (arguments.command == "evaluate" and not arguments.no_cache)
        say("\ninterrupted" + ("; the same command goes on from here" if goes_on else ""))
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:
        if not isinstance(error, bad_input()):
            raise
        say(f"kws-imagebind {arguments.command}: {error}")
        return BAD_INPUT
