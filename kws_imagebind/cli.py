"""The command line.

Results go to stdout, progress and notices to stderr; bad input ends with exit code 2 and one line.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from kws_imagebind.datasets import Dataset
    from kws_imagebind.encoders import Encoder
    from kws_imagebind.zero_shot import ZeroShotClassifier

BAD_INPUT = 2
INTERRUPTED = 130
UNREAD = 141  # what a shell reports of a program that SIGPIPE ended
CACHE = ".cache"


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(prog="kws-imagebind", description="Zero-shot keyword spotting, measured honestly.")
    top.add_argument("--version", action="version", version=f"kws-imagebind {_version()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_evaluate(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_spot(commands)
    _add_download(commands)
    _add_list(commands)
    return top


def _version() -> str:
    try:
        return version("kws-imagebind")
    except PackageNotFoundError:
        return "(not installed)"


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure an encoder on recordings of known words",
        description="Measures an encoder on recordings of known words; by default the bundled one on the sample.",
    )
    command.set_defaults(run=_evaluate)
    _add_encoder_options(command)
    data = command.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="DIR", help="where the data set lies")
    data.add_argument("--dataset", metavar="NAME", help="sample, speech-commands or folder; by default what DIR holds")
    data.add_argument("--dataset-version", metavar="V", help="of speech-commands: v0.01 or v0.02")
    data.add_argument("--download", action="store_true", help="fetch speech-commands (2.4 GB) if it is not there")
    data.add_argument("--split", metavar="S", help="of speech-commands: training, validation, testing (default) or all")
    data.add_argument("--task", metavar="T", help="a named choice of keywords, see 'kws-imagebind list'")
    data.add_argument("--keywords", metavar="A,B,C", help="your own choice; ARPAbet as in 'kettle=/K EH T AH L/'")
    data.add_argument("--limit", type=_positive, metavar="N", help="a random subset of N clips")
    data.add_argument("--seed", type=int, default=0, metavar="K", help="of the subset (default 0)")
    data.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="at an unusable recording")
    run = command.add_argument_group("run")
    run.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split of speech-commands"
    )
    run.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="clips at once (default 64)")
    run.add_argument("--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of embeddings (default {CACHE})")
    run.add_argument("--no-cache", action="store_true", help="encode every clip again and keep nothing")
    run.add_argument("--output", type=Path, metavar="DIR", help="where to write the report")
    run.add_argument("--json", action="store_true", help="print the content of results.json instead of the table")
    run.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_report(commands: argparse._SubParsersAction) -> None:
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


def _add_compare(commands: argparse._SubParsersAction) -> None:
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


def _add_spot(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "spot",
        help="rank words by how well a recording fits them",
        description="Ranks words by how well a recording fits them. The score is a cosine, from -1 to 1.",
    )
    command.set_defaults(run=_spot)
    command.add_argument("recordings", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, Ogg, MP3, …")
    command.add_argument("--words", required=True, metavar="A,B,C", help="ARPAbet as in 'kettle=/K EH T AH L/'")
    command.add_argument("--top", type=_positive, metavar="N", help="only the N best")
    _add_encoder_options(command)
    command.add_argument("--json", action="store_true", help="print JSON, one object a recording and line")


def _add_download(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "download",
        help="fetch the weights of an encoder that is not bundled",
        description="Fetches weights, verifies them, and goes on where an earlier attempt was cut.",
    )
    command.set_defaults(run=_download)
    command.add_argument("encoder", choices=("imagebind",))
    command.add_argument("--modalities", metavar="A,B", help="audio,text are 1.8 GB of 4.8; default everything")
    command.add_argument("--checkpoints", type=Path, metavar="DIR", help="where to put them (default .checkpoints)")


def _add_list(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("list", help="the encoders, data sets and tasks that exist")
    command.set_defaults(run=_list)
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_encoder_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("encoder")
    group.add_argument("--encoder", default="phonebind", metavar="NAME", help="see 'kws-imagebind list'")
    group.add_argument("--template", action="append", metavar="T", help="prompt with {} for the word; may be repeated")
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")
    group.add_argument("--precision", default="auto", metavar="P", help="auto, fp32, bf16, fp16, int8")


def _positive(text: str) -> int:
    number = int(text) if text.lstrip("-").isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return number


def _evaluate(arguments: argparse.Namespace) -> int:
    import kws_imagebind as kws

    dataset = _dataset(arguments)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)  # or say now, not after all clips, that it cannot be
    encoder = kws.load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    scorer = kws.ZeroShotClassifier(encoder, dataset.keywords, arguments.template)
    audio = kws.embed(
        encoder,
        dataset,
        cache=None if arguments.no_cache else arguments.cache,
        batch_size=arguments.batch_size,
        on_error=arguments.on_error,
        progress=not arguments.quiet,
    )
    result = kws.evaluate(
        scorer(audio),
        audio,
        seed=arguments.seed if arguments.limit else None,
        temperature=_temperature(arguments, dataset, encoder, scorer) if arguments.calibrate else None,
    )
    print(json.dumps(result.as_dict(), ensure_ascii=False) if arguments.json else result)
    if arguments.output:
        written = result.save(arguments.output)
        _say(f"wrote {', '.join(path.name for path in written)} in {arguments.output}")
        if not any(path.suffix == ".png" for path in written):
            _say("no figures were drawn: install matplotlib, or this package with its extra 'plots'")
    return 0


def _temperature(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder, scorer: ZeroShotClassifier
) -> float:
    """The temperature that validation clips ask for."""
    import kws_imagebind as kws
    from kws_imagebind.datasets import DatasetError
    from kws_imagebind.evaluation import fit_on_validation

    if dataset.name != "speech-commands":
        raise DatasetError(
            f"data set '{dataset.name}' has no validation split to calibrate on; only speech-commands does"
        )
    validation = kws.load_dataset(
        dataset.name,
        root=arguments.data,
        split="validation",
        keywords=dataset.keywords,
        version=arguments.dataset_version,
    )
    audio = kws.embed(
        encoder,
        validation,
        cache=None if arguments.no_cache else arguments.cache,
        batch_size=arguments.batch_size,
        on_error=arguments.on_error,
        progress=not arguments.quiet,
    )
    return fit_on_validation(scorer(audio), audio)


def _dataset(arguments: argparse.Namespace) -> Dataset:
    from kws_imagebind.datasets import load_dataset
    from kws_imagebind.datasets.speech_commands import VERSIONS, find_corpus
    from kws_imagebind.keywords import KeywordError

    name = arguments.dataset
    if name is None and arguments.data is None:
        name = "speech-commands" if arguments.download else "sample"
    elif name is None:
        official = arguments.download or any(find_corpus(arguments.data, version) for version in VERSIONS)
        name = "speech-commands" if official else "folder"
    dataset = load_dataset(
        name,
        root=arguments.data,
        split=arguments.split,
        task=arguments.task,
        keywords=arguments.keywords,
        download=arguments.download,
        version=arguments.dataset_version,
    )
    if len(dataset.keywords) < 2:
        raise KeywordError(f"'{dataset.keywords[0]}' is the only keyword; a choice needs at least two")
    return dataset.subset(arguments.limit, arguments.seed) if arguments.limit else dataset


def _report(arguments: argparse.Namespace) -> int:
    from kws_imagebind.keywords import label, parse_keywords, task
    from kws_imagebind.predictions import find_predictions
    from kws_imagebind.report import load_report, search, write_report

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
    from kws_imagebind.comparison import compare
    from kws_imagebind.mteb import mteb_result
    from kws_imagebind.predictions import PredictionsError, find_predictions, read_predictions

    runs = {str(run): read_predictions(find_predictions(run)) for run in arguments.runs}
    if arguments.mteb is None:
        found = compare(runs)
        print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
        return 0
    if len(runs) != 1:
        raise PredictionsError(f"{len(runs)} runs for one MTEB result; expected one")
    result = json.dumps(mteb_result(next(iter(runs.values()))), indent=2)
    arguments.mteb.write_text(result + "\n", encoding="utf-8")
    _say(f"wrote {arguments.mteb}")
    return 0


def _spot(arguments: argparse.Namespace) -> int:
    from kws_imagebind import AudioError, ZeroShotClassifier, load_encoder
    from kws_imagebind.spotting import rank

    encoder = load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    scorer = ZeroShotClassifier(encoder, arguments.words, arguments.template)
    code = 0
    for recording in arguments.recordings:
        try:
            ranked = rank(recording, encoder, scorer)[: arguments.top]
        except AudioError as error:  # the other recordings still get their answer
            _say(f"kws-imagebind spot: {error}")
            code = BAD_INPUT
            continue
        if arguments.json:
            scores = [{"word": word, "score": round(score, 6)} for word, score in ranked]
            print(json.dumps({"recording": str(recording), "encoder": encoder.name, "scores": scores}))
            continue
        if len(arguments.recordings) > 1:
            print(recording)
        width = max(len(word) for word, _ in ranked)
        for word, score in ranked:
            print(f"{word:<{width}}  {score:6.3f}  {_bar(score)}".rstrip())
    return code


def _bar(score: float) -> str:
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * round(30 * max(0.0, score))
    return "█" * round(30 * max(0.0, score))


def _download(arguments: argparse.Namespace) -> int:
    from kws_imagebind.encoders.imagebind_download import download

    modalities = arguments.modalities.split(",") if arguments.modalities else None
    print(download(arguments.checkpoints, modalities))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from kws_imagebind.datasets import DATASETS
    from kws_imagebind.encoders import ENCODERS
    from kws_imagebind.keywords import TASKS

    found = {
        "encoders": {name: entry.description for name, entry in ENCODERS.items()},
        "datasets": dict(DATASETS),
        "tasks": {name: ", ".join(task.keywords) for name, task in TASKS.items()},
    }
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    width = max(len(name) for entries in found.values() for name in entries)
    for heading, entries in found.items():
        print(heading)
        for name, description in entries.items():
            print(f"  {name:<{width}}  {description}")
    return 0


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _bad_input() -> tuple[type[Exception], ...]:
    """The errors that a person can mend; any other is a fault of ours and shows its traceback."""
    from kws_imagebind.audio import AudioError
    from kws_imagebind.cache import CacheError
    from kws_imagebind.datasets import DatasetError
    from kws_imagebind.download import DownloadError
    from kws_imagebind.encoders import EncoderError
    from kws_imagebind.keywords import KeywordError
    from kws_imagebind.metrics import MetricError
    from kws_imagebind.phonemes import PronunciationError
    from kws_imagebind.predictions import PredictionsError
    from kws_imagebind.prompts import PromptError

    return (
        AudioError,
        CacheError,
        DatasetError,
        DownloadError,
        EncoderError,
        KeywordError,
        MetricError,
        OSError,
        PredictionsError,
        PromptError,
        PronunciationError,
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
        goes_on = arguments.command == "evaluate" and not arguments.no_cache
        _say("\ninterrupted" + ("; the same command goes on from the cache" if goes_on else ""))
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except Exception as error:
        if not isinstance(error, _bad_input()):
            raise
        _say(f"kws-imagebind {arguments.command}: {error}")
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
