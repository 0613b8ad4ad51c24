"""Lists of keywords as users write them."""

from __future__ import annotations

from collections.abc import Iterable


class KeywordError(ValueError):
    """A list of keywords or a task that makes no sense; the message says which and what would do."""


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
