"""Tasks: which keywords stand for choice, and how a keyword is written.

A keyword is written in one of three ways: `lamp` (the label of its clips and the text that is spoken),
`lamp=/L AE M P/` (a label, and how it is spoken) or `/L AE M P/` (ARPAbet that is its own label).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

# Speech Commands v0.02 (Warden 2018, arXiv:1804.03209), alphabetical: the order of every table and matrix.
SPEECH_COMMANDS_WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go",
    "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven",
    "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
ADDED_IN_V2 = ("backward", "follow", "forward", "learn", "visual")
SPEECH_COMMANDS_V1_WORDS = tuple(word for word in SPEECH_COMMANDS_WORDS if word not in ADDED_IN_V2)
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

SILENCE, UNKNOWN = "silence", "unknown"  # of the challenge: no word at all, and a word that is none of the others

# Words that no task has, for telling speech that is no keyword from none: what fits one of them better than any keyword
# is an unknown word. None of them sounds like one of the 35 words or is an inflection of one.
FILLERS = tuple(
    """
    animal apple autumn banana basket bottle bridge brother button candle carpet chicken circle coffee corner cousin
    doctor dragon engine evening father finger flower forest garden guitar hammer hospital island jacket kettle kitchen
    ladder lamp lemon machine market mirror money monkey mother mountain music napkin number ocean office orange paper
    pencil people picture pillow planet pocket potato question rabbit river rocket school shadow shoulder silver sister
    soldier spoon student summer table teacher thunder tiger tomato travel umbrella uncle village voice water weather
    window winter wonder yellow
    """.split()
)


class KeywordError(ValueError):
    """A list of keywords or a task that makes no sense; the message says which and what would do."""


@dataclass(frozen=True)
class Task:
    """A named choice between keywords.

    Attributes:
        name: as given to `--task`.
        keywords: the candidates, in the order of the score columns.
    """

    name: str
    keywords: tuple[str, ...]


TASKS = {
    task.name: task
    for task in (
        Task("v2-35", SPEECH_COMMANDS_WORDS),
        Task("v2-37", (SILENCE, UNKNOWN, *SPEECH_COMMANDS_WORDS)),  # the candidates of the seed notebook, in its order
        Task("v2-12", (*COMMANDS, SILENCE, UNKNOWN)),
        Task("v2-10", COMMANDS),
        Task("v1-30", SPEECH_COMMANDS_V1_WORDS),
        Task("v1-12", (*COMMANDS, SILENCE, UNKNOWN)),
        Task("digits", DIGITS),
    )
}


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """What to add to the message on an unknown name; nothing, where no name that exists is near.

    >>> did_you_mean("phonebin", ["phonebind", "imagebind"]), did_you_mean("lamp", ["phonebind"])
    (' (did you mean phonebind?)', '')
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]}?)" if near else ""


def task(name: str) -> Task:
    """The task of a name.

    >>> task("v2-10").keywords[:3]
    ('yes', 'no', 'up')

    Raises:
        KeywordError: lists the tasks that exist.
    """
    if name not in TASKS:
        raise KeywordError(
            f"unknown task '{name}'{did_you_mean(name, TASKS, cutoff=0.6)}; "
            f"available: {', '.join(TASKS)}, or give your own words as keywords"
        )
    return TASKS[name]


def parse_keywords(text: str) -> tuple[str, ...]:
    """The keywords of a comma-separated list, as on the command line.

    >>> parse_keywords("yes, no, kettle=/K EH T AH L/")
    ('yes', 'no', 'kettle=/K EH T AH L/')

    Raises:
        KeywordError: an entry is blank or comes twice.
    """
    return check_keywords(text.split(","))


def check_keywords(keywords: Iterable[str]) -> tuple[str, ...]:
    """Keywords with their white space tidied; their labels differ, upper and lower case being the same.

    Raises:
        KeywordError: there is none, one is blank or incomplete, or a label comes twice.
    """
    checked: dict[str, str] = {}
    for position, given in enumerate(keywords, start=1):
        keyword = _tidy(given, position)
        folded = label(keyword).casefold()
        if folded in checked:
            raise KeywordError(
                f"keyword '{label(keyword)}' is listed twice; name it once, "
                "with several pronunciations as 'read=/R IY D/ /R EH D/'"
            )
        checked[folded] = keyword
    if not checked:
        raise KeywordError("no keyword is given; expected a list such as 'yes,no,stop'")
    return tuple(checked.values())


def label(keyword: str) -> str:
    """What a keyword is called: in the folder names of a data set, in tables and in figures.

    >>> label("kettle=/K EH T AH L/"), label("yes"), label("/L AE M P/")
    ('kettle', 'yes', '/L AE M P/')
    """
    return _split(keyword)[0]


def spoken(keyword: str) -> str:
    """What an encoder reads for a keyword: the text after '=', or the keyword itself.

    >>> spoken("kettle=/K EH T AH L/"), spoken("yes"), spoken("door one=open the door")
    ('/K EH T AH L/', 'yes', 'open the door')
    """
    return _split(keyword)[1]


def _split(keyword: str) -> tuple[str, str]:
    name, equals, text = keyword.partition("=")
    if not equals or keyword.lstrip().startswith("/"):
        return keyword.strip(), keyword.strip()
    return name.strip(), text.strip()


def _tidy(given: str, position: int) -> str:
    keyword = " ".join(given.split())
    if not keyword:
        raise KeywordError(f"keyword {position} is blank; expected a list such as 'yes,no,stop'")
    name, text = _split(keyword)
    if not name or not text:
        raise KeywordError(f"keyword '{keyword}' lacks a side of its '='; write it as 'kettle=/K EH T AH L/'")
    return name if name == text else f"{name}={text}"
