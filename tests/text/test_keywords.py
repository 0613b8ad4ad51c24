"""Tasks and the ways to write a keyword."""

from __future__ import annotations

import pytest

from kws_imagebind.text.keywords import KeywordError, check_keywords, label, parse_keywords, spoken
from kws_imagebind.text.tasks import COMMANDS, DIGITS, SPEECH_COMMANDS_V1_WORDS, SPEECH_COMMANDS_WORDS, TASKS, task


def test_the_tasks_are_those_of_the_corpus() -> None:
    assert len(SPEECH_COMMANDS_WORDS) == 35
    assert len(SPEECH_COMMANDS_V1_WORDS) == 30
    assert list(SPEECH_COMMANDS_WORDS) == sorted(set(SPEECH_COMMANDS_WORDS))
    assert set(COMMANDS) < set(SPEECH_COMMANDS_V1_WORDS)
    assert set(DIGITS) < set(SPEECH_COMMANDS_V1_WORDS)
    assert {name: len(task(name).keywords) for name in TASKS} == {
        "v2-35": 35,
        "v2-37": 37,
        "v2-12": 12,
        "v2-10": 10,
        "v1-30": 30,
        "v1-12": 12,
        "digits": 10,
        "mini": 8,
    }


def test_every_task_passes_its_own_check() -> None:
    for name in TASKS:
        assert check_keywords(task(name).keywords) == task(name).keywords
        assert task(name).name == name


def test_an_unknown_task_is_told_what_exists() -> None:
    with pytest.raises(
        KeywordError,
        match=r"unknown task 'v2-36'.*did you mean v2-3[57].*v2-35, v2-37, v2-12, v2-10, v1-30, v1-12, digits",
    ):
        task("v2-36")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes,no", ("yes", "no")),
        (" yes , hey   there ", ("yes", "hey there")),
        ("kettle = /K EH T  AH L/", ("kettle=/K EH T AH L/",)),
        ("/K EH T AH L/,yes", ("/K EH T AH L/", "yes")),
        ("read=/R IY D/ /R EH D/", ("read=/R IY D/ /R EH D/",)),
        ("yes = yes", ("yes",)),
    ],
)
def test_parsing(text: str, expected: tuple[str, ...]) -> None:
    assert parse_keywords(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "keyword 1 is blank"),
        ("yes,,no", "keyword 2 is blank"),
        ("yes,no,", "keyword 3 is blank"),
        ("yes,no,yes", "'yes' is listed twice"),
        ("yes,YES", "'YES' is listed twice"),
        ("read=/R IY D/,read=/R EH D/", "'read' is listed twice"),
        ("kettle=", "lacks a side of its '='"),
        ("=/K EH T AH L/", "lacks a side of its '='"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(KeywordError, match=message):
        parse_keywords(text)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(KeywordError, match="no keyword is given"):
        check_keywords([])


@pytest.mark.parametrize(
    ("keyword", "name", "text"),
    [
        ("yes", "yes", "yes"),
        ("kettle=/K EH T AH L/", "kettle", "/K EH T AH L/"),
        ("/K EH T AH L/", "/K EH T AH L/", "/K EH T AH L/"),
        ("/K = L/", "/K = L/", "/K = L/"),
        ("zoe=zoey", "zoe", "zoey"),
    ],
)
def test_label_and_spoken(keyword: str, name: str, text: str) -> None:
    assert (label(keyword), spoken(keyword)) == (name, text)
