"""Pictures, and where in them a sound comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kws_imagebind.reporting.figures.style import BLUE, DPI, VERMILION

COLUMNS = 3


@dataclass(frozen=True)
class PageView:
    """A picture with the map of a sound.

    Attributes:
        picture: (H, W, 3) uint8.
        heat: (h, w), higher where the sound comes from.
        spoken: the word, for the title.
        hit: whether the peak lies on it.
    """

    picture: NDArray[np.uint8]
    heat: NDArray[np.float32]
    spoken: str
    hit: bool


def localisation_figure(pages: Sequence[PageView], title: str) -> Figure:
    """Each picture in grey under its map.

    Raises:
        ValueError: there is no picture.
    """
    if not pages:
        raise ValueError("there is no picture to show; expected at least one")
    rows = -(-len(pages) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.9 * rows + 0.5), dpi=DPI)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, page in zip(panels, pages, strict=False):
        height, width = page.picture.shape[:2]
        extent = (0, width, height, 0)
        axes.imshow(page.picture.mean(2), cmap="gray", extent=extent)
        axes.imshow(page.heat, cmap="inferno", alpha=0.5, extent=extent, interpolation="bilinear")
        row, column = np.unravel_index(int(page.heat.argmax()), page.heat.shape)
        x = (int(column) + 0.5) * width / page.heat.shape[1]
        y = (int(row) + 0.5) * height / page.heat.shape[0]
        axes.plot([x], [y], marker="x", markersize=9, markeredgewidth=2, color="white")
        axes.set_title(f"“{page.spoken}”: {'hit' if page.hit else 'miss'}", color=BLUE if page.hit else VERMILION)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    return figure
