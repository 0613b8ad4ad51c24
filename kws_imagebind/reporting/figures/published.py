"""A run among published results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kws_imagebind.reporting.figures.style import BLUE, DPI, GREY, LIGHT_GREY, VERMILION, entitle, shorten
from kws_imagebind.reporting.published import PublishedResult


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
            ticks.append((y, shorten(each.system, 36)))
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
    entitle(axes, title, "blocks differ in words and clips, so compare within a block; dashed: chance", width + 1.2)
    return figure


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
