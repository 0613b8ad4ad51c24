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
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from kws_imagebind.datasets import Dataset
    from kws_imagebind.embedding import Embeddings
    from kws_imagebind.embedding_map import EmbeddingMap
    from kws_imagebind.encoders import Encoder
    from kws_imagebind.open_set import Outcome, Rejection
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
    _add_describe(commands)
    _add_submit(commands)
    _add_prompts(commands)
    _add_demo(commands)
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
    data = _add_data_options(command)
    data.add_argument("--limit", type=_positive, metavar="N", help="a random subset of N clips")
    data.add_argument("--seed", type=int, default=0, metavar="K", help="of the subset (default 0)")
    data.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="at an unusable recording")
    run = command.add_argument_group("run")
    run.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split of speech-commands"
    )
    rejecting = run.add_mutually_exclusive_group()
    rejecting.add_argument(
        "--reject",
        action="store_true",
        help="no prompts for silence and unknown: thresholds chosen on validation clips",
    )
    rejecting.add_argument(
        "--open-set", action="store_true", help="also try to turn away the split's other words and background noise"
    )
    run.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="clips at once (default 64)")
    run.add_argument("--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of embeddings (default {CACHE})")
    run.add_argument("--no-cache", action="store_true", help="encode every clip again and keep nothing")
    run.add_argument("--output", type=Path, metavar="DIR", help="where to write the report")
    run.add_argument("--map", action="store_true", help="with --output: also a map of the clips by t-SNE")
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


def _add_describe(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "describe",
        help="count the clips and speakers of each word of a data set",
        description="Counts the clips and speakers of each word of a data set, before anything is measured.",
    )
    command.set_defaults(run=_describe)
    _add_data_options(command)
    command.add_argument("--output", type=Path, metavar="FILE.png", help="draw the distribution there")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_submit(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "submit",
        help="label a folder of clips as Google's challenge asks: fname,label",
        description="Labels the clips of a folder and writes fname,label, the challenge's submission.",
    )
    command.set_defaults(run=_submit)
    command.add_argument("folder", type=Path, metavar="FOLDER", help="recordings that nobody has labelled")
    command.add_argument("--output", type=Path, required=True, metavar="FILE.csv", help="where to write")
    words = command.add_mutually_exclusive_group()
    words.add_argument("--task", default="v2-12", metavar="T", help="the labels (default v2-12)")
    words.add_argument("--keywords", metavar="A,B,C", help="the labels, as your own list")
    command.add_argument(
        "--below", nargs=2, type=float, metavar=("S", "U"),
        help="silence below a best score of S, unknown below a lead of U over the filler words, as 'evaluate --reject' "
        "chooses them; without it both are prompts like any word",
    )  # fmt: skip
    run = command.add_argument_group("run")
    run.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="clips at once (default 64)")
    run.add_argument("--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of embeddings (default {CACHE})")
    run.add_argument("--no-cache", action="store_true", help="encode every clip again and keep nothing")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_encoder_options(command)


def _add_prompts(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "prompts",
        help="choose the prompt on validation clips, and report it on testing clips",
        description="Tries sets of prompts on the validation split of speech-commands and reports them on another.",
    )
    command.set_defaults(run=_prompts, reject=False, limit=None, on_error="raise")
    _add_encoder_options(command)
    _add_data_options(command)
    run = command.add_argument_group("run")
    run.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="clips at once (default 64)")
    run.add_argument("--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of embeddings (default {CACHE})")
    run.add_argument("--no-cache", action="store_true", help="encode every clip again and keep nothing")
    run.add_argument("--json", action="store_true", help="print JSON")
    run.add_argument("--quiet", action="store_true", help="no progress bar")


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


def _add_demo(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "demo",
        help="a page in the browser to speak to",
        description="Serves a page to speak to: words ranked, random clips, statistics. It needs the extra 'demo'.",
    )
    command.set_defaults(run=_demo)
    page = command.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", metavar="H", help="to listen on (default 127.0.0.1, only here)")
    page.add_argument("--port", type=_positive, metavar="P", help="by default a free one")
    page.add_argument("--no-browser", action="store_true", help="do not open it")
    _add_encoder_options(command)
    _add_data_options(command)
    page.add_argument(
        "--cache", type=Path, default=Path(CACHE), metavar="DIR", help=f"of the data's embeddings (default {CACHE})"
    )


def _demo(arguments: argparse.Namespace) -> int:
    from kws_imagebind.demo import check_installed

    check_installed()
    _say("starting the demo, which takes some seconds")
    import kws_imagebind as kws
    from kws_imagebind.demo.answers import Answers
    from kws_imagebind.demo.app import serve

    dataset = _dataset(arguments)
    encoder = kws.load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    answers = Answers(encoder, dataset, arguments.cache, _templates(arguments), arguments.average)
    serve(answers, arguments.host, arguments.port, browser=not arguments.no_browser)
    return 0


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


def _add_data_options(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    data = command.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="DIR", help="where the data set lies")
    data.add_argument("--dataset", metavar="NAME", help="sample, speech-commands or folder; by default what DIR holds")
    data.add_argument("--dataset-version", metavar="V", help="of speech-commands: v0.01 or v0.02")
    data.add_argument("--download", action="store_true", help="fetch speech-commands (2.4 GB) if it is not there")
    data.add_argument("--split", metavar="S", help="of speech-commands: training, validation, testing (default) or all")
    data.add_argument("--task", metavar="T", help="a named choice of keywords, see 'kws-imagebind list'")
    data.add_argument("--keywords", metavar="A,B,C", help="your own choice; ARPAbet as in 'kettle=/K EH T AH L/'")
    return data


def _add_encoder_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("encoder")
    group.add_argument("--encoder", default="phonebind", metavar="NAME", help="see 'kws-imagebind list'")
    prompts = group.add_mutually_exclusive_group()
    prompts.add_argument(
        "--template", action="append", metavar="T", help="prompt with {} for the word; may be repeated"
    )
    prompts.add_argument("--prompts", metavar="SET", help="a named set of templates: bare, saying, clip, speech")
    group.add_argument("--average", choices=("embedding", "score"), default="embedding", help="of several templates")
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")
    group.add_argument("--precision", default="auto", metavar="P", help="auto, fp32, bf16, fp16, int8")


def _positive(text: str) -> int:
    number = int(text) if text.lstrip("-").isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return number


def _evaluate(arguments: argparse.Namespace) -> int:
    import kws_imagebind as kws
    from kws_imagebind.metrics import MetricError

    if arguments.reject and arguments.calibrate:
        raise MetricError(
            "--reject decides by thresholds, so there is no temperature for --calibrate; take one of them"
        )
    dataset = _dataset(arguments)
    dataset = dataset.subset(arguments.limit, arguments.seed) if arguments.limit else dataset
    if arguments.map:
        _check_map(arguments, dataset)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)  # or say now, not after all clips, that it cannot be
    encoder = kws.load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    scorer = kws.ZeroShotClassifier(encoder, dataset.keywords, _templates(arguments), arguments.average)
    audio = _embed(arguments, dataset, encoder)
    scores, rejection = scorer(audio), None
    if arguments.reject:
        rejection, words, fillers = _rejection(arguments, dataset, encoder)
        scores = rejection(words(audio), fillers(audio), dataset.labels)
    result = kws.evaluate(
        scores,
        audio,
        seed=arguments.seed if arguments.limit else None,
        temperature=_temperature(arguments, dataset, encoder, scorer) if arguments.calibrate else None,
    )
    if arguments.open_set:
        result = replace(result, open_set=_open_set(arguments, dataset, encoder, scorer, audio))
    result = replace(result, rejection=rejection, map=_map(arguments, audio) if arguments.map else None)
    print(json.dumps(result.as_dict(), ensure_ascii=False) if arguments.json else result)
    if arguments.output:
        written = result.save(arguments.output)
        _say(f"wrote {', '.join(path.name for path in written)} in {arguments.output}")
        if not any(path.suffix == ".png" for path in written):
            _say("no figures were drawn: install matplotlib, or this package with its extra 'plots'")
    return 0


def _check_map(arguments: argparse.Namespace, dataset: Dataset) -> None:
    """Says now, and not after all clips, that there can be no map."""
    from kws_imagebind.embedding_map import MapError, check_map

    if not arguments.output:
        raise MapError("--map writes map.csv and draws it in the report; name their folder with --output")
    check_map(len(dataset))


def _map(arguments: argparse.Namespace, audio: Embeddings) -> EmbeddingMap:
    from kws_imagebind.embedding_map import draw_map

    if not arguments.quiet:
        _say("laying out the map, which takes up to half a minute")
    return draw_map(audio.features.numpy(), [utterance.key for utterance in audio.utterances])


def _temperature(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder, scorer: ZeroShotClassifier
) -> float:
    """The temperature that validation clips ask for."""
    from kws_imagebind.evaluation import fit_on_validation

    audio = _validation(arguments, dataset, encoder)
    return fit_on_validation(scorer(audio), audio)


def _rejection(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder
) -> tuple[Rejection, ZeroShotClassifier, ZeroShotClassifier]:
    """Thresholds that validation clips ask for, and what scores the keywords and the fillers they are for."""
    import kws_imagebind as kws
    from kws_imagebind.keywords import FILLERS, SILENCE, UNKNOWN, KeywordError
    from kws_imagebind.open_set import fit_rejection

    if not {SILENCE, UNKNOWN} <= set(dataset.labels):
        raise KeywordError(f"task '{dataset.task}' has no labels {SILENCE} and {UNKNOWN} to reject into; v2-12 has")
    words = [word for word in dataset.keywords if word not in (SILENCE, UNKNOWN)]
    scorer = kws.ZeroShotClassifier(encoder, words, _templates(arguments), arguments.average)
    audio = _validation(arguments, dataset, encoder)
    spoken = [utterance.label for utterance in audio.utterances]
    fillers = kws.ZeroShotClassifier(encoder, FILLERS, _templates(arguments), arguments.average)
    return fit_rejection(scorer(audio), fillers(audio), spoken, audio.dataset.split), scorer, fillers


def _open_set(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder, scorer: ZeroShotClassifier, audio: Embeddings
) -> tuple[Outcome, ...]:
    """How well clips that say none of the keywords can be turned away."""
    from kws_imagebind.datasets import Dataset, DatasetError
    from kws_imagebind.datasets.twelve import load_outsiders
    from kws_imagebind.keywords import SILENCE, UNKNOWN
    from kws_imagebind.open_set import open_set

    if dataset.name != "speech-commands":
        raise DatasetError(f"data set '{dataset.name}' has no other words and no noise; speech-commands has")
    if {SILENCE, UNKNOWN} & set(dataset.labels):
        raise DatasetError(f"task '{dataset.task}' prompts for {SILENCE} and {UNKNOWN}; take --reject, or another task")
    version = "v0.01" if "v0.01" in dataset.note else "v0.02"
    split = dataset.split or "testing"
    others = load_outsiders(arguments.data or Path("data"), split, version, dataset.labels)
    labels = tuple(dict.fromkeys(utterance.label for utterance in others))
    outside = _embed(arguments, Dataset(dataset.name, others, labels, "outsiders", split), encoder)
    who = [[utterance.speaker for utterance in each.utterances] for each in (audio, outside)]
    kinds = [utterance.label for utterance in outside.utterances]
    return open_set(scorer(audio), scorer(outside), kinds, (who[0], who[1]))


def _validation(arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder) -> Embeddings:
    """The validation clips of the same choice."""
    import kws_imagebind as kws
    from kws_imagebind.datasets import DatasetError

    if dataset.name != "speech-commands":
        raise DatasetError(f"data set '{dataset.name}' has no validation split to choose with; speech-commands has")
    own = dataset.task == "custom"
    validation = kws.load_dataset(
        dataset.name,
        root=arguments.data,
        split="validation",
        task=None if own else dataset.task,
        keywords=dataset.keywords if own else None,
        version=arguments.dataset_version,
    )
    return _embed(arguments, validation, encoder)


def _embed(arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder) -> Embeddings:
    import kws_imagebind as kws

    return kws.embed(
        encoder,
        dataset,
        cache=None if arguments.no_cache else arguments.cache,
        batch_size=arguments.batch_size,
        on_error=arguments.on_error,
        progress=not arguments.quiet,
    )


def _dataset(arguments: argparse.Namespace) -> Dataset:
    from kws_imagebind.datasets import load_dataset
    from kws_imagebind.datasets.speech_commands import VERSIONS, find_corpus
    from kws_imagebind.datasets.twelve import find_test_set
    from kws_imagebind.keywords import KeywordError

    name = arguments.dataset
    if name is None and arguments.data is None:
        name = "speech-commands" if arguments.download else "sample"
    elif name is None:
        official = arguments.download or any(
            find_corpus(arguments.data, version) or find_test_set(arguments.data, version) for version in VERSIONS
        )
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
    return dataset


def _describe(arguments: argparse.Namespace) -> int:
    from kws_imagebind.description import describe

    found = describe(_dataset(arguments))
    print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
    if arguments.output:
        from kws_imagebind.plots import distribution_figure, save_figure

        words = found.words
        figure = distribution_figure([each.clips for each in words], [each.word for each in words], found.title)
        save_figure(figure, arguments.output)
        _say(f"wrote {arguments.output}")
    return 0


def _submit(arguments: argparse.Namespace) -> int:
    import kws_imagebind as kws
    from kws_imagebind.keywords import FILLERS, SILENCE, UNKNOWN, KeywordError, label, parse_keywords, task
    from kws_imagebind.open_set import Rejection
    from kws_imagebind.submission import submission_csv, unlabelled

    keywords = parse_keywords(arguments.keywords) if arguments.keywords else task(arguments.task).keywords
    labels = tuple(label(keyword) for keyword in keywords)
    rejected = {SILENCE, UNKNOWN} if arguments.below else set()
    if not rejected <= set(labels):
        raise KeywordError(f"--below rejects into {SILENCE} and {UNKNOWN}, which are not both among the labels")
    clips = unlabelled(arguments.folder)
    encoder = kws.load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    prompted = [keyword for keyword in keywords if label(keyword) not in rejected]
    arguments.on_error = "raise"
    audio = _embed(arguments, clips, encoder)
    scores = kws.ZeroShotClassifier(encoder, prompted, _templates(arguments), arguments.average)(audio)
    if arguments.below:
        fillers = kws.ZeroShotClassifier(encoder, FILLERS, _templates(arguments), arguments.average)
        scores = Rejection(*arguments.below)(scores, fillers(audio), labels)
    arguments.output.write_text(submission_csv(scores, audio.utterances), encoding="utf-8")
    _say(f"wrote {len(audio):,} labels in {arguments.output}")
    return 0


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
    from kws_imagebind.results import results_of

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
    _say(f"wrote {arguments.mteb}")
    return 0


def _prompts(arguments: argparse.Namespace) -> int:
    from kws_imagebind import load_encoder
    from kws_imagebind.prompt_study import study

    dataset = _dataset(arguments)
    encoder = load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    validation = _validation(arguments, dataset, encoder)
    own = _templates(arguments)
    testing = _embed(arguments, dataset, encoder)
    found = study(encoder, dataset.keywords, validation, testing, {"own": own} if own else None)
    print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
    return 0


def _templates(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """The templates asked for; None leaves the encoder its own."""
    from kws_imagebind.prompts import template_set

    if arguments.prompts:
        return template_set(arguments.prompts)
    return tuple(arguments.template) if arguments.template else None


def _spot(arguments: argparse.Namespace) -> int:
    from kws_imagebind import AudioError, ZeroShotClassifier, load_encoder
    from kws_imagebind.spotting import rank

    encoder = load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    scorer = ZeroShotClassifier(encoder, arguments.words, _templates(arguments), arguments.average)
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

    modalities = None if arguments.modalities is None else arguments.modalities.split(",")
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
    from kws_imagebind.demo import DemoError
    from kws_imagebind.download import DownloadError
    from kws_imagebind.embedding_map import MapError
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
        DemoError,
        DownloadError,
        EncoderError,
        KeywordError,
        MapError,
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
