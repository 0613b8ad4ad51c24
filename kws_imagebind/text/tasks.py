"""Named choices of keywords."""

from __future__ import annotations

from dataclasses import dataclass

from kws_imagebind.registry import Entry, Registry
from kws_imagebind.text.keywords import KeywordError

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


# The eight words of mini_speech_commands, the small part that TensorFlow's tutorials use, in their order.
MINI = ("down", "go", "left", "no", "right", "stop", "up", "yes")


@dataclass(frozen=True)
class Task:
    """A named choice between keywords.

    Attributes:
        name: as given to `--task`.
        keywords: the candidates, in the order of the score columns.
        version: of Speech Commands that the task is defined on; None for any data set.
    """

    name: str
    keywords: tuple[str, ...]
    version: str | None = None


_BUNDLED = (
    Task("v2-35", SPEECH_COMMANDS_WORDS, "v0.02"),
    Task("v2-37", (SILENCE, UNKNOWN, *SPEECH_COMMANDS_WORDS), "v0.02"),  # of the seed notebook, in its order
    Task("v2-12", (*COMMANDS, SILENCE, UNKNOWN), "v0.02"),
    Task("v2-10", COMMANDS, "v0.02"),
    Task("v1-30", SPEECH_COMMANDS_V1_WORDS, "v0.01"),
    Task("v1-12", (*COMMANDS, SILENCE, UNKNOWN), "v0.01"),
    Task("digits", DIGITS),
    Task("mini", MINI),
)

TASKS = Registry(
    "task",
    "kws_imagebind.tasks",
    [Entry(each.name, ", ".join(each.keywords), "", thing=each) for each in _BUNDLED],
    KeywordError,
    "or give your own words as keywords",
)


def task(name: str) -> Task:
    """The task of a name.

    >>> task("v2-10").keywords[:3]
    ('yes', 'no', 'up')

    Raises:
        KeywordError: lists the tasks that exist.
    """
    found = TASKS.find(name).thing
    if not isinstance(found, Task):
        raise KeywordError(f"task '{name}' is {type(found).__name__}; expected a kws_imagebind.text.tasks.Task")
    return found
