"""`evaluate` and `prompts`: an encoder on recordings of known words."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kws_imagebind.cli.options import (
    add_data_options,
    add_encoder_options,
    add_run_options,
    chosen_dataset,
    chosen_templates,
    embed_clips,
    positive,
    say,
    validation_clips,
)

if TYPE_CHECKING:
    from kws_imagebind.datasets import Dataset
    from kws_imagebind.embeddings.embed import Embeddings
    from kws_imagebind.embeddings.map import EmbeddingMap
    from kws_imagebind.encoders import Encoder
    from kws_imagebind.evaluation.open_set import Outcome
    from kws_imagebind.readouts.rejection import Rejection
    from kws_imagebind.readouts.zero_shot import ZeroShotClassifier


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure an encoder on recordings of known words",
        description="Measures an encoder on recordings of known words; by default the bundled one on the sample.",
    )
    command.set_defaults(run=_evaluate)
    add_encoder_options(command)
    data = add_data_options(command)
    data.add_argument("--limit", type=positive, metavar="N", help="a random subset of N clips")
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
    add_run_options(run)
    run.add_argument("--output", type=Path, metavar="DIR", help="where to write the report")
    run.add_argument("--map", action="store_true", help="with --output: also a map of the clips by t-SNE")
    run.add_argument("--json", action="store_true", help="print the content of results.json instead of the table")
    run.add_argument("--quiet", action="store_true", help="no progress bar")


def add_prompts(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "prompts",
        help="choose the prompt on validation clips, and report it on testing clips",
        description="Tries sets of prompts on the validation split of speech-commands and reports them on another.",
    )
    command.set_defaults(run=_prompts, reject=False, limit=None, on_error="raise")
    add_encoder_options(command)
    add_data_options(command)
    run = command.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--json", action="store_true", help="print JSON")
    run.add_argument("--quiet", action="store_true", help="no progress bar")


def _evaluate(arguments: argparse.Namespace) -> int:
    import kws_imagebind as kws
    from kws_imagebind.metrics.classification import MetricError

    if arguments.reject and arguments.calibrate:
        raise MetricError(
            "--reject decides by thresholds, so there is no temperature for --calibrate; take one of them"
        )
    dataset = chosen_dataset(arguments)
    dataset = dataset.subset(arguments.limit, arguments.seed) if arguments.limit else dataset
    if arguments.map:
        _check_map(arguments, dataset)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)  # or say now, not after all clips, that it cannot be
    encoder = kws.load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    scorer = kws.ZeroShotClassifier(encoder, dataset.keywords, chosen_templates(arguments), arguments.average)
    audio = embed_clips(arguments, dataset, encoder)
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
        say(f"wrote {', '.join(path.name for path in written)} in {arguments.output}")
        if not any(path.suffix == ".png" for path in written):
            say("no figures were drawn: install matplotlib, or this package with its extra 'plots'")
    return 0


def _check_map(arguments: argparse.Namespace, dataset: Dataset) -> None:
    """Says now, and not after all clips, that there can be no map."""
    from kws_imagebind.embeddings.map import MapError, check_map

    if not arguments.output:
        raise MapError("--map writes map.csv and draws it in the report; name their folder with --output")
    check_map(len(dataset))


def _map(arguments: argparse.Namespace, audio: Embeddings) -> EmbeddingMap:
    from kws_imagebind.embeddings.map import draw_map

    if not arguments.quiet:
        say("laying out the map, which takes up to half a minute")
    return draw_map(audio.features.numpy(), [utterance.key for utterance in audio.utterances])


def _temperature(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder, scorer: ZeroShotClassifier
) -> float:
    """The temperature that validation clips ask for."""
    from kws_imagebind.evaluation.evaluate import fit_on_validation

    audio = validation_clips(arguments, dataset, encoder)
    return fit_on_validation(scorer(audio), audio)


def _rejection(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder
) -> tuple[Rejection, ZeroShotClassifier, ZeroShotClassifier]:
    """Thresholds that validation clips ask for, and what scores the keywords and the fillers they are for."""
    import kws_imagebind as kws
    from kws_imagebind.readouts.rejection import fit_rejection
    from kws_imagebind.text.fillers import FILLERS
    from kws_imagebind.text.keywords import KeywordError
    from kws_imagebind.text.tasks import SILENCE, UNKNOWN

    if not {SILENCE, UNKNOWN} <= set(dataset.labels):
        raise KeywordError(f"task '{dataset.task}' has no labels {SILENCE} and {UNKNOWN} to reject into; v2-12 has")
    words = [word for word in dataset.keywords if word not in (SILENCE, UNKNOWN)]
    scorer = kws.ZeroShotClassifier(encoder, words, chosen_templates(arguments), arguments.average)
    audio = validation_clips(arguments, dataset, encoder)
    spoken = [utterance.label for utterance in audio.utterances]
    fillers = kws.ZeroShotClassifier(encoder, FILLERS, chosen_templates(arguments), arguments.average)
    return fit_rejection(scorer(audio), fillers(audio), spoken, audio.dataset.split), scorer, fillers


def _open_set(
    arguments: argparse.Namespace, dataset: Dataset, encoder: Encoder, scorer: ZeroShotClassifier, audio: Embeddings
) -> tuple[Outcome, ...]:
    """How well clips that say none of the keywords can be turned away."""
    from kws_imagebind.datasets import Dataset, DatasetError
    from kws_imagebind.datasets.challenge import load_outsiders
    from kws_imagebind.evaluation.open_set import open_set
    from kws_imagebind.text.tasks import SILENCE, UNKNOWN

    if dataset.name != "speech-commands":
        raise DatasetError(f"data set '{dataset.name}' has no other words and no noise; speech-commands has")
    if {SILENCE, UNKNOWN} & set(dataset.labels):
        raise DatasetError(f"task '{dataset.task}' prompts for {SILENCE} and {UNKNOWN}; take --reject, or another task")
    version = "v0.01" if "v0.01" in dataset.note else "v0.02"
    split = dataset.split or "testing"
    others = load_outsiders(arguments.data or Path("data"), split, version, dataset.labels)
    labels = tuple(dict.fromkeys(utterance.label for utterance in others))
    outside = embed_clips(arguments, Dataset(dataset.name, others, labels, "outsiders", split), encoder)
    who = [[utterance.speaker for utterance in each.utterances] for each in (audio, outside)]
    kinds = [utterance.label for utterance in outside.utterances]
    return open_set(scorer(audio), scorer(outside), kinds, (who[0], who[1]))


def _prompts(arguments: argparse.Namespace) -> int:
    from kws_imagebind import load_encoder
    from kws_imagebind.evaluation.studies.prompts import study

    dataset = chosen_dataset(arguments)
    encoder = load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    validation = validation_clips(arguments, dataset, encoder)
    own = chosen_templates(arguments)
    testing = embed_clips(arguments, dataset, encoder)
    found = study(encoder, dataset.keywords, validation, testing, {"own": own} if own else None)
    print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
    return 0
