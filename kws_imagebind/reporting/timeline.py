"""Where in a recording words are, as SVG text for a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from kws_imagebind.reporting.svg import cut, responsive, widest

if TYPE_CHECKING:
    from kws_imagebind.spotting.hits import Hit

ROW = 26  # pixels of a word's row
MOST = 10  # words with a row of their own; the others share one
OTHERS = "other words"


def timeline_figure(hits: Sequence[Hit], seconds: float) -> str:
    """Each word in a row, with a bar where it is said: the stronger the colour, the higher the score.

    As wide as the page.

    Args:
        hits: the words found, in the order of their times.
        seconds: that the recording lasts, more than 0.
    """
    words = list(dict.fromkeys(hit.word for hit in hits))
    rows = words if len(words) <= MOST else [*words[: MOST - 1], OTHERS]
    bottom = 4 + ROW * len(rows)
    parts = []
    for text, share in time_marks(seconds):
        at = f"{100 * share:.2f}%"
        parts.append(f'<line x1="{at}" x2="{at}" y1="4" y2="{bottom + 4}" class="grid"/>')
        parts.append(f'<text x="{at}" y="{bottom + 15}" class="tick mid">{text}</text>')
    for index, word in enumerate(rows):
        y = 4 + ROW * (index + 0.5)
        parts.append(f'<line x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="-10" y="{y:.1f}" class="name end">{escape(cut(word))}</text>')
    for hit in hits:
        row = words.index(hit.word)
        y = 4 + ROW * (min(row, len(rows) - 1) + 0.5)
        start, end = (100 * min(1.0, at / seconds) for at in (hit.start, hit.end))
        place = f'x="{start:.2f}%" y="{y - 9:.1f}" width="{max(0.8, end - start):.2f}%" height="18" rx="4"'
        said = f"{hit.word}: {hit.start:.1f} to {hit.end:.1f} s, score {hit.score:.2f}"
        parts.append(
            f"<g><title>{escape(said)}</title>"
            f'<rect {place} class="fill" fill-opacity="{0.35 + 0.65 * hit.score:.2f}"/></g>'
        )
    title = f"{len(hits)} word{'' if len(hits) == 1 else 's'} found in {seconds:.1f} seconds"
    return responsive(bottom + 24, widest(rows) + 12, 14, "".join(parts), title)


def time_marks(total: float, most: int = 6) -> list[tuple[str, float]]:
    """Marks of a time axis: text, and place from 0 to 1.

    >>> time_marks(2.0)
    [('0 s', 0.0), ('0.5 s', 0.25), ('1 s', 0.5), ('1.5 s', 0.75), ('2 s', 1.0)]
    """
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 60) if total / step <= most), 600)
    return [(f"{index * step:g} s", index * step / total) for index in range(int(total / step) + 1)]
