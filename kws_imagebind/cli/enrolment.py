"""`enrol`: words of your own, with your own recordings of them."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws_imagebind.cli.options import add_encoder_options, chosen_encoder, chosen_templates, say

if TYPE_CHECKING:
    from kws_imagebind.readouts.enrolment import Enrolment

PRONOUNCED = re.compile(r"\s*(?P<said>/[A-Za-z012 ]+/)\s*(=(?P<files>.*))?$", re.DOTALL)


def add_enrol(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "enrol",
        help="keep words with your own recordings of them in a small file for spot",
        description="Keeps words in FILE.kws: text, the vectors of your recordings, a threshold. "
        "'spot --words FILE.kws' takes the file in place of a list of words. A few recordings of your own voice find "
        "more than the text alone. Without --word or --remove it shows what the file holds.",
    )
    command.set_defaults(run=_enrol)
    command.add_argument("file", type=Path, metavar="FILE.kws", help="is made, or gets more words")
    command.add_argument(
        "--word",
        action="append",
        default=[],
        metavar="WORD[=A.wav,B.wav]",
        help="a word with recordings of it, or its text alone; may be repeated. ARPAbet as in "
        "'kettle=/K EH T AH L/=a.wav'. A word that the file has already is replaced",
    )
    command.add_argument("--remove", action="append", default=[], metavar="WORD", help="may be repeated")
    command.add_argument(
        "--threshold",
        action="append",
        default=[],
        type=_threshold,
        metavar="WORD=S",
        help="the least score of a word that is given with --word, from 0 to 1 (default 0.5); may be repeated",
    )
    add_encoder_options(command)
    command.add_argument("--json", action="store_true", help="print what the file holds as JSON")


def _threshold(text: str) -> tuple[str, float]:
    word, equals, number = text.rpartition("=")
    try:
        if not (word.strip() and equals):
            raise ValueError
        return word.strip(), float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected WORD=NUMBER such as 'umbrella=0.6', got '{text}'") from None


def parsed(given: str) -> tuple[str, tuple[str, ...]]:
    """What stands behind --word: the keyword, and the recordings.

    >>> parsed("umbrella=one.wav,two.wav"), parsed("umbrella")
    (('umbrella', ('one.wav', 'two.wav')), ('umbrella', ()))
    >>> parsed("kettle=/K EH T AH L/=one.wav")
    ('kettle=/K EH T AH L/', ('one.wav',))
    """
    word, _, rest = given.partition("=")
    pronounced = PRONOUNCED.match(rest)
    keyword, files = (f"{word}={pronounced['said']}", pronounced["files"] or "") if pronounced else (word, rest)
    return keyword, tuple(name.strip() for name in files.split(",") if name.strip())


def _enrol(arguments: argparse.Namespace) -> int:
    from kws_imagebind.datasets.base import counted
    from kws_imagebind.readouts.enrolment import Enrolment, EnrolmentError, checked_name, enrol
    from kws_imagebind.text.keywords import check_keywords

    path = checked_name(arguments.file)
    given = [parsed(each) for each in arguments.word]
    if given:
        check_keywords([keyword for keyword, _ in given])
    if arguments.threshold and not given:
        raise EnrolmentError(
            "--threshold is for words that are given with --word; give the word and its recordings again"
        )
    words = Enrolment.load(path) if path.exists() else None
    if not given and words is None:
        raise EnrolmentError(
            f"'{path}' does not exist yet; give it words with --word umbrella=umbrella1.wav,umbrella2.wav"
        )
    if arguments.remove and words:
        words = words.without(arguments.remove)
    elif arguments.remove:
        raise EnrolmentError(f"'{path}' does not exist yet, so there is no word to remove")
    if given:
        new = enrol(
            chosen_encoder(arguments), dict(given), dict(arguments.threshold), chosen_templates(arguments),
            arguments.average,
        )  # fmt: skip
        words = words.updated(new) if words else new
    assert words is not None
    if given or arguments.remove:
        words.save(path)
        say(f"wrote {counted(len(words), 'word')} to {path}")
    if arguments.json:
        print(json.dumps(_as_dict(words)))
    else:
        _show(words)
    return 0


def _as_dict(words: Enrolment) -> dict[str, Any]:
    examples: dict[str, list[dict[str, Any]]] = {name: [] for name in words.labels}
    for name, file, own, other, score in words.own_scores():
        examples[name].append({"file": file, "score": round(own, 4), "other": other, "other_score": round(score, 4)})
    return {
        "encoder": words.encoder,
        "fingerprint": words.fingerprint,
        "words": [
            {"word": word.label, "threshold": word.threshold, "examples": examples[word.label]} for word in words.words
        ],
    }


def _show(words: Enrolment) -> None:
    width = max(4, *(len(name) for name in words.labels))
    print(f"{'word':<{width}}  {'examples':>8}  threshold")
    for word in words.words:
        print(f"{word.label:<{width}}  {len(word.audio):>8}  {word.threshold:>9.2f}")
    for name, file, own, other, score in words.own_scores():
        if other and score >= own:
            say(
                f"note: {file} sounds more like '{other}' ({score:.2f}) than like '{name}' ({own:.2f}); "
                "listen to it, and record it again if it is not what you meant"
            )
