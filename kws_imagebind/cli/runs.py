"""`report` and `compare`: what was measured, without any model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kws_imagebind.cli.options import say


def add_report(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "report",
        help="make a report from a table of predictions",
        description="Makes report.html and report.md from a table of predictions, without any model. For a table that "
        "no evaluation wrote it makes results.json too.",
    )
    command.set_defaults(run=_report)
    command.add_argument("run_", type=Path, metavar="RUN", help="a folder that evaluate wrote, or a CSV file")
    command.add_argument("--output", type=Path, metavar="DIR", help="folder to write to (default: that of the table)")
    command.add_argument("--audio", type=Path, metavar="DIR", help="folder of the clips, for playing them in the page")
    words = command.add_mutually_exclusive_group()
    words.add_argument(
        "--task", metavar="T", help="the candidates (default: those of results.json, or the words that occur)"
    )
    words.add_argument("--keywords", metavar="A,B,C", help="the candidates, as your own list")
    command.add_argument("--json", action="store_true", help="print the content of results.json")


def add_compare(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "compare",
        help="compare runs clip by clip, with intervals and p values",
        description="Compares runs clip by clip, from their predictions: differences with intervals and p values.",
    )
    command.set_defaults(run=_compare)
    command.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a folder that evaluate wrote, or a CSV file"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--mteb", type=Path, metavar="FILE", help="write the one RUN as a result file of MTEB instead")


def _report(arguments: argparse.Namespace) -> int:
    from kws_imagebind.reporting.predictions import find_predictions
    from kws_imagebind.reporting.report import load_report, write_report
    from kws_imagebind.reporting.results import RESULTS, to_json
    from kws_imagebind.reporting.sounds import search
    from kws_imagebind.text.keywords import label, parse_keywords
    from kws_imagebind.text.tasks import task

    words = None
    if arguments.task or arguments.keywords:
        chosen = task(arguments.task).keywords if arguments.task else parse_keywords(arguments.keywords)
        words = tuple(label(keyword) for keyword in chosen)
    report = load_report(arguments.run_, words, arguments.task or "")
    beside = find_predictions(arguments.run_).parent
    places = [arguments.audio] if arguments.audio else [beside, Path(), Path("data"), Path("sample")]
    folder = arguments.output or beside
    written = write_report(report, folder, search(places))
    if report.bare and folder / RESULTS not in written:
        say(f"'{folder / RESULTS}' belongs to another run and was not changed; name another folder with --output")
    for path in written:
        if arguments.json:
            say(f"wrote {path}")
        else:
            print(path)
    if arguments.json:
        print(to_json(report.as_results()), end="")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from kws_imagebind.reporting.comparison import compare
    from kws_imagebind.reporting.folder import write_all
    from kws_imagebind.reporting.mteb import mteb_result
    from kws_imagebind.reporting.predictions import PredictionsError, find_predictions, read_predictions
    from kws_imagebind.reporting.protocol import described
    from kws_imagebind.reporting.results import results_of

    tables: dict[Path, Path] = {}  # as the run was named, by the path of its table
    for run in arguments.runs:
        table = find_predictions(run).resolve()
        if table in tables:
            same = f"'{run}'" if run == tables[table] else f"'{run}', which is '{tables[table]}',"
            raise PredictionsError(f"{same} is named twice; expected different runs")
        tables[table] = run
    runs = {str(run): read_predictions(find_predictions(run)) for run in arguments.runs}
    if arguments.mteb is None:
        results = {str(run): results_of(find_predictions(run))[0] for run in arguments.runs}
        # Results that were made from a table alone do not know the candidates, only the words that occur.
        candidates = {name: list(each.per_class) for name, each in results.items() if each and not each.bare}
        kinds = {name: described(each) for name, each in results.items() if each and each.made_by}
        found = compare(runs, {name: words for name, words in candidates.items() if words}, kinds)
        print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
        return 0
    if len(runs) != 1:
        raise PredictionsError(f"{len(runs)} runs for one MTEB result; expected one")
    result = json.dumps(mteb_result(next(iter(runs.values()))), indent=2)
    write_all({arguments.mteb: f"{result}\n".encode()})
    say(f"wrote {arguments.mteb}")
    return 0
