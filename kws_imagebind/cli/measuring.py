"""`evaluate` and `prompts`: an encoder on recordings of known words."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kws_imagebind.cli.options import (
    add_data_options,
    add_encoder_options,
    add_run_options,
    check_folder,
    chosen_dataset,
    chosen_encoder,
    chosen_templates,
    embed_clips,
    limited,
    positive,
    say,
)
from kws_imagebind.registry import to_install


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
    data.add_argument(
        "--unseen", action="store_true", help="leave out clips and speakers that a trained network learnt from"
    )
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
    from kws_imagebind.encoders import EncoderError
    from kws_imagebind.encoders.trained import TrainedNetwork
    from kws_imagebind.evaluation.guards import unseen
    from kws_imagebind.evaluation.run import Plan, Run

    dataset = chosen_dataset(arguments)
    plan = Plan(
        templates=chosen_templates(arguments),
        average=arguments.average,
        calibrate=arguments.calibrate,
        reject=arguments.reject,
        open_set=arguments.open_set,
        map=arguments.map,
        seed=arguments.seed if arguments.limit else None,
    )
    encoder = None
    if arguments.unseen:
        encoder = chosen_encoder(arguments)
        if not isinstance(encoder, TrainedNetwork):
            raise EncoderError(
                f"--unseen leaves out what a network of 'train' learnt from, and '{encoder.name}' is none"
            )
        dataset = unseen(dataset, encoder.support)
    dataset = limited(dataset, arguments.limit, arguments.seed)
    run = Run.prepare(dataset, plan, arguments.output)
    if arguments.output:
        check_folder(arguments.output)
    result = run.measure(
        encoder or chosen_encoder(arguments), lambda encoder, clips: embed_clips(arguments, clips, encoder)
    )
    print(json.dumps(result.as_dict(), ensure_ascii=False) if arguments.json else result)
    if arguments.output:
        written = result.save(arguments.output)
        say(f"wrote {', '.join(path.name for path in written)} in {arguments.output}")
        if not any(path.suffix == ".png" for path in written):
            say(f"no figures were drawn: {to_install('matplotlib', 'plots')}")
    return 0


def _prompts(arguments: argparse.Namespace) -> int:
    from kws_imagebind.evaluation.run import validation_of
    from kws_imagebind.evaluation.studies.prompts import check_encoder, study

    dataset, own = chosen_dataset(arguments), chosen_templates(arguments)
    choosing = validation_of(dataset, "the prompt")
    encoder = chosen_encoder(arguments)
    check_encoder(encoder)
    validation, testing = (embed_clips(arguments, clips, encoder) for clips in (choosing, dataset))
    found = study(encoder, dataset.keywords, validation, testing, {"own": own} if own else None)
    print(json.dumps(found.as_dict(), ensure_ascii=False) if arguments.json else found)
    return 0
