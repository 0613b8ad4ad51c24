"""What a data set holds: how many of each class, and how each class sounds on average."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kws_imagebind.reporting.figures.style import BLUE, DPI, shorten

MOST_CLASSES = 60
COLUMNS = 5


def class_figure(counts: Mapping[str, int], title: str) -> Figure:
    """A bar for each class, the most frequent first.

    Raises:
        ValueError: there is no class.
    """
    if not counts:
        raise ValueError("there is no class to count; expected at least one")
    shown = sorted(counts.items(), key=lambda each: -each[1])[:MOST_CLASSES]
    figure = Figure(figsize=(max(4.0, 0.28 * len(shown) + 1.5), 3.6), dpi=DPI)
    axes = figure.subplots()
    axes.bar([shorten(name) for name, _ in shown], [count for _, count in shown], color=BLUE)
    axes.tick_params(axis="x", rotation=90)
    axes.set_ylabel("how many")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{title}; n = {sum(counts.values()):,}", fontsize=10)
    figure.tight_layout()
    return figure


def mean_spectrogram_figure(means: Mapping[str, NDArray[np.float32]], seconds: float, title: str) -> Figure:
    """The mean log spectrogram (frequencies, frames) of each class, all on one scale.

    Raises:
        ValueError: there is no class.
    """
    if not means:
        raise ValueError("there is no class to show; expected at least one")
    shown = list(means.items())[:MOST_CLASSES]
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(2.2 * COLUMNS, 1.7 * rows + 0.5), dpi=DPI)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    low, high = min(each.min() for _, each in shown), max(each.max() for _, each in shown)
    for axes in panels[len(shown) :]:
        axes.axis("off")
    for axes, (name, values) in zip(panels, shown, strict=False):
        axes.imshow(
            values, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high,
            extent=(0, seconds, 0, len(values)),
        )  # fmt: skip
        axes.set_title(shorten(name), fontsize=9)
        axes.set_yticks([])
    figure.suptitle(f"{title}; seconds across, bands up", fontsize=10)
    figure.tight_layout()
    return figure
