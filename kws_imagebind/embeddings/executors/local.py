"""Parts one after another in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kws_imagebind.embeddings.executors.parts import Parts, Tell
from kws_imagebind.encoders.base import Encoder


def execute(parts: Parts, numbers: Sequence[int], tell: Tell, encoder: Encoder, cache: Path | None = None) -> None:
    """Encodes some parts.

    Args:
        parts: of the table.
        numbers: of the parts to encode.
        tell: is told of clips done.
        encoder: what encodes.
        cache: folder of the cache, or None for none.

    Raises:
        AudioError, DatasetError: a file cannot be used.
    """
    done = 0
    for number in numbers:
        done += parts.encode(number, encoder, cache, _after(done, tell))


def _after(before: int, tell: Tell) -> Tell:
    """Tells of the clips of a part and of those before it."""
    return lambda done, _: tell(before + done, 0)
