"""`spot` and `submit`: recordings that nobody has labelled."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kws_imagebind.cli.options import (
    BAD_INPUT,
    add_encoder_options,
    add_run_options,
    chosen_templates,
    embed_clips,
    positive,
    say,
)


def add_spot(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "spot",
        help="rank words by how well a recording fits them",
        description="Ranks words by how well a recording fits them. The score is a cosine, from -1 to 1.",
    )
    command.set_defaults(run=_spot)
    command.add_argument("recordings", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, Ogg, MP3, …")
    command.add_argument("--words", required=True, metavar="A,B,C", help="ARPAbet as in 'kettle=/K EH T AH L/'")
    command.add_argument("--top", type=positive, metavar="N", help="only the N best")
    add_encoder_options(command)
    command.add_argument("--json", action="store_true", help="print JSON, one object a recording and line")


def add_submit(commands: argparse._SubParsersAction) -> None:
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
    add_run_options(run)
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    add_encoder_options(command)


def _spot(arguments: argparse.Namespace) -> int:
    from kws_imagebind import AudioError, ZeroShotClassifier, load_encoder
    from kws_imagebind.spotting import rank

    encoder = load_encoder(arguments.encoder, device=arguments.device, precision=arguments.precision)
    scorer = ZeroShotClassifier(encoder, arguments.words, chosen_templates(arguments), arguments.average)
    code = 0
    for recording in arguments.recordings:
        try:
            ranked = rank(recording, encoder, scorer)[: arguments.top]
        except AudioError as error:  # the other recordings still get their answer
            say(f"kws-imagebind spot: {error}")
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
    audio = embed_clips(arguments, clips, encoder)
    scores = kws.ZeroShotClassifier(encoder, prompted, chosen_templates(arguments), arguments.average)(audio)
    if arguments.below:
        fillers = kws.ZeroShotClassifier(encoder, FILLERS, chosen_templates(arguments), arguments.average)
        scores = Rejection(*arguments.below)(scores, fillers(audio), labels)
    arguments.output.write_text(submission_csv(scores, audio.utterances), encoding="utf-8")
    say(f"wrote {len(audio):,} labels in {arguments.output}")
    return 0
