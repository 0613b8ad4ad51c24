"""Figures of a training: they hold what they were drawn from, and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from kws_imagebind.reporting.figures.training import heads_figure, history_figure


def test_the_history_shows_both_curves_and_the_epoch_that_was_kept() -> None:
    figure = history_figure(([2.0, 1.0], [0.3, 0.6]), ([2.5, 1.5], [0.2, 0.5]), 2, "residual")
    loss, accuracy = figure.axes
    drawn = [line.get_ydata() for line in (*loss.lines[:2], *accuracy.lines[:2])]
    assert [list(map(float, each)) for each in drawn] == [[2.0, 1.0], [2.5, 1.5], [0.3, 0.6], [0.2, 0.5]]
    assert list(loss.lines[2].get_xdata()) == [2, 2]
    for curves in (([], []), ([1.0], [])):
        with pytest.raises(ValueError, match="expected loss and accuracy of each epoch"):
            history_figure(curves, ([1.0], [1.0]), 1, "residual")


def test_each_head_has_a_panel_with_every_clip() -> None:
    places = np.arange(12.0).reshape(6, 2)
    figure = heads_figure([("head 1", places), ("head 2", -places)], ["yes", "no", "yes", "no", "up", "up"], "residual")
    assert [axes.get_title() for axes in figure.axes] == ["head 1", "head 2"]
    for axes in figure.axes:
        assert sum(len(each.get_offsets()) for each in axes.collections) == 6
        assert {text.get_text() for text in axes.texts} == {"yes", "no", "up"}
    with pytest.raises(ValueError, match="two numbers for each of 3 clips"):
        heads_figure([("head", places)], ["yes"] * 3, "residual")
