"""Names to things."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """What to add to the message on an unknown name; nothing, where no name that exists is near.

    >>> did_you_mean("phonebin", ["phonebind", "imagebind"]), did_you_mean("lamp", ["phonebind"])
    (' (did you mean phonebind?)', '')
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]}?)" if near else ""
