"""What a reader should know of an encoder before believing its numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kws_imagebind.datasets.speech_commands import is_speech_commands


@dataclass(frozen=True)
class Card:
    """An encoder's card. Whether a run is zero-shot is derived from it, never asserted.

    Attributes:
        name: of the encoder.
        url: where its weights or its paper are.
        licence: of its weights.
        parameters: how many; None where unknown.
        bytes: of its weights on disk; None where unknown.
        sample_rate: of the waveforms it takes, in hertz.
        trained_on: names of the data sets it learnt from; None where nobody says.
        citation: of its paper.
    """

    name: str
    url: str = ""
    licence: str = ""
    parameters: int | None = None
    bytes: int | None = None
    sample_rate: int | None = None
    trained_on: tuple[str, ...] | None = None
    citation: str = ""

    @property
    def saw_speech_commands(self) -> bool | None:
        """Whether the encoder learnt from Speech Commands; None where nobody says what it learnt from.

        >>> Card("a", trained_on=("LibriSpeech",)).saw_speech_commands, Card("b").saw_speech_commands
        (False, None)
        """
        if self.trained_on is None:
            return None
        return any(is_speech_commands(name) for name in self.trained_on)

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        return {**fields, "trained_on": None if self.trained_on is None else list(self.trained_on)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Card:
        """The card of what `as_dict` gave.

        >>> card = Card("toy", trained_on=("songs",))
        >>> Card.from_dict(card.as_dict()) == card
        True
        """
        trained_on = fields["trained_on"]
        return cls(**{**fields, "trained_on": None if trained_on is None else tuple(trained_on)})


def card_of(encoder: Any) -> Card:
    """The card of an encoder; where it brings none, one that says only what the encoder itself does."""
    card = getattr(encoder, "card", None)
    if isinstance(card, Card):
        return card
    return Card(str(getattr(encoder, "name", "unnamed")), sample_rate=getattr(encoder, "sample_rate", None))
