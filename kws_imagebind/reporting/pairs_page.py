"""Pictures that find sounds, and sounds that find pictures, as one HTML page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from kws_imagebind.files import whole

TEMPLATE = Path(__file__).parent / "templates" / "pairs.html.jinja"


@dataclass(frozen=True)
class PageItem:
    """A query or a result.

    Attributes:
        label: for evaluation; the network never saw it.
        png: a picture's bytes; None for a sound.
        wav: a sound's bytes; None for a picture.
        score: cosine with the query; None for the query itself.
        relevant: whether its label is the query's.
    """

    label: str
    png: bytes | None = None
    wav: bytes | None = None
    score: float | None = None
    relevant: bool = False

    @property
    def picture(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}" if self.png else ""

    @property
    def sound(self) -> str:
        return f"data:audio/wav;base64,{base64.b64encode(self.wav).decode()}" if self.wav else ""


@dataclass(frozen=True)
class PageSection:
    """One direction: in each row a query and what it found, the best first."""

    name: str
    rows: Sequence[Sequence[PageItem]]


def write_pairs_page(path: Path, title: str, about: str, sections: Sequence[PageSection]) -> None:
    """Writes the page, whole or not at all; every text in it is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    with whole(path) as part:
        part.write_text(template.render(title=title, about=about, sections=sections), encoding="utf-8")
