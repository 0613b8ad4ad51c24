"""What models without an embedding space share: they score words, and say so where vectors are asked for."""

from __future__ import annotations

from typing import Any, NoReturn

from kws_imagebind.encoders.base import EncoderError

_OF_ENCODERS = ("dim", "default_template", "encode_audio", "encode_text")


class WithoutVectors:
    """Base of a `Scorer`: whatever asks it for a vector, or for what belongs to vectors, gets one clear sentence."""

    name: str

    def __getattr__(self, attribute: str) -> Any:
        if attribute in _OF_ENCODERS:
            refuse_vectors(self.name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{attribute}'")


def refuse_vectors(name: str) -> NoReturn:
    """Says that a scorer has no vectors.

    Raises:
        EncoderError: always.
    """
    raise EncoderError(
        f"'{name}' scores words and has no embedding space; 'evaluate' and 'leaderboard' take it, everything that "
        "needs vectors (few-shot, probe, search, maps, --reject, spot, demo) needs an encoder such as phonebind"
    )
