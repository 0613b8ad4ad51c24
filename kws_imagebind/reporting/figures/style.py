"""Figures of a report. The one file that needs matplotlib.

Each function returns a `Figure` of its own, never one of pyplot's, so that figures can be drawn in any thread and
without a display, and nothing is left open. The colours can be told apart with every kind of colour blindness:
cividis for shares, Okabe and Ito's palette (2008) for the rest.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image  # matplotlib needs it too

from kws_imagebind.files import whole

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # of Okabe and Ito
GREY, LIGHT_GREY = "#666666", "#dddddd"
DPI = 120
LONGEST_LABEL = 26  # letters; what is longer is cut with an ellipsis
LARGEST = 30.0  # inches of a matrix or a list of words: beyond it rows get thinner, not the figure larger
THINNEST_ROW_WITH_LABEL = 0.1  # inches: 7 points, below which letters run into each other
SCREEN_DPI = 96  # pixels of a page to the inch
SHARP = 1.6  # pixels of a picture to one of a page, for fine screens


def png(figure: Figure, width: float = 700) -> tuple[bytes, int]:
    """A figure as a PNG for a page, sharp on fine screens, and its width there in pixels.

    Args:
        figure: with what stands around its axes, as `save_figure` takes it.
        width: of the page's column in pixels; what is broader is made smaller.
    """
    edge = 0.08  # inches
    inches = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()).width + 2 * edge
    shown = min(width, SCREEN_DPI * inches)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(
        drawn, format="png", dpi=SHARP * shown / inches, bbox_inches="tight", pad_inches=edge, facecolor="white"
    )
    with Image.open(drawn) as picture:  # 256 colours are a third of the bytes, and look the same
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue(), round(shown)


def drawn_from(figure: Figure) -> str:
    """A digest of what a figure says: its words, numbers and lines, but not how a machine renders them.

    Two figures of the same numbers have the same one. Pictures and clouds of points have no part in it, for their last
    digits differ between machines.
    """
    said = [text.get_text() for text in figure.findobj(Text) if text.get_text().strip()]
    for line in figure.findobj(Line2D):
        said.append(np.array2string(np.asarray(line.get_xydata(), dtype=float).round(3) + 0.0, threshold=10_000))
    return sha256("\n".join(sorted(said)).encode()).hexdigest()[:16]


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG; an interrupted run leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        figure.savefig(part, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.15, facecolor="white")


def row_pitch(rows: int, widest: float, narrowest: float, room: float = 9.5) -> float:
    """Inches from row to row: wide where they are few, thinner with their number, `LARGEST` for all at most."""
    return min(max(min(widest, room / rows), narrowest), LARGEST / rows)


def font_size(pitch: float) -> float:
    """Points of a letter that fits a row of this many inches."""
    return min(10.0, 0.62 * 72 * pitch)


def name_rows(axis: Axis, labels: Sequence[str], pitch: float, longest: int = LONGEST_LABEL) -> None:
    if pitch < THINNEST_ROW_WITH_LABEL:
        axis.set_ticks([])
        axis.set_label_text(f"{axis.get_label_text()} ({len(labels)} words)".strip())
        return
    axis.set_ticks(
        range(len(labels)), [shorten(label, longest) for label in labels], fontsize=font_size(pitch), parse_math=False
    )
    axis.set_tick_params(length=0)


def shorten(label: str, longest: int = LONGEST_LABEL) -> str:
    return label if len(label) <= longest else label[: longest - 1] + "…"


def frame_cell(column: int, row: int, colour: str) -> Rectangle:
    return Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=colour, linewidth=2)


def cycle(count: int) -> list[str]:
    return [(BLUE, VERMILION, GREEN, GREY)[index % 4] for index in range(count)]


def entitle(axes: Axes, title: str, caption: str, width: float, above: float = 0) -> None:
    """A bold title over a grey caption, left over the axes and broken to their width in inches."""
    letters = max(30, int((width + 1) * 13))
    lines = textwrap.fill(caption, letters)
    height = 12.0 * (lines.count("\n") + 1)
    place: dict[str, Any] = {
        "xy": (0, 1),
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "bottom",
        "ha": "left",
        "parse_math": False,
    }
    axes.annotate(lines, xytext=(0, above + 6), fontsize=9, color=GREY, **place)
    axes.annotate(textwrap.fill(title, letters), xytext=(0, above + height + 8), fontsize=11, weight="bold", **place)
