"""The page in the browser: `demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from kws_imagebind.cli.options import (
    CACHE,
    add_data_options,
    add_encoder_options,
    chosen_dataset,
    chosen_encoder,
    chosen_templates,
    positive,
    say,
)


def add_demo(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "demo",
        help="a page in the browser to speak to",
        description="Serves a page to speak to: words ranked, random clips, statistics. It needs the extra 'demo'.",
    )
    command.set_defaults(run=_demo)
    page = command.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", metavar="H", help="to listen on (default 127.0.0.1, only here)")
    page.add_argument("--port", type=positive, metavar="P", help="by default a free one")
    page.add_argument("--no-browser", action="store_true", help="do not open it")
    page.add_argument(
        "--words", type=Path, metavar="FILE.kws", help="of 'enrol': words with your own recordings of them"
    )
    add_encoder_options(command)
    add_data_options(command)
    page.add_argument(
        "--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of the data's embeddings (default {CACHE})"
    )


def _demo(arguments: argparse.Namespace) -> int:
    from kws_imagebind.demo import check_installed

    check_installed()
    say("starting the demo, which takes some seconds")
    from kws_imagebind.demo.answers import Answers
    from kws_imagebind.demo.app import serve
    from kws_imagebind.readouts.enrolment import Enrolment

    dataset = chosen_dataset(arguments)
    encoder = chosen_encoder(arguments)
    templates = chosen_templates(arguments)
    enrolled = Enrolment.load(arguments.words) if arguments.words else None
    if enrolled:
        enrolled.check(encoder)
    answers = Answers(encoder, dataset, arguments.cache, templates, arguments.average, enrolled=enrolled)
    serve(answers, arguments.host, arguments.port, browser=not arguments.no_browser)
    return 0
