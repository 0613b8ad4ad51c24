"""How a training went, and what the heads of a trained network make of the clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kws_imagebind.reporting.figures.style import BLUE, DPI, GREY, LIGHT_GREY, VERMILION, shorten

SIDE = 4.2  # inches of a panel


def history_figure(
    training: tuple[Sequence[float], Sequence[float]],
    validation: tuple[Sequence[float], Sequence[float]],
    best: int,
    title: str,
) -> Figure:
    """Loss and accuracy by epoch, side by side.

    Args:
        training: loss and accuracy of each epoch on the training clips, as they were changed at random.
        validation: the same on the validation clips.
        best: the epoch whose weights were kept, counted from 1.
        title: what was trained on what.

    Raises:
        ValueError: there is no epoch, or the four lists differ in length.
    """
    if not training[0] or len({len(each) for each in (*training, *validation)}) > 1:
        raise ValueError("expected loss and accuracy of each epoch, for training and for validation")
    figure = Figure(figsize=(2 * SIDE, 0.8 * SIDE), dpi=DPI)
    epochs = range(1, len(training[0]) + 1)
    for axes, learnt, chosen, name in zip(
        figure.subplots(1, 2), training, validation, ("loss (cross-entropy)", "accuracy"), strict=True
    ):
        axes.plot(epochs, learnt, color=BLUE, marker="o", markersize=3, label="training, clips changed at random")
        axes.plot(epochs, chosen, color=VERMILION, marker="s", markersize=3, label="validation")
        axes.axvline(best, color=GREY, linestyle=":", linewidth=1, label=f"epoch {best}, kept")
        axes.set_xlabel("epoch")
        axes.set_title(name, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=LIGHT_GREY, linewidth=0.6)
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        else:
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return figure


def heads_figure(panels: Sequence[tuple[str, np.ndarray]], spoken: Sequence[str], title: str) -> Figure:
    """The clips where each head puts them, laid out by t-SNE, in a panel for each head.

    Args:
        panels: name of the head and the places (n, 2) of the clips; only who is near whom means something.
        spoken: what each of the n clips says.
        title: whose heads.

    Raises:
        ValueError: there is no panel, or it does not have one place for each clip.
    """
    if not panels or any(places.shape != (len(spoken), 2) for _, places in panels):
        raise ValueError(f"expected panels with two numbers for each of {len(spoken)} clips")
    names, words = np.asarray(spoken), list(dict.fromkeys(spoken))
    colours = colormaps["turbo"](np.linspace(0.03, 0.97, len(words)))
    figure = Figure(figsize=(SIDE * len(panels), SIDE + 0.3), dpi=DPI)
    for axes, (name, places) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for word, colour in zip(words, colours, strict=True):
            chosen = places[names == word]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=min(16.0, 6_000 / len(names)), color=colour, linewidths=0)
            middle = np.median(chosen, axis=0)
            text = axes.text(middle[0], middle[1], shorten(word), fontsize=8, weight="bold", ha="center", va="center")
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(LIGHT_GREY)
        axes.set_title(name, fontsize=10)
    figure.suptitle(f"{title}; n = {len(names):,} clips, the axes mean nothing", fontsize=10)
    figure.tight_layout()
    return figure
