"""Who may teach and who reports: people are divided once for all, so that some voices stay unheard.

Of the recordings that came after the third release, those of the reporting half of the people, and all wake words said
alone, never train: false alarms and misses in running speech are counted on them.
"""

from __future__ import annotations

import hashlib

DIVIDED = ("alphanumeric_duke", "speechocean762_more")  # folders of which the choosing half of the people may teach
RESERVED = ("ovos", "picovoice_more")  # folders that never teach


def half(speaker: str) -> str:
    """'choose' or 'report': which half of the people somebody belongs to, by the SHA-256 of the name.

    >>> half("103"), half("SPEAKER0001")
    ('report', 'choose')
    """
    return ("choose", "report")[hashlib.sha256(speaker.encode()).digest()[-1] % 2]


def may_teach(collection: str, speaker: str) -> bool:
    """Whether recordings of this person in this folder of recordings may train PhoneBind.

    >>> may_teach("ovos", "anyone"), may_teach("speechocean762_more", "103"), may_teach("speechocean762", "103")
    (False, False, True)
    """
    return collection not in RESERVED and not (collection in DIVIDED and half(speaker) == "report")
