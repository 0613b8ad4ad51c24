"""`spot` and `submit`: recordings that nobody has labelled."""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws_imagebind.cli.options import (
    BAD_INPUT,
    add_encoder_options,
    add_run_options,
    chosen_encoder,
    chosen_templates,
    embed_clips,
    positive,
    say,
)

if TYPE_CHECKING:
    from kws_imagebind.encoders import Encoder
    from kws_imagebind.spotting.detect import Detector
    from kws_imagebind.spotting.explain import Explanation
    from kws_imagebind.spotting.hits import Hit

    Found = list[tuple[Hit, list[tuple[str, float]]]]  # each hit with the words that were left out for it

MOST_PLACES, MOST_RIVALS = 8, 3  # in messages


def add_spot(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "spot",
        help="rank words by how well a recording fits them, or find them in a longer one",
        description="Ranks words by how well a recording of about a second fits them; the score is a cosine, from -1 "
        "to 1. In a longer one, or with --threshold, finds where they are said; the score is from 0 to 1.",
    )
    command.set_defaults(run=_spot)
    command.add_argument("recordings", nargs="+", type=Path, metavar="FILE", help="WAV, FLAC, Ogg, MP3, …")
    command.add_argument(
        "--words", required=True, metavar="A,B,C", help="ARPAbet as in 'kettle=/K EH T AH L/'; or FILE.kws of 'enrol'"
    )
    command.add_argument("--top", type=positive, metavar="N", help="of the ranks only the N best")
    command.add_argument("--threshold", type=_share, metavar="S", help="the least score of a word found (default 0.5)")
    command.add_argument(
        "--explain",
        nargs="?",
        type=_seconds,
        const=-1.0,
        metavar="TIME",
        help="say what was heard where each word fits best, or about TIME in seconds",
    )
    add_encoder_options(command)
    command.add_argument("--json", action="store_true", help="print JSON, one object a recording and line")


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds from the start, such as 12.5, got '{text}'")
    return number


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
    words.add_argument(
        "--task", metavar="T", help="the labels (default v2-12, and of a trained network the words that it learnt)"
    )
    words.add_argument("--keywords", metavar="A,B,C", help="the labels, as your own list")
    rejecting = command.add_mutually_exclusive_group()
    rejecting.add_argument(
        "--below",
        nargs=2,
        type=float,
        metavar=("S", "U"),
        help="silence where the scores of filler words spread by less than S, unknown where the best keyword leads the "
        "best filler by less than U, as 'evaluate --reject' chooses them; by default the encoder's own thresholds",
    )
    rejecting.add_argument(
        "--prompted", action="store_true", help="make silence and unknown prompts like any word, and reject nothing"
    )  # fmt: skip
    run = command.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    add_encoder_options(command)


def _spot(arguments: argparse.Namespace) -> int:
    from kws_imagebind import AudioError
    from kws_imagebind.encoders.base import WindowEncoder
    from kws_imagebind.readouts.enrolment import thresholds_of, word_scorer
    from kws_imagebind.spotting.detect import Detector
    from kws_imagebind.spotting.rank import is_long, rank, ranked

    encoder = chosen_encoder(arguments)
    scorer = word_scorer(encoder, arguments.words, chosen_templates(arguments), arguments.average)
    thresholds = thresholds_of(scorer, arguments.threshold)

    @cache
    def detector() -> Detector:
        return Detector(encoder, scorer, arguments.threshold)

    def hear(recording: Path) -> tuple[list[tuple[str, float]], Found | None]:
        searched = isinstance(encoder, WindowEncoder) and is_long(recording, encoder)
        if arguments.threshold is None and not searched:
            return rank(recording, encoder, scorer), None
        heard = detector().listen(recording)
        if not heard.audible.any():
            return [], []
        hits = detector().hits(heard)
        return ranked(heard, recording), list(zip(hits, detector().rivals(heard, hits), strict=True))

    code = 0
    for recording in arguments.recordings:
        try:
            if arguments.explain is not None:
                _explain(recording, encoder, detector(), arguments.explain, arguments.json)
                continue
            ranks, hits = hear(recording)
        except AudioError as error:  # the other recordings still get their answer
            say(f"kws-imagebind spot: {error}")
            code = BAD_INPUT
            continue
        if arguments.json:
            print(json.dumps(_answer(recording, encoder.name, ranks[: arguments.top], hits, thresholds)))
            continue
        if len(arguments.recordings) > 1:
            print(recording)
        _tell(recording, ranks[: arguments.top], hits, thresholds)
    return code


def _tell(recording: Path, ranks: list[tuple[str, float]], hits: Found | None, thresholds: dict[str, float]) -> None:
    """For people: what was found, or else what comes nearest to it."""
    if hits:
        _print_hits([hit for hit, _ in hits])
        _say_rivals(recording, hits)
    elif not ranks:
        say(f"kws-imagebind spot: {recording}: holds only silence, so no word was said")
    else:
        if hits is not None:
            say(f"kws-imagebind spot: {recording}: no word scores {_limits(thresholds)} or more; the best cosines are")
        _print_ranks(ranks)


def _say_rivals(recording: Path, found: Found) -> None:
    """Which other words reach their thresholds where a word was found, so that they are not taken for unheard."""
    places = [(hit, rivals) for hit, rivals in found if rivals]
    for hit, rivals in places[:MOST_PLACES]:
        words = ", ".join(f"'{word}' ({score:.2f})" for word, score in rivals[:MOST_RIVALS])
        rest = f" and {len(rivals) - MOST_RIVALS} more" if len(rivals) > MOST_RIVALS else ""
        say(f"kws-imagebind spot: {recording}: '{hit.word}' at {_clock(hit.start)} also fits {words}{rest}")
    if len(places) > MOST_PLACES:
        say(
            f"kws-imagebind spot: {recording}: {len(places) - MOST_PLACES:,} more of the words found also fit others; "
            "--json has all as 'also_fits'"
        )


def _explain(recording: Path, encoder: Encoder, detector: Detector, at: float, as_json: bool) -> None:
    """Where each word fits best, and why it is a hit or none."""
    from kws_imagebind.spotting.explain import explain

    found = explain(recording, encoder, detector, None if at < 0 else at)
    if as_json:
        told = [{"word": each.word, "time": round(each.time, 3), **_rounded(each)} for each in found]
        print(json.dumps({"recording": str(recording), "explained": told}))
        return
    width = max(len(each.word) for each in found)
    for each in found:
        heard = f", heard /{each.sounds}/" if each.sounds else ""
        print(
            f"{_clock(each.time):>8}  {each.word:<{width}}  {each.score:.2f}, threshold {each.threshold:g}: "
            f"{each.reason} (cosine {each.cosine:z.2f}, other words {each.others:z.2f}, "
            f"level {each.level:.0f} dB){heard}"
        )


def _rounded(each: Explanation) -> dict[str, Any]:
    return {
        "score": round(each.score, 4), "threshold": each.threshold, "cosine": round(each.cosine, 4),
        "others": round(each.others, 4), "best": each.best, "sounds": each.sounds, "level": round(each.level, 1),
        "reason": each.reason,
    }  # fmt: skip


def _limits(thresholds: dict[str, float]) -> str:
    """One number where all words have the same, else each word's."""
    from kws_imagebind.spotting.hits import one_threshold

    common = one_threshold(thresholds)
    if common is not None:
        return f"{common:g}"
    return "its threshold (" + ", ".join(f"{word} {least:g}" for word, least in thresholds.items()) + ")"


def _answer(
    recording: Path, encoder: str, ranks: list[tuple[str, float]], hits: Found | None, thresholds: dict[str, float]
) -> dict[str, Any]:
    from kws_imagebind.spotting.hits import one_threshold

    scores = [{"word": word, "score": round(score, 6)} for word, score in ranks]
    answer: dict[str, Any] = {"recording": str(recording), "encoder": encoder, "scores": scores}
    if hits is not None:
        common = one_threshold(thresholds)
        answer["threshold"] = thresholds if common is None else common
        answer["detections"] = [
            {
                "word": hit.word,
                "start": round(hit.start, 3),
                "end": round(hit.end, 3),
                "score": round(hit.score, 6),
                "also_fits": [{"word": word, "score": round(score, 6)} for word, score in rivals],
            }
            for hit, rivals in hits
        ]
    return answer


def _print_ranks(ranks: list[tuple[str, float]]) -> None:
    width = max(len(word) for word, _ in ranks)
    for word, score in ranks:
        print(f"{word:<{width}}  {score:z6.3f}  {_bar(score)}".rstrip())


def _print_hits(hits: list[Hit]) -> None:
    times = [(_clock(hit.start), _clock(hit.end)) for hit in hits]
    wide = max(5, *(len(end) for _, end in times))
    width = max(4, *(len(hit.word) for hit in hits))
    print(f"{'start':>{wide}}  {'end':>{wide}}  {'word':<{width}}  score")
    for hit, (start, end) in zip(hits, times, strict=True):
        print(f"{start:>{wide}}  {end:>{wide}}  {hit.word:<{width}}  {hit.score:5.2f}  {_bar(hit.score)}".rstrip())


def _clock(seconds: float) -> str:
    """Seconds as a player shows them.

    >>> _clock(7.25), _clock(3727.96)
    ('0:07.2', '1:02:08.0')
    """
    tenths = round(10 * seconds)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def _bar(score: float) -> str:
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * round(30 * max(0.0, score))
    return "█" * round(30 * max(0.0, score))


def _submit(arguments: argparse.Namespace) -> int:
    from kws_imagebind.encoders.trained import TrainedNetwork
    from kws_imagebind.evaluation.submission import Submission, write_submission
    from kws_imagebind.readouts.rejection import Rejection
    from kws_imagebind.text.keywords import parse_keywords
    from kws_imagebind.text.tasks import task

    encoder = chosen_encoder(arguments)
    own = encoder.labels if isinstance(encoder, TrainedNetwork) and not arguments.task else None
    submission = Submission(
        keywords=parse_keywords(arguments.keywords)
        if arguments.keywords
        else own or task(arguments.task or "v2-12").keywords,
        rejection=Rejection(*arguments.below) if arguments.below else None,
        prompted=arguments.prompted,
        templates=chosen_templates(arguments),
        average=arguments.average,
    )
    arguments.on_error = "raise"
    scores, audio = submission.scores(
        encoder, arguments.folder, lambda encoder, clips: embed_clips(arguments, clips, encoder)
    )
    write_submission(arguments.output, scores, audio.utterances)
    say(f"wrote {len(audio):,} labels in {arguments.output}")
    return 0
