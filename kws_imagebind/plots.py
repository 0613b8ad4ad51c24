"""Figures of a report. The one file that needs matplotlib.

Each function returns a `Figure` of its own, never one of pyplot's, so that figures can be drawn in any thread and
without a display, and nothing is left open. The colours can be told apart with every kind of colour blindness:
cividis for shares, Okabe and Ito's palette (2008) for the rest.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib import image as pictures
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import blended_transform_factory
from PIL import Image  # matplotlib needs it too
from torch import Tensor

from kws_imagebind.audio import MelConfig, log_mel
from kws_imagebind.files import whole
from kws_imagebind.published import PublishedResult
from kws_imagebind.statistics import Interval

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # of Okabe and Ito
GREY, LIGHT_GREY = "#666666", "#dddddd"
DPI = 120
LONGEST_LABEL = 26  # letters; what is longer is cut with an ellipsis
LARGEST = 30.0  # inches of a matrix or a list of words: beyond it rows get thinner, not the figure larger
THINNEST_ROW_WITH_LABEL = 0.1  # inches: 7 points, below which letters run into each other
THINNEST_CELL_FOR_A_DIGIT = 0.075  # inches; a number wants so much for each
SCREEN_DPI = 96  # pixels of a page to the inch
SHARP = 1.6  # pixels of a picture to one of a page, for fine screens
HERTZ = (250, 500, 1_000, 2_000, 4_000)  # named beside a spectrogram
SPECTROGRAM = MelConfig(mels=64)
RANGE = 9.0  # of a spectrogram, in nepers below its loudest point: 78 dB


def confusion_matrix_figure(
    matrix: Tensor | np.ndarray, labels: Sequence[str], title: str, side: float = 9.5
) -> Figure:
    """Which word is taken for which: a row for each spoken word, a column for each predicted one.

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
    cell = _pitch(classes, widest=max(0.6, 2.6 / classes), narrowest=min(0.17, side / 35), room=side)
    side = cell * classes
    figure = Figure(figsize=(side, side), dpi=DPI)  # of the cells alone: saving adds what stands around them
    axes = figure.add_axes((0, 0, 1, 1))
    colours = colormaps["cividis"].with_extremes(bad=LIGHT_GREY)
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1), aspect="equal", interpolation="nearest")
    axes.set_xlabel("predicted")
    axes.set_ylabel("spoken")
    _name_rows(axes.yaxis, labels, cell)
    _name_rows(axes.xaxis, labels, cell)
    axes.tick_params(axis="x", rotation=90)
    if cell >= THINNEST_CELL_FOR_A_DIGIT * len(str(counts.max(initial=0))):
        _write_counts(axes, counts, shares, _font_size(cell))
    height = min(side, 3.0)
    bar = figure.colorbar(
        image, cax=figure.add_axes((1 + 0.15 / side, 0, 0.15 / side, height / side)), ticks=[0, 0.1, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0 %", "10 %", "50 %", "100 %"])
    bar.set_label("share of the spoken word's clips", fontsize=8)
    hits, n = int(np.trace(counts)), int(counts.sum())
    _entitle(axes, title, f"n = {n:,} clips, {hits:,} of them on the diagonal", side)
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
    pitch = _pitch(len(rows), widest=0.26, narrowest=0.15)
    figure = Figure(figsize=(width, pitch * len(rows)), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _draw_intervals(axes, [interval for interval, _ in rows], pitch)
    _name_rows(axes.yaxis, [label for _, label in rows], pitch, longest)
    axes.axvline(chance, color=VERMILION, linestyle="--", linewidth=1.2)
    beside = blended_transform_factory(axes.transData, axes.transAxes)
    axes.annotate(
        f"chance {100 * chance:.1f} %", (chance, 1), (3, 2), xycoords=beside, textcoords="offset points",
        color=VERMILION, fontsize=8, annotation_clip=False,
    )  # fmt: skip
    axes.set_xlabel(f"accuracy with its {_level(intervals)}")
    _entitle(axes, title, caption, width, above=12)
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
    pitch = _pitch(len(rows), widest=0.26, narrowest=0.15)
    width, height = 5.5, pitch * len(rows)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.barh(range(len(rows)), [n for n, _ in rows], height=0.7, color=BLUE)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _name_rows(axes.yaxis, [label for _, label in rows], pitch)
    if pitch >= THINNEST_ROW_WITH_LABEL:
        for y, (n, _) in enumerate(rows):
            axes.annotate(
                f"{n:,}" if n else "no clips", (n, y), (4, 0), textcoords="offset points", va="center",
                fontsize=_font_size(pitch) * 0.85, color=GREY,
            )  # fmt: skip
    axes.set_xlabel("clips")
    _entitle(axes, title, f"n = {sum(clips):,} clips", width)
    return figure


def spectrogram_png(log_mel: Tensor, decibels: float = 70.0) -> bytes:
    """The bare picture of a log-mel spectrogram, one pixel a value, low frequencies at the bottom.

    Args:
        log_mel: (mels, frames), natural logarithms of power.
        decibels: from the loudest value down to what is drawn darkest.
    """
    values = log_mel.numpy()
    loudest = float(values.max())
    buffer = io.BytesIO()
    floor = loudest - decibels * np.log(10) / 10
    pictures.imsave(buffer, values, cmap="cividis", vmin=floor, vmax=loudest, origin="lower", format="png")
    return buffer.getvalue()


def mel_figure(waveforms: Sequence[Tensor], titles: Sequence[str], columns: int = 3) -> Figure:
    """Recordings as mel spectrograms, side by side: time from left to right, pitch upwards, loud is bright.

    Args:
        waveforms: (samples,) each, at 16 kHz, of at least 25 ms.
        titles: of each.
        columns: in one row.

    Raises:
        ValueError: there is not one title for each, or nothing to draw.
    """
    pairs = list(zip(waveforms, titles, strict=True))
    if not pairs:
        raise ValueError("no recording to draw; expected at least one")
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(6.6, 0.45 + 1.75 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(pairs) :]:
        axes.set_visible(False)
    for index, (axes, (waveform, title)) in enumerate(zip(grid.flat, pairs, strict=False)):
        mel = log_mel(waveform[None].float(), SPECTROGRAM)[0].numpy()
        seconds = len(waveform) / SPECTROGRAM.sample_rate
        axes.imshow(
            mel, origin="lower", aspect="auto", cmap="cividis", vmin=mel.max() - RANGE, vmax=mel.max(),
            extent=(0, seconds, -0.5, SPECTROGRAM.mels - 0.5), interpolation="nearest",
        )  # fmt: skip
        axes.set_title(_cut(title), fontsize=10, weight="bold", loc="left", parse_math=False)
        axes.set_yticks([SPECTROGRAM.band(hertz) for hertz in HERTZ], [f"{hertz:,}" for hertz in HERTZ], fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        if index + columns >= len(pairs):
            axes.set_xlabel("seconds", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("hertz (mel scale)", fontsize=9)
    return figure


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
    _name_rows(axes.yaxis, spoken, 0.75 * cell)
    _name_rows(axes.xaxis, words, cell)
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
            axes.add_patch(_frame(column, row, GREEN if spoken[row] == words[column] else VERMILION))
    bar = figure.colorbar(image, cax=figure.add_axes((1 + 0.15 / width, 0, 0.15 / width, 1)))
    bar.set_label("cosine", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    right = sum(spoken[row] == words[int(best)] for row, best in enumerate(values.argmax(axis=1)))
    caption = f"framed: the nearest word of each recording; it is the spoken one for {right} of {len(spoken)}"
    _entitle(axes, title, caption, width)
    return figure


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
        text = axes.text(x, y, _cut(word), ha="center", va="center", fontsize=9, weight="bold", parse_math=False)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(LIGHT_GREY)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.01), ncols=2, fontsize=9, frameon=False)
    _entitle(axes, title, f"n = {len(names):,} clips; near means similar, the axes mean nothing", 6.4)
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
    pitch = _pitch(len(ranked), widest=0.3, narrowest=0.15)
    width, height = 5.0, pitch * len(ranked)
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    values = [score for _, score in ranked]
    axes.barh(range(len(ranked)), values, height=0.7, color=[BLUE] + ["#9ab8cc"] * (len(ranked) - 1))
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.set_xlim(min(0.0, *values) * 1.15, max(0.05, *values) * 1.12)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _name_rows(axes.yaxis, [word for word, _ in ranked], pitch)
    for y, value in enumerate(values):
        axes.annotate(
            f"{value:.2f}", (max(value, 0), y), (4, 0), textcoords="offset points", va="center", fontsize=9, color=GREY
        )
    axes.set_xlabel("cosine to the recording")
    _entitle(axes, title, f"the best of {len(ranked)} words, whatever was said", width)
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
    for axes, (kind, values), colour in zip(grid, scores.items(), _cycle(len(scores)), strict=True):
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
    _entitle(grid[0], title, f"dashed: the threshold {threshold:.2f}, which accepts 95 % of the first kind", 5.8)
    return figure


def published_figure(results: Sequence[PublishedResult], chances: Mapping[str, float], own: str, title: str) -> Figure:
    """Published accuracies, one block for each task, zero-shot and supervised told apart by colour and shape.

    Args:
        results: in any order; of a task the best comes first.
        chances: accuracy of a guess, by task.
        own: the source whose results are marked.
        title: of the whole.
    """
    blocks = [
        (task, sorted((each for each in results if each.task == task), key=lambda each: -each.accuracy))
        for task in dict.fromkeys(each.task for each in results)
    ]
    lines = sum(len(block) + 1.6 for _, block in blocks)
    width, height = 4.6, 0.21 * lines
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    y, ticks = 0.0, []
    for task, block in blocks:
        chance = chances[task]
        heading = f"{task} (chance {100 * chance:.1f} %)"
        axes.annotate(
            heading, (0, y), (-4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            fontsize=9, weight="bold", va="center", ha="right", annotation_clip=False,
        )  # fmt: skip
        axes.vlines(chance, y + 0.4, y + len(block) + 0.5, color=GREY, linestyle="--", linewidth=1)
        for each in block:
            y += 1
            _draw_published(axes, each, y, each.source == own)
            ticks.append((y, _cut(each.system, 36)))
        y += 1.6
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=8, parse_math=False)
    axes.set_ylim(y - 0.6, -0.8)
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("accuracy")
    handles = [
        axes.plot([], [], marker, color=colour, markersize=7, label=name)[0]
        for name, marker, colour in (("zero-shot", "o", BLUE), (f"zero-shot, {own}", "D", VERMILION),
                                     ("supervised: trained on these words", "s", GREY))
    ]  # fmt: skip
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.45, -0.4 / height), ncols=3, fontsize=8,
                frameon=False, columnspacing=1.0, handletextpad=0.2)  # fmt: skip
    _entitle(axes, title, "blocks differ in words and clips, so compare within a block; dashed: chance", width + 1.2)
    return figure


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


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG; an interrupted run leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        figure.savefig(part, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.15, facecolor="white")


def _pitch(rows: int, widest: float, narrowest: float, room: float = 9.5) -> float:
    """Inches from row to row: wide where they are few, thinner with their number, `LARGEST` for all at most."""
    return min(max(min(widest, room / rows), narrowest), LARGEST / rows)


def _font_size(pitch: float) -> float:
    """Points of a letter that fits a row of this many inches."""
    return min(10.0, 0.62 * 72 * pitch)


def _name_rows(axis: Axis, labels: Sequence[str], pitch: float, longest: int = LONGEST_LABEL) -> None:
    if pitch < THINNEST_ROW_WITH_LABEL:
        axis.set_ticks([])
        axis.set_label_text(f"{axis.get_label_text()} ({len(labels)} words)".strip())
        return
    axis.set_ticks(
        range(len(labels)), [_cut(label, longest) for label in labels], fontsize=_font_size(pitch), parse_math=False
    )
    axis.set_tick_params(length=0)


def _cut(label: str, longest: int = LONGEST_LABEL) -> str:
    return label if len(label) <= longest else label[: longest - 1] + "…"


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
        axes.text(1.02, y, text, transform=outside, va="center", fontsize=_font_size(pitch) * 0.85, color=GREY)
    axes.text(1.02, -0.7, "n", transform=outside, va="bottom", fontsize=8, color=GREY)


def _level(per_class: Sequence[Interval]) -> str:
    levels = sorted({f"{100 * interval.confidence:g} % interval" for interval in per_class})
    return " or ".join(levels)


def _count(per_class: Sequence[Interval]) -> str:
    sizes = [interval.n for interval in per_class if interval.n]
    if not sizes:
        return "no clips"
    each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    without = len(per_class) - len(sizes)
    rest = f"; {without} of {len(per_class)} words without clips" if without else ""
    return f"n = {sum(sizes):,} clips, {each} a word{rest}"


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


def _frame(column: int, row: int, colour: str) -> Rectangle:
    return Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=colour, linewidth=2)


def _cycle(count: int) -> list[str]:
    return [(BLUE, VERMILION, GREEN, GREY)[index % 4] for index in range(count)]


def _draw_published(axes: Axes, result: PublishedResult, y: float, own: bool) -> None:
    colour, marker = (GREY, "s") if result.supervised else (VERMILION, "D") if own else (BLUE, "o")
    if result.limits:
        axes.hlines(y, *result.limits, color=colour, alpha=0.55, linewidth=4)
    axes.plot([result.accuracy], [y], marker, color=colour, markersize=7, clip_on=False)
    n = f", n = {result.n:,}" if result.n else ""
    number = f"{100 * result.accuracy:.2f}".rstrip("0").rstrip(".")  # as many decimals as the source has
    left = result.accuracy > 0.5
    reach = result.limits[0 if left else 1] if result.limits else result.accuracy
    axes.annotate(
        f"{number} %{n}", (reach, y), (-8 if left else 8, 0), textcoords="offset points",
        va="center", ha="right" if left else "left", fontsize=8, color=GREY,
    )  # fmt: skip


def _entitle(axes: Axes, title: str, caption: str, width: float, above: float = 0) -> None:
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
