"""Accuracy of several encoders with intervals, and what each costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kws_imagebind.reporting.figures.style import BLUE, DPI, GREY, LIGHT_GREY, VERMILION, entitle, shorten

if TYPE_CHECKING:
    from kws_imagebind.reporting.leaderboard import Leaderboard


def leaderboard_figure(board: Leaderboard) -> Figure:
    """Each encoder's accuracy with its interval on the left, its time a clip on the right, the best on top."""
    rows = len(board.rows)
    width, height = 8.0, 0.42 * rows + 0.5
    figure = Figure(figsize=(width, height), dpi=DPI)
    accuracy, cost = figure.add_axes((0, 0, 0.62, 1)), figure.add_axes((0.7, 0, 0.3, 1))
    for y, row in enumerate(board.rows):
        found, colour = row.accuracy, VERMILION if row.kind == "likelihood" else BLUE
        accuracy.hlines(y, found.low, found.high, color=colour, alpha=0.55, linewidth=4)
        accuracy.plot([found.estimate], [y], "s" if row.kind == "likelihood" else "o", color=colour, markersize=7)
        left = found.estimate > 0.5
        accuracy.annotate(
            f"{100 * found.estimate:.1f} %", (found.low if left else found.high, y), (-6 if left else 6, 0),
            textcoords="offset points", va="center", ha="right" if left else "left", fontsize=8, color=GREY,
        )  # fmt: skip
        cost.barh(y, 1000 * row.seconds, color=colour, height=0.5)
        cost.annotate(
            f"{1000 * row.seconds:.1f}", (1000 * row.seconds, y), (4, 0), textcoords="offset points", va="center",
            fontsize=8, color=GREY, annotation_clip=False,
        )  # fmt: skip
    accuracy.axvline(board.chance, color=GREY, linestyle="--", linewidth=1)
    names = [shorten(row.encoder, 36) for row in board.rows]
    accuracy.set_yticks(range(rows), names, fontsize=9, parse_math=False)
    accuracy.set_xlim(0, 1.02)
    accuracy.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    accuracy.set_xlabel("accuracy, 95 % interval")
    cost.set_yticks([])
    cost.set_xlabel("ms a clip")
    for axes in (accuracy, cost):
        axes.set_ylim(rows - 0.5, -0.5)
        axes.grid(axis="x", color=LIGHT_GREY, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    caption = (
        f"{board.n:,} clips, {board.keywords} keywords; dashed: chance; squares: models that score words without an "
        "embedding space"
    )
    entitle(accuracy, f"{board.dataset}, task {board.task}", caption, width)
    return figure
