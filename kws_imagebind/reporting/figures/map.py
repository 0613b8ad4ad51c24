"""The map of the clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from kws_imagebind.reporting.figures.style import BLUE, DPI, LIGHT_GREY, VERMILION, entitle, shorten


def map_figure(places: np.ndarray, spoken: Sequence[str], right: Sequence[bool], title: str) -> Figure:
    """Clips where their embeddings lie on a plane, each word's name above the middle of its clips.

    Args:
        places: (n, 2); only who is near whom means something.
        spoken: what each clip says.
        right: whether it was heard as that.
        title: whose space it is.

    Raises:
        ValueError: there is not one place for each clip.
    """
    hit, names = np.asarray(right, dtype=bool), np.asarray(spoken)
    if places.shape != (len(names), 2) or len(hit) != len(names):
        raise ValueError(f"places of shape {places.shape} for {len(names)} clips; expected two numbers for each")
    figure = Figure(figsize=(6.4, 5.6), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    size = min(22.0, max(4.0, 6_000 / len(names)))
    axes.scatter(
        places[hit, 0],
        places[hit, 1],
        s=size,
        color=BLUE,
        alpha=0.45,
        linewidths=0,
        label=f"heard right ({hit.sum():,})",
    )
    wrong = f"misheard ({(~hit).sum():,})"
    axes.scatter(places[~hit, 0], places[~hit, 1], s=2.2 * size, color=VERMILION, marker="X", linewidths=0, label=wrong)
    axes.set_aspect("equal", "datalim")
    axes.margins(0.06)
    figure.draw_without_rendering()  # only now the axes know their limits
    for word, x, y in _free_places(places, names, axes):
        text = axes.text(x, y, shorten(word), ha="center", va="center", fontsize=9, weight="bold", parse_math=False)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(LIGHT_GREY)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.01), ncols=2, fontsize=9, frameon=False)
    entitle(axes, title, f"n = {len(names):,} clips; near means similar, the axes mean nothing", 6.4)
    return figure


def _free_places(places: np.ndarray, names: np.ndarray, axes: Axes) -> list[tuple[str, float, float]]:
    """Each word a little above the median of its clips, or as near as other names leave room."""
    left, right = axes.get_xlim()
    inch = (right - left) / (axes.get_window_extent().width / DPI)  # of data to an inch, in both directions
    found: list[tuple[str, float, float]] = []
    for word in dict.fromkeys(names.tolist()):
        x, y = (float(value) for value in np.median(places[names == word], axis=0))
        tries = (y + sign * inch * (0.13 + 0.05 * step) for step in range(20) for sign in (1, -1))
        free = (
            at
            for at in tries
            if all(
                abs(at - up) > 0.16 * inch or abs(x - beside) > 0.042 * inch * (len(word) + len(other) + 1)
                for other, beside, up in found
            )
        )
        found.append((word, x, next(free, y)))
    return found
