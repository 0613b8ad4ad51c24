"""Accuracy by the number of labelled clips: a panel for each encoder, a line for each read-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.reporting.figures.style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    LIGHT_GREY,
    VERMILION,
    entitle,
    shorten,
)

WIDTH, HEIGHT, GAP = 4.2, 3.4, 0.5  # inches of a panel, and between two
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"  # of Okabe and Ito
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
MARKERS = "osD^vP"


@dataclass(frozen=True)
class Panel:
    """One encoder's curves.

    Attributes:
        title: above the panel.
        lines: of each read-out, (clips a word, accuracy); None clips stands for all there are.
        zero_shot: accuracy without any clip; None where there is no such line.
        chance: accuracy of a guess, from 0 to 1.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[int | None, Interval]]]
    zero_shot: Interval | None
    chance: float


def learning_curve_figure(panels: Sequence[Panel], title: str, caption: str) -> Figure:
    """Panels side by side with one scale, each with its zero-shot line and the intervals of every point.

    Raises:
        ValueError: there is no panel, or a panel has no line.
    """
    if not panels or not all(panel.lines for panel in panels):
        raise ValueError("a learning curve without a line; expected at least one read-out for each encoder")
    steps = _steps(panels)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    width = len(panels) * WIDTH + (len(panels) - 1) * GAP
    figure = Figure(figsize=(width, HEIGHT), dpi=DPI)
    lowest = _lowest(panels)
    axes = None
    for column, panel in enumerate(panels):
        place = (column * (WIDTH + GAP) / width, 0, WIDTH / width, 1)
        axes = figure.add_axes(place)
        _draw(axes, panel, steps, names)
        axes.set_ylim(lowest, 1.005)
        axes.set_title(shorten(panel.title, 48), fontsize=9, loc="left", parse_math=False)
        if column:
            axes.set_yticklabels([])
        else:
            entitle(axes, title, caption, width, above=16)
            axes.set_ylabel("accuracy with its 95 % interval")
    assert axes is not None
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _steps(panels: Sequence[Panel]) -> list[int | None]:
    """The numbers of clips of all panels in rising order, all clips last."""
    found = {shots for panel in panels for line in panel.lines.values() for shots, _ in line}
    numbers = sorted(shots for shots in found if shots is not None)
    return [*numbers, *([None] if None in found else [])]


def _lowest(panels: Sequence[Panel]) -> float:
    """Where the scale begins: a little under the lowest limit, at a whole tenth."""
    every = [interval.low for panel in panels for line in panel.lines.values() for _, interval in line]
    every += [panel.zero_shot.low for panel in panels if panel.zero_shot]
    return max(0.0, (min(every) * 10 // 1) / 10 - 0.02)


def _draw(axes: Axes, panel: Panel, steps: Sequence[int | None], names: Sequence[str]) -> None:
    axes.grid(axis="y", color=LIGHT_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_xticks(range(len(steps)), ["all" if step is None else f"{step:,}" for step in steps])
    axes.set_xlabel("labelled clips a word")
    if panel.zero_shot:
        axes.axhspan(panel.zero_shot.low, panel.zero_shot.high, color=GREY, alpha=0.12, linewidth=0)
        axes.axhline(panel.zero_shot.estimate, color=GREY, linestyle="--", linewidth=1.2, label="zero-shot")
    axes.axhline(panel.chance, color=GREY, linestyle=":", linewidth=1.0, label=f"chance {100 * panel.chance:.1f} %")
    for index, name in enumerate(names):
        line = panel.lines.get(name, ())
        # Beside each other, so that intervals do not hide one another.
        shift = 0.09 * (index - (len(names) - 1) / 2)
        x = [steps.index(shots) + shift for shots, _ in line]
        y = [interval.estimate for _, interval in line]
        below = [interval.estimate - interval.low for _, interval in line]
        above = [interval.high - interval.estimate for _, interval in line]
        axes.errorbar(
            x, y, yerr=[below, above], color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)],
            markersize=4.5, linewidth=1.4, elinewidth=1.0, capsize=2, label=name,
        )  # fmt: skip
