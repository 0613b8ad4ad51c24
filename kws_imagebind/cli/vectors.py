"""`embed`, `few-shot` and `probe`: vectors that are made once, and what is learnt from labelled ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kws_imagebind.cli.options import (
    add_data_options,
    add_encoder_options,
    add_run_options,
    check_folder,
    check_table,
    chosen_dataset,
    chosen_encoder,
    chosen_templates,
    embed_clips,
    is_table,
    positive,
    say,
    table_of,
)
from kws_imagebind.registry import to_install

if TYPE_CHECKING:
    from kws_imagebind.datasets import Dataset
    from kws_imagebind.datasets.base import Stream
    from kws_imagebind.embeddings.embed import Embeddings
    from kws_imagebind.embeddings.executors.parts import Parts, Tell
    from kws_imagebind.encoders import Encoder
    from kws_imagebind.evaluation.learning_curve import LearningCurve
    from kws_imagebind.readouts.support import Sampling
    from kws_imagebind.readouts.zero_shot import ZeroShotClassifier

CHOOSING = ("training", "validation")  # splits to learn from


def add_embed(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "embed",
        help="encode recordings once and keep their vectors in a Parquet table",
        description="Encodes the clips of a data set and writes a Parquet table, one row a clip. Commands that take "
        "--data take such a table instead, and need no audio then. pandas, DuckDB and Ray read it as well. The table "
        "grows in parts in a folder beside it; a run that was stopped goes on from the finished parts.",
    )
    command.set_defaults(run=_embed)
    add_encoder_options(command)
    data = add_data_options(command)
    data.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="at an unusable recording")
    run = command.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--output", type=Path, required=True, metavar="FILE.parquet", help="where to write")
    run.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="local: this process (default); ray: the workers "
        "of this machine or, with RAY_ADDRESS, of a cluster; they use no cache",
    )  # fmt: skip
    run.add_argument(
        "--workers", type=positive, metavar="N", help="of ray; by default one for each GPU, or else for each CPU"
    )
    run.add_argument("--part", type=positive, default=4096, metavar="N", help="clips in a part (default 4096)")
    run.add_argument("--quiet", action="store_true", help="no progress bar")


def add_few_shot(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "few-shot",
        help="measure what a few labelled clips of each word are worth",
        description="Learns from a few clips of each word and reports the accuracy on other clips: for each number of "
        "clips a mean over random draws, with one interval for draws and test speakers. Protocols: 'speakers' (ours: "
        "support and test speakers differ), 'mteb' (8 clips a word, 10 draws), 'imagebind' (the same fixed clips for "
        "all encoders).",
    )
    command.set_defaults(run=_few_shot, on_error="raise")
    _add_learning_options(command)
    how = command.add_argument_group("protocol")
    how.add_argument("--protocol", default="speakers", metavar="P", help="speakers (default), mteb or imagebind")
    how.add_argument("--shots", type=_numbers, metavar="K,K", help="clips a word; by default the protocol's")
    how.add_argument("--draws", type=positive, metavar="N", help="support sets; by default the protocol's")


def add_probe(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "probe",
        help="measure what all labelled clips are worth",
        description="Learns from all labelled clips that there are and reports the accuracy on other clips, of other "
        "speakers where speakers are known.",
    )
    command.set_defaults(run=_probe, on_error="raise")
    _add_learning_options(command)


def _add_learning_options(command: argparse.ArgumentParser) -> None:
    add_encoder_options(command)
    command.set_defaults(encoder=None)
    add_data_options(command)
    learning = command.add_argument_group("learning")
    learning.add_argument(
        "--support", nargs="+", type=Path, metavar="PATH", help="what to learn from: tables of 'embed', folders, or "
        "where speech-commands lies; by default the training and validation clips beside the reported ones",
    )  # fmt: skip
    learning.add_argument(
        "--readout", default="all", metavar="A,B",
        help="class-mean, logistic, text-held, linear-head, your own, or all: the first three (default)",
    )  # fmt: skip
    learning.add_argument(
        "--strength", metavar="S", help="of text-held: how firmly it is held (default 100), or 'speakers' to choose by "
        "cross-validation over the speakers to learn from",
    )  # fmt: skip
    run = command.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--output", type=Path, metavar="DIR", help="where to write learning_curve.{json,csv,png}")
    run.add_argument("--json", action="store_true", help="print JSON instead of the table")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    command.epilog = "--encoder takes several names with commas between; --data and --support take tables of 'embed'."


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive(part.strip()) for part in text.split(","))


def _embed(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from kws_imagebind.embeddings.executors import parts as executors
    from kws_imagebind.embeddings.table import check_writable

    check_writable(arguments.output)
    _check_engine(arguments)
    clips = _stream(arguments)
    encoder = chosen_encoder(arguments)
    with executors.alone(arguments.output):
        made = executors.prepare(
            arguments.output, clips, encoder, arguments.batch_size, arguments.on_error, arguments.part
        )
        title = f"encoding with {encoder.name}"
        with tqdm(unit="clip", disable=arguments.quiet, desc=title, total=made.job.clips) as bar:
            found = executors.run(
                made,
                arguments.output,
                _executor(arguments, encoder),
                lambda done, _: bar.update(done - bar.n),
            )
    skipped = f"; {found.skipped:,} recordings were skipped" if found.skipped else ""
    before = f"; {found.found:,} of {found.parts:,} parts were there already" if found.found else ""
    say(f"wrote {found.clips:,} vectors of {encoder.dim} numbers in {arguments.output}{skipped}{before}")
    return 0


def _check_engine(arguments: argparse.Namespace) -> None:
    """Says before any work what the engine lacks."""
    from kws_imagebind.embeddings.executors import ray
    from kws_imagebind.embeddings.executors.parts import ExecutorError

    if arguments.engine == "ray":
        ray.check_ray()
    elif arguments.workers:
        raise ExecutorError("--workers is for --engine ray; leave it out, or add --engine ray")


def _stream(arguments: argparse.Namespace) -> Stream:
    from kws_imagebind.datasets.registry import dataset_at, stream_dataset

    return stream_dataset(
        arguments.dataset or dataset_at(arguments.data, arguments.download),
        root=arguments.data,
        split=arguments.split,
        task=arguments.task,
        keywords=arguments.keywords,
        download=arguments.download,
        version=arguments.dataset_version,
    )


def _executor(arguments: argparse.Namespace, encoder: Encoder) -> Callable[[Parts, Sequence[int], Tell], None]:
    """What encodes parts."""
    from kws_imagebind.embeddings.executors import local, ray

    if arguments.engine == "ray":
        spec = ray.EncoderSpec(arguments.encoder, arguments.device, arguments.precision, arguments.checkpoints)
        return lambda parts, numbers, tell: ray.execute(parts, numbers, tell, spec, arguments.workers)
    cache = None if arguments.no_cache else arguments.cache
    return lambda parts, numbers, tell: local.execute(parts, numbers, tell, encoder, cache)


def _few_shot(arguments: argparse.Namespace) -> int:
    from kws_imagebind.readouts.support import sampling

    return _learn(arguments, sampling(arguments.protocol), arguments.shots, arguments.draws)


def _probe(arguments: argparse.Namespace) -> int:
    return _learn(arguments, None, None, None)


def _learn(
    arguments: argparse.Namespace, protocol: Sampling | None, shots: Sequence[int] | None, draws: int | None
) -> int:
    from kws_imagebind.evaluation.learning_curve import learning_curve

    readouts = _readouts(arguments.readout, protocol)
    options = _options(arguments.strength)
    if arguments.output:
        check_folder(arguments.output)
    curves = []
    for name in arguments.encoder.split(",") if arguments.encoder else [None]:
        encoder, reported, support = _clips(arguments, name)
        text = _text(arguments, encoder, reported)
        curves.append(learning_curve(support, reported, readouts, protocol, shots, draws, text, **options))
    found = [curve.as_dict() for curve in curves]
    print(json.dumps(found, ensure_ascii=False) if arguments.json else "\n\n".join(map(str, curves)))
    if arguments.output:
        _save(curves, arguments.output)
    return 0


def _readouts(text: str, protocol: Sampling | None) -> list[str]:
    from kws_imagebind.readouts.registry import LEARNING, READOUTS

    if text == "all":
        return list(dict.fromkeys([*LEARNING, *([protocol.readout] if protocol else [])]))
    names = [name.strip() for name in text.split(",")]
    for name in names:
        READOUTS.find(name)  # or say now that there is none of that name
    return names


def _options(strength: str | None) -> dict[str, float | str]:
    from kws_imagebind.readouts.support import FewShotError

    if strength is None or strength == "speakers":
        return {} if strength is None else {"strength": strength}
    try:
        return {"strength": float(strength)}
    except ValueError as error:
        raise FewShotError(f"--strength '{strength}'; expected a number above 0, or 'speakers'") from error


def _clips(arguments: argparse.Namespace, name: str | None) -> tuple[Encoder | None, Embeddings, list[Embeddings]]:
    """The encoder, the clips to report on, and those to learn from."""
    if is_table(arguments):
        reported = table_of(arguments)
        encoder = encoder_of(arguments, name, reported)
    else:
        dataset = chosen_dataset(arguments)
        _check_support(arguments, dataset)
        encoder = load(arguments, name or "phonebind")
        reported = embed_clips(arguments, dataset, encoder)
    return encoder, reported, _support(arguments, encoder, reported)


def load(arguments: argparse.Namespace, name: str) -> Encoder:
    return chosen_encoder(argparse.Namespace(**{**vars(arguments), "encoder": name}))


def encoder_of(arguments: argparse.Namespace, name: str | None, audio: Embeddings) -> Encoder | None:
    """The encoder of a table; None where it is not here and nobody asked for it.

    Raises:
        EncoderError: the encoder asked for is another than the table's.
    """
    from kws_imagebind.encoders import EncoderError

    try:
        encoder = load(arguments, name or audio.encoder)
    except EncoderError as error:
        if name:
            raise
        say(f"encoder '{audio.encoder}' of the table is not available, so nothing can use text: {error}")
        return None
    check_table(audio, encoder)
    return encoder


def _check_support(arguments: argparse.Namespace, dataset: Dataset) -> None:
    """Says before any clip is encoded that there is nothing to learn from."""
    from kws_imagebind.datasets.registry import check_sibling
    from kws_imagebind.readouts.support import FewShotError

    if arguments.support:
        return
    for split in CHOOSING:
        check_sibling(dataset, split, "learning", "; name what to learn from with --support DIR")
        if split == dataset.split:
            raise FewShotError(
                f"the {split} clips are reported, and learning takes the training and validation clips; name what to "
                "learn from with --support, or report on another --split"
            )


def _support(arguments: argparse.Namespace, encoder: Encoder | None, reported: Embeddings) -> list[Embeddings]:
    from kws_imagebind.datasets.registry import sibling
    from kws_imagebind.embeddings import table
    from kws_imagebind.readouts.support import FewShotError

    if not arguments.support and reported.dataset.origin is None:
        raise FewShotError("a table of clips to report on needs --support: a table, a folder or speech-commands")
    if not arguments.support:
        assert encoder is not None  # for the clips that are reported were encoded by it
        return [embed_clips(arguments, sibling(reported.dataset, split), encoder) for split in CHOOSING]
    found = []
    for path in arguments.support:
        if table.is_table(path):
            found.append(table.load(path))
            continue
        if encoder is None:
            raise FewShotError(f"'{path}' is to be encoded, and there is no encoder; give a table of 'embed' instead")
        found += [embed_clips(arguments, dataset, encoder) for dataset in _choosing(path, reported)]
    return found


def _choosing(path: Path, reported: Embeddings) -> list[Dataset]:
    """Clips to learn from: the training and validation splits of speech-commands, or a folder's."""
    from kws_imagebind.datasets import load_dataset
    from kws_imagebind.datasets.registry import dataset_at

    name, keywords = dataset_at(path), reported.dataset.keywords
    splits = CHOOSING if name == "speech-commands" else (None,)
    return [load_dataset(name, root=path, split=split, keywords=keywords) for split in splits]


def _text(arguments: argparse.Namespace, encoder: Encoder | None, audio: Embeddings) -> ZeroShotClassifier | None:
    from kws_imagebind import ZeroShotClassifier

    known = getattr(encoder, "words", None)  # of an encoder that can read no others
    if encoder is None or (known is not None and not set(audio.dataset.labels) <= set(known)):
        return None
    return ZeroShotClassifier(encoder, audio.dataset.keywords, chosen_templates(arguments), arguments.average)


def _save(curves: Sequence[LearningCurve], folder: Path) -> None:
    from kws_imagebind.evaluation.learning_curve import curves_csv
    from kws_imagebind.files import whole

    texts = {
        "learning_curve.json": json.dumps([curve.as_dict() for curve in curves], indent=2, ensure_ascii=False) + "\n",
        "learning_curve.csv": curves_csv(curves),
    }
    for name, content in texts.items():
        with whole(folder / name) as part:
            part.write_text(content, encoding="utf-8")
    drawn = _draw(curves, folder / "learning_curve.png")
    say(f"wrote {', '.join([*texts, *drawn])} in {folder}")
    if not drawn:
        say(f"no figure was drawn: {to_install('matplotlib', 'plots')}")


def _draw(curves: Sequence[LearningCurve], path: Path) -> list[str]:
    try:
        from kws_imagebind.evaluation.learning_curve import curves_figure
        from kws_imagebind.reporting.figures.style import save_figure

        figure = curves_figure(curves)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return []
    save_figure(figure, path)
    return [path.name]
