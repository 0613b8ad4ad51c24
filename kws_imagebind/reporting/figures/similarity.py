"""Cosines of recordings and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from kws_imagebind.reporting.figures.style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    VERMILION,
    cycle,
    entitle,
    frame_cell,
    name_rows,
    row_pitch,
)


def similarity_figure(cosines: Tensor | np.ndarray, spoken: Sequence[str], words: Sequence[str], title: str) -> Figure:
    """How near each recording lies to each word; a frame marks the nearest word of every recording.

    Args:
        cosines: (clips, words), from -1 to 1.
        spoken: what each clip says, the names of the rows.
        words: the names of the columns.
        title: whose space it is.

    Raises:
        ValueError: the cosines have another shape than there are names.
    """
    values = np.asarray(cosines)
    if values.shape != (len(spoken), len(words)):
        raise ValueError(f"cosines of shape {values.shape} for {len(spoken)} clips and {len(words)} words")
    cell = min(0.52, 5.0 / len(words))
    width, height = cell * len(words), 0.75 * cell * len(spoken)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.imshow(values, cmap="cividis", aspect="auto", interpolation="nearest")
    name_rows(axes.yaxis, spoken, 0.75 * cell)
    name_rows(axes.xaxis, words, cell)
    axes.tick_params(axis="x", rotation=90)
    axes.set_ylabel("a recording of")
    axes.set_xlabel("the written word")
    low, high = float(values.min()), float(values.max())
    for row, column in np.ndindex(values.shape):
        light = values[row, column] > low + 0.55 * (high - low)
        nearest = column == int(values[row].argmax())
        number = f"{values[row, column]:.2f}".replace("-0.00", "0.00")
        axes.text(
            column, row, number, ha="center", va="center", fontsize=min(8.0, 17 * cell),
            color="black" if light else "white", weight="bold" if nearest else "normal",
        )  # fmt: skip
        if nearest:
            axes.add_patch(frame_cell(column, row, GREEN if spoken[row] == words[column] else VERMILION))
    bar = figure.colorbar(image, cax=figure.add_axes((1 + 0.15 / width, 0, 0.15 / width, 1)))
    bar.set_label("cosine", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    right = sum(spoken[row] == words[int(best)] for row, best in enumerate(values.argmax(axis=1)))
    caption = f"framed: the nearest word of each recording; it is the spoken one for {right} of {len(spoken)}"
    entitle(axes, title, caption, width)
    return figure


def ranking_figure(ranked: Sequence[tuple[str, float]], title: str) -> Figure:
    """Words with their cosines to one recording, the best first.

    Args:
        ranked: (word, cosine), the best first.
        title: of the recording.

    Raises:
        ValueError: there is no word.
    """
    if not ranked:
        raise ValueError("no word to draw; expected at least one")
    pitch = row_pitch(len(ranked), widest=0.3, narrowest=0.15)
    width, height = 5.0, pitch * len(ranked)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    values = [score for _, score in ranked]
    axes.barh(range(len(ranked)), values, height=0.7, color=[BLUE] + ["#9ab8cc"] * (len(ranked) - 1))
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.set_xlim(min(0.0, *values) * 1.15, max(0.05, *values) * 1.12)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    name_rows(axes.yaxis, [word for word, _ in ranked], pitch)
    for y, value in enumerate(values):
        axes.annotate(
            f"{value:.2f}", (max(value, 0), y), (4, 0), textcoords="offset points", va="center", fontsize=9, color=GREY
        )
    axes.set_xlabel("cosine to the recording")
    entitle(axes, title, f"the best of {len(ranked)} words, whatever was said", width)
    return figure


def score_figure(scores: Mapping[str, np.ndarray], threshold: float, title: str) -> Figure:
    """How high the best score of each kind of clip is, and the threshold between them.

    Args:
        scores: best scores of each kind; the first are those that should be accepted.
        threshold: below which a clip is turned away.
        title: what was tested.
    """
    everything = np.concatenate(list(scores.values()))
    edges = np.linspace(everything.min(), everything.max(), 31)
    figure = Figure(figsize=(5.8, 0.95 * len(scores) + 0.25), dpi=DPI)
    grid = figure.subplots(len(scores), 1, sharex=True, squeeze=False, gridspec_kw={"hspace": 0.12})[:, 0]
    figure.subplots_adjust(0, 0, 1, 1)
    for axes, (kind, values), colour in zip(grid, scores.items(), cycle(len(scores)), strict=True):
        axes.hist(values, bins=edges, color=colour, alpha=0.85)
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
        away = int((values < threshold).sum())
        text = f"{kind}: {away:,} of {len(values):,} turned away"
        axes.annotate(
            text, (0, 1), (4, -4), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=9,
            weight="bold", color=colour,
        )  # fmt: skip
        axes.set_ylim(top=axes.get_ylim()[1] * 1.45)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    grid[len(scores) // 2].set_ylabel("clips")
    grid[-1].set_xlabel("cosine to the best keyword")
    entitle(grid[0], title, f"dashed: the threshold {threshold:.2f}, which accepts 95 % of the first kind", 5.8)
    return figure
