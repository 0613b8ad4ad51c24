"""`leaderboard`: several encoders on one data set in one table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kws_imagebind.cli.options import add_data_options, check_folder, positive, say


def add_leaderboard(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "leaderboard",
        help="measure several encoders on the same clips, with their costs and licences",
        description="Measures several encoders on the same clips, each in its own process: accuracy with interval and "
        "paired test, pair EER, open set, time, memory and licence. An encoder that fails is listed with the reason.",
    )
    command.set_defaults(run=_leaderboard)
    command.add_argument("encoders", nargs="+", metavar="ENCODER", help="see 'kws-imagebind list'")
    data = add_data_options(command)
    data.add_argument("--limit", type=positive, metavar="N", help="a random subset of N clips")
    data.add_argument("--seed", type=int, default=0, metavar="K", help="of the subset (default 0)")
    data.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="at an unusable recording")
    run = command.add_argument_group("run")
    run.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")
    run.add_argument("--precision", default="auto", metavar="P", help="auto, fp32, bf16, fp16, int8")
    run.add_argument("--checkpoints", type=Path, metavar="DIR", help="folder of ImageBind's downloaded weights")
    run.add_argument("--batch-size", type=positive, default=64, metavar="N", help="clips at once (default 64)")
    run.add_argument(
        "--output", type=Path, metavar="DIR", help="write JSON, CSV, HTML, PNG and a section of the report there"
    )
    run.add_argument("--json", action="store_true", help="print the content of leaderboard.json instead of the table")
    run.add_argument("--quiet", action="store_true", help="do not say on stderr which encoder is measured")


def _leaderboard(arguments: argparse.Namespace) -> int:
    from kws_imagebind.datasets.registry import dataset_at
    from kws_imagebind.encoders import EncoderError
    from kws_imagebind.evaluation.leaderboard import Request, leaderboard

    request = Request(
        dataset=arguments.dataset or dataset_at(arguments.data, arguments.download),
        root=str(arguments.data) if arguments.data else None,
        split=arguments.split,
        task=arguments.task,
        keywords=arguments.keywords,
        version=arguments.dataset_version,
        limit=arguments.limit,
        seed=arguments.seed,
        device=arguments.device,
        precision=arguments.precision,
        checkpoints=str(arguments.checkpoints) if arguments.checkpoints else None,
        batch_size=arguments.batch_size,
        on_error=arguments.on_error,
    )
    if arguments.output:
        check_folder(arguments.output)
    board = leaderboard(arguments.encoders, request, (lambda message: None) if arguments.quiet else say)
    if not board.rows:
        said = len(board.failed) > 1 and not arguments.quiet
        reasons = "; ".join(f"{name}: {why}" for name, why in board.failed.items())
        raise EncoderError("no encoder could be measured; " + ("the reasons are above" if said else reasons))
    print(json.dumps(board.as_dict(), ensure_ascii=False) if arguments.json else board)
    if arguments.output:
        written = board.save(arguments.output) + _report_beside(arguments.output)
        say(f"wrote {', '.join(path.name for path in written)} in {arguments.output}")
    return 0


def _report_beside(folder: Path) -> list[Path]:
    """Makes the report of a run in this folder again, so that it has the leaderboard as a section."""
    from kws_imagebind.reporting.report import load_report, write_report
    from kws_imagebind.reporting.results import TABLE
    from kws_imagebind.reporting.sounds import search

    if not (folder / TABLE).is_file():
        return []
    return write_report(load_report(folder), folder, search([folder, Path(), Path("data"), Path("sample")]))
