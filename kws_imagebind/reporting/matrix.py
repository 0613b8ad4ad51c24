"""The confusion matrix of a report, limited to words that occur: rows are spoken words, columns what was heard.

Thousands of candidates leave a few dozen words that were spoken and some that were predicted; only these are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from kws_imagebind.reporting.svg import cut, figure, widest

MOST = 60  # words drawn at first
MOST_FOLDED = 250  # words drawn where a reader asks for more
LARGEST, SMALLEST = 34.0, 16.0  # pixels of a cell
WIDTH = 900  # pixels that the cells fill, if they are not smaller or larger than that
NUMBERED = 16  # pixels of a cell from which a number fits


@dataclass(frozen=True)
class Matrix:
    """Counts of clips by spoken and heard word.

    Attributes:
        counts: (rows, columns).
        totals: (rows,) clips of each spoken word.
        rows: the spoken words.
        columns: the words heard: first those of `rows`, in the same order, then the others.
        merged: how many further words the last column holds together; 0 if it is a word like the others.
        left_out: spoken words without a row.
        never: candidates that were neither spoken nor heard.
    """

    counts: np.ndarray
    totals: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    merged: int
    left_out: int
    never: int

    @property
    def whole(self) -> bool:
        """Whether every word that occurs has its row and its column."""
        return not (self.merged or self.left_out)

    @property
    def notes(self) -> list[str]:
        """What is not drawn, in sentences."""
        found = []
        if self.never:
            found.append(never(self.never))
        if self.left_out:
            found.append(
                f"Only the {len(self.rows):,} words with the most clips have a row; {self.left_out:,} more were spoken."
            )
        if self.merged:
            found.append(f"The last column counts {self.merged:,} further words together.")
        return found


def never(count: int) -> str:
    """That candidates are not drawn."""
    were = "candidate was" if count == 1 else "candidates were"
    return f"{count:,} {were} neither spoken nor predicted and {'is' if count == 1 else 'are'} left out."


def occurring(counts: np.ndarray, labels: Sequence[str], most: int = MOST) -> Matrix:
    """The part of a confusion matrix that holds clips.

    >>> found = occurring(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]), ["yes", "no", "up"])
    >>> found.rows, found.columns, found.counts.tolist(), found.never
    (('yes',), ('yes', 'up'), [[3, 1]], 1)

    Args:
        counts: (words, words), row = spoken, column = heard.
        labels: of the words.
        most: rows at most, and columns at most beside those that are merged into one. The words with the most clips
            are kept.
    """
    spoken, heard = counts.sum(axis=1), counts.sum(axis=0)
    said = np.flatnonzero(spoken)
    rows = np.sort(said[np.argsort(-spoken[said], kind="stable")][:most])
    own = counts[rows]
    others = np.setdiff1d(np.flatnonzero(own.sum(axis=0)), rows)
    by_clips = others[np.argsort(-own.sum(axis=0)[others], kind="stable")]
    room = max(0, most - len(rows))
    kept, rest = np.sort(by_clips[:room]), by_clips[room:]
    columns = np.concatenate([rows, kept])
    drawn, names = own[:, columns], [labels[index] for index in columns]
    if len(rest):
        drawn, names = np.column_stack([drawn, own[:, rest].sum(axis=1)]), [*names, f"{len(rest):,} others"]
    return Matrix(
        counts=drawn,
        totals=spoken[rows],
        rows=tuple(labels[index] for index in rows),
        columns=tuple(names),
        merged=len(rest),
        left_out=len(said) - len(rows),
        never=int((~(spoken.astype(bool) | heard.astype(bool))).sum()),
    )


def matrix_figure(found: Matrix) -> str:
    """The matrix as two drawings: the spoken words, which stay in view, and the cells, which may scroll beside them.

    Right ones have one colour, wrong ones another, as strong as their share of the spoken word's clips.
    """
    rows, columns = len(found.rows), len(found.columns)
    cell = max(SMALLEST, min(LARGEST, WIDTH / columns))
    left, top = widest(found.rows) + 16, widest(found.columns) + 10
    height, width = cell * rows, cell * columns
    size = f'style="font-size:{min(12.0, cell * 0.72):.1f}px"'
    names = "".join(
        f'<text x="{left - 6:.1f}" y="{top + cell * (index + 0.5):.1f}" {size} class="name end">'
        f"{escape(cut(word))}</text>"
        for index, word in enumerate(found.rows)
    )
    spoken = f'<text transform="translate(8 {top + height / 2:.1f}) rotate(-90)" class="tick mid">spoken</text>'
    heads = "".join(
        f'<text transform="translate({cell * (index + 0.5):.1f} {top - 6:.1f}) rotate(-90)" {size} class="name start">'
        f"{escape(cut(word))}</text>"
        for index, word in enumerate(found.columns)
    )
    heard = f'<text x="{width / 2:.1f}" y="{top + height + 16:.1f}" class="tick mid">predicted</text>'
    ground = f'<rect x="0" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" class="track"/>'
    cells = "".join(_cell(found, row, column, cell, top) for row, column in zip(*np.nonzero(found.counts), strict=True))
    tall = top + height + 26
    return figure(left, tall, names + spoken, "spoken words", "names") + figure(
        width + 2, tall, heads + ground + cells + heard, "confusion matrix: rows spoken, columns predicted"
    )


def _cell(found: Matrix, row: int, column: int, cell: float, top: float) -> str:
    n, total = int(found.counts[row, column]), int(found.totals[row])
    share = n / total
    strength = 0.08 + 0.92 * share**0.5
    said = f"{found.rows[row]} heard as {found.columns[column]}: {n:,} of {total:,} clips ({100 * share:.1f} %)"
    x, y = cell * column, top + cell * row
    number = ""
    if cell >= NUMBERED:
        fits = min(11.0, 1.55 * (cell - 3) / max(2, len(str(n))))
        number = (
            f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2:.1f}" style="font-size:{fits:.1f}px" '
            f'class="mid number{" over" if strength > 0.62 else ""}">{n}</text>'
        )
    return (
        f'<g><title>{escape(said)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{cell - 0.6:.1f}" '
        f'height="{cell - 0.6:.1f}" class="{"right" if row == column else "wrong"}" '
        f'fill-opacity="{strength:.2f}"/>{number}</g>'
    )
