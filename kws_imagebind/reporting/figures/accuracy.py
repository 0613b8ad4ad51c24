"""The confusion matrix, the accuracy of each word and of each prompt, and the number of clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import blended_transform_factory
from torch import Tensor

from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.reporting.figures.style import (
    BLUE,
    DPI,
    GREY,
    LIGHT_GREY,
    LONGEST_LABEL,
    THINNEST_ROW_WITH_LABEL,
    VERMILION,
    entitle,
    font_size,
    name_rows,
    row_pitch,
)

THINNEST_CELL_FOR_A_DIGIT = 0.075  # inches; a number wants so much for each


def confusion_matrix_figure(
    matrix: Tensor | np.ndarray, labels: Sequence[str], title: str, side: float = 9.5
) -> Figure:
    """The confusion matrix: a row for each spoken word, a column for each predicted one.

    The colour is the share of the row, so that words with few clips read like those with many, on a root scale that
    shows rare confusions; the numbers are clips. A row without clips is light grey.

    Args:
        matrix: (classes, classes) counts, row = true, column = predicted.
        labels: names of the classes.
        title: what was tested.
        side: inches of the matrix, where its words can be read at that size.

    Raises:
        ValueError: the matrix is not square or has another size than there are labels.
    """
    counts = np.asarray(matrix)
    classes = len(labels)
    if counts.shape != (classes, classes):
        raise ValueError(f"a confusion matrix of shape {counts.shape} for {classes} labels; expected a row for each")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    cell = row_pitch(classes, widest=max(0.6, 2.6 / classes), narrowest=min(0.17, side / 35), room=side)
    side = cell * classes
    figure = Figure(figsize=(side, side), dpi=DPI)  # of the cells alone: saving adds what stands around them
    axes = figure.add_axes((0, 0, 1, 1))
    colours = colormaps["cividis"].with_extremes(bad=LIGHT_GREY)
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1), aspect="equal", interpolation="nearest")
    axes.set_xlabel("predicted")
    axes.set_ylabel("spoken")
    name_rows(axes.yaxis, labels, cell)
    name_rows(axes.xaxis, labels, cell)
    axes.tick_params(axis="x", rotation=90)
    if cell >= THINNEST_CELL_FOR_A_DIGIT * len(str(counts.max(initial=0))):
        _write_counts(axes, counts, shares, font_size(cell))
    height = min(side, 3.0)
    bar = figure.colorbar(
        image, cax=figure.add_axes((1 + 0.15 / side, 0, 0.15 / side, height / side)), ticks=[0, 0.1, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0 %", "10 %", "50 %", "100 %"])
    bar.set_label("share of the spoken word's clips", fontsize=8)
    hits, n = int(np.trace(counts)), int(counts.sum())
    entitle(axes, title, f"n = {n:,} clips, {hits:,} of them on the diagonal", side)
    return figure


def per_class_figure(per_class: Sequence[Interval], labels: Sequence[str], chance: float, title: str) -> Figure:
    """The accuracy of each word with its interval, from the best to the worst, beside the chance level.

    Args:
        per_class: accuracy of each class; n = 0 for a class without clips, which is listed last.
        labels: names of the classes.
        chance: accuracy of a guess, from 0 to 1.
        title: what was tested.

    Raises:
        ValueError: there is not one interval for each label.
    """
    return _intervals_figure(per_class, labels, chance, title, _count(per_class))


def prompt_figure(trials: Mapping[str, Interval], chance: float, title: str) -> Figure:
    """The accuracy with each template and its interval, from the best to the worst, beside the chance level.

    Args:
        trials: accuracy by template, all on the same clips.
        chance: accuracy of a guess, from 0 to 1.
        title: what was tested.
    """
    clips = max((interval.n for interval in trials.values()), default=0)
    names = [f"“{template}”" for template in trials]
    caption = f"the same {clips:,} clips for each; {{}} stands for the word"
    return _intervals_figure(list(trials.values()), names, chance, title, caption, width=4.4, longest=60)


def _intervals_figure(
    intervals: Sequence[Interval],
    labels: Sequence[str],
    chance: float,
    title: str,
    caption: str,
    width: float = 5.5,
    longest: int = LONGEST_LABEL,
) -> Figure:
    rows = sorted(
        zip(intervals, labels, strict=True),
        key=lambda row: (row[0].n == 0, -row[0].estimate if row[0].n else 0.0, row[1]),
    )
    pitch = row_pitch(len(rows), widest=0.26, narrowest=0.15)
    figure = Figure(figsize=(width, pitch * len(rows)), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _draw_intervals(axes, [interval for interval, _ in rows], pitch)
    name_rows(axes.yaxis, [label for _, label in rows], pitch, longest)
    axes.axvline(chance, color=VERMILION, linestyle="--", linewidth=1.2)
    beside = blended_transform_factory(axes.transData, axes.transAxes)
    axes.annotate(
        f"chance {100 * chance:.1f} %", (chance, 1), (3, 2), xycoords=beside, textcoords="offset points",
        color=VERMILION, fontsize=8, annotation_clip=False,
    )  # fmt: skip
    axes.set_xlabel(f"accuracy with its {_level(intervals)}")
    entitle(axes, title, caption, width, above=12)
    return figure


def distribution_figure(clips: Sequence[int], labels: Sequence[str], title: str) -> Figure:
    """How many clips each word has, in the order of the labels.

    Args:
        clips: of each word.
        labels: the words.
        title: what is counted.

    Raises:
        ValueError: there is not one count for each label.
    """
    rows = list(zip(clips, labels, strict=True))
    pitch = row_pitch(len(rows), widest=0.26, narrowest=0.15)
    width, height = 5.5, pitch * len(rows)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.barh(range(len(rows)), [n for n, _ in rows], height=0.7, color=BLUE)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    name_rows(axes.yaxis, [label for _, label in rows], pitch)
    if pitch >= THINNEST_ROW_WITH_LABEL:
        for y, (n, _) in enumerate(rows):
            axes.annotate(
                f"{n:,}" if n else "no clips", (n, y), (4, 0), textcoords="offset points", va="center",
                fontsize=font_size(pitch) * 0.85, color=GREY,
            )  # fmt: skip
    axes.set_xlabel("clips")
    entitle(axes, title, f"n = {sum(clips):,} clips", width)
    return figure


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray, size: float) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = shares[row, column] < 0.3  # where cividis on its root scale turns light
        number = f"{counts[row, column]}"
        axes.text(
            column, row, number, ha="center", va="center", fontsize=size * min(1.0, 3 / max(len(number), 3)),
            color="white" if dark else "black",
        )  # fmt: skip


def _draw_intervals(axes: Axes, intervals: Sequence[Interval], pitch: float) -> None:
    measured = [(y, interval) for y, interval in enumerate(intervals) if interval.n]
    axes.hlines(
        [y for y, _ in measured],
        [interval.low for _, interval in measured],
        [interval.high for _, interval in measured],
        color=BLUE, alpha=0.55, linewidth=min(4.0, 18 * pitch),
    )  # fmt: skip
    axes.plot(
        [interval.estimate for _, interval in measured], [y for y, _ in measured],
        "o", color=BLUE, markersize=min(6.0, 30 * pitch), clip_on=False,
    )  # fmt: skip
    if pitch < THINNEST_ROW_WITH_LABEL:
        return
    outside = blended_transform_factory(axes.transAxes, axes.transData)
    for y, interval in enumerate(intervals):
        text = f"{interval.n:,}" if interval.n else "no clips"
        axes.text(1.02, y, text, transform=outside, va="center", fontsize=font_size(pitch) * 0.85, color=GREY)
    axes.text(1.02, -0.7, "n", transform=outside, va="bottom", fontsize=8, color=GREY)


def _level(per_class: Sequence[Interval]) -> str:
    levels = sorted({f"{100 * interval.level:g} % interval" for interval in per_class})
    return " or ".join(levels)


def _count(per_class: Sequence[Interval]) -> str:
    sizes = [interval.n for interval in per_class if interval.n]
    if not sizes:
        return "no clips"
    each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    without = len(per_class) - len(sizes)
    rest = f"; {without} of {len(per_class)} words without clips" if without else ""
    return f"n = {sum(sizes):,} clips, {each} a word{rest}"
