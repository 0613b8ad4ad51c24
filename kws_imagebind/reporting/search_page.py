"""What a search found, as one HTML page with playable hits that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from kws_imagebind.files import whole

TEMPLATE = Path(__file__).parent / "templates" / "search.html.jinja"


@dataclass(frozen=True)
class PageHit:
    """A row of the page.

    Attributes:
        name: of the recording or clip.
        time: where in it, as text; "" for the whole.
        score: cosine with the query.
        label: the word it is labelled with, "" where nobody says.
        sound: a WAV file's bytes; None where there is nothing to play.
    """

    name: str
    time: str
    score: float
    label: str = ""
    sound: bytes | None = None

    @property
    def short(self) -> str:
        """The recording by its folder and file name."""
        return "/".join(Path(self.name).parts[-2:])

    @property
    def source(self) -> str:
        """The sound as a data URI."""
        return f"data:audio/wav;base64,{base64.b64encode(self.sound).decode()}" if self.sound else ""


def search_page(query: str, hits: Sequence[PageHit], about: str) -> str:
    """The page as HTML; every text in it is escaped.

    Args:
        query: what was searched for.
        hits: the best first.
        about: the encoder and what was searched, in a sentence.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(query=query, hits=hits, about=about)


def write_search_page(path: Path, query: str, hits: Sequence[PageHit], about: str) -> None:
    """Writes the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(search_page(query, hits, about), encoding="utf-8", errors="backslashreplace")
