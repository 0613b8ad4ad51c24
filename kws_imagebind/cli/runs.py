"""`report` and `compare`: what was measured, without any model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kws_imagebind.cli.options import say


def add_report(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "report",
        help="make report.html and report.md from a table of predictions",
        description="Makes report.html and report.md from a table of predictions alone, without any model.",
    )
    command.set_defaults(run=_report)
    command.add_argument("run_", type=Path, metavar="RUN", help="a folder that evaluate wrote, or a CSV file")
    command.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: beside the table)")
    command.add_argument("--audio", type=Path, metavar="DIR", help="where the clips lie, to make the worst playable")
    words = command.add_mutually_exclusive_group()
    words.add_argument("--task", metavar="T", help="the candidates; by default those of results.json, or what occurs")
    words.add_argument("--keywords", metavar="A,B,C", help="the candidates, as your own list")


def add_compare(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "compare",
        help="tell which of several runs is better, and whether that can be chance",
        description="Compares runs clip by clip, from their predictions: differences with intervals and p values.",
    )
    command.set_defaults(run=_compare)
    command.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a folder that evaluate wrote, or a CSV file"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--mteb", type=Path, metavar="FILE", help="write the one RUN as MTEB's result JSON instead")


def _report(arguments: argparse.Namespace) -> int:
    from kws_imagebind.reporting.predictions import find_predictions
    from kws_imagebind.reporting.report import load_report, search, write_report
    from kws_imagebind.text.keywords import label, parse_keywords
    from kws_imagebind.text.tasks import task

    words = None
    if arguments.task or arguments.keywords:
        chosen = task(arguments.task).keywords if arguments.task else parse_keywords(arguments.keywords)
        words = tuple(label(keyword) for keyword in chosen)
    report = load_report(arguments.run_, words)
    beside = find_predictions(arguments.run_).parent
    places = [arguments.audio] if arguments.audio else [beside, Path(), Path("data"), Path("sample")]
    for path in write_report(report, arguments.output or beside, search(places)):
        print(path)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from kws_imagebind.reporting.comparison import compare
    from kws_imagebind.reporting.mteb import mteb_result
    from kws_imagebind.reporting.predictions import PredictionsError, find_predictions, read_predictions
    from kws_imagebind.reporting.results import results_of

    tables: dict[Path, Path] = {}  # as it was named, by where it lies
    for run in arguments.runs:
        table = find_predictions(run).resolve()
        if table in tables:
            same = f"'{run}'" if run == tables[table] else f"'{run}', which is '{tables[table]}',"
            raise PredictionsError(f"{same} is named twice; expected different runs")
        tables[table] = run
    runs = {str(run): read_predictions(find_predictions(run)) for run in arguments.runs}
    if arguments.mteb is None:
        told = {str(run): results_of(find_predictions(run))[0].get("per_class") for run in arguments.runs}
        found = compare(runs, {name: list(words) for name, words in told.items() if words})
        print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
        return 0
    if len(runs) != 1:
        raise PredictionsError(f"{len(runs)} runs for one MTEB result; expected one")
    result = json.dumps(mteb_result(next(iter(runs.values()))), indent=2)
    arguments.mteb.write_text(result + "\n", encoding="utf-8")
    say(f"wrote {arguments.mteb}")
    return 0
