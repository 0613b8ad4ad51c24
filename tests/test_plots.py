"""Figures: that they say what they are given, hold for few and many words, and are written whole."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from kws_imagebind import plots
from kws_imagebind.metrics import Metrics, measure


def _metrics(classes: int, absent: int | None = None) -> Metrics:
    generator = torch.Generator().manual_seed(classes)
    targets = torch.arange(classes).repeat(12)
    if absent is not None:
        targets = targets[targets != absent]
    scores = torch.randn(len(targets), classes, generator=generator)
    scores[torch.arange(len(targets)), targets] += 2
    return measure(scores, targets)


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def _png_size(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")  # the last chunk: the file is whole
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("classes", [2, 10, 35, 100])
def test_both_figures_are_drawn_for_few_and_many_words(classes: int, tmp_path: Path) -> None:
    metrics, labels = _metrics(classes, absent=1), [f"word {i}" for i in range(classes)]
    for name, figure in (
        ("matrix", plots.confusion_matrix_figure(metrics.confusion, labels, "A title")),
        ("words", plots.per_class_figure(metrics.per_class, labels, 1 / classes, "A title")),
    ):
        path = tmp_path / "made" / f"{name}.png"
        plots.save_figure(figure, path)
        width, height = _png_size(path.read_bytes())
        assert 300 <= width <= 2600
        assert 150 <= height <= 2600
        assert [file.name for file in path.parent.iterdir() if file.suffix == ".part"] == []


def test_the_matrix_shows_its_counts_and_its_n() -> None:
    figure = plots.confusion_matrix_figure(torch.tensor([[7, 2], [0, 5]]), ["yes", "no"], "Two words")
    texts = _texts(figure)
    assert sorted(text for text in texts if text.isdigit()) == ["2", "5", "7"]  # a zero is left blank
    assert "Two words" in texts
    assert "n = 14 clips, 12 of them on the diagonal" in texts
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["yes", "no"]
    shares = axes.images[0].get_array()
    assert shares[0].tolist() == pytest.approx([7 / 9, 2 / 9])  # rows are the spoken words


def test_a_word_without_clips_is_grey_and_not_zero() -> None:
    figure = plots.confusion_matrix_figure(torch.tensor([[3, 1], [0, 0]]), ["yes", "no"], "t")
    assert figure.axes[0].images[0].get_array().mask.tolist() == [[False, False], [True, True]]


def test_words_are_listed_from_best_to_worst_with_their_intervals() -> None:
    scores = torch.eye(4)[[0, 0, 1, 2, 2, 0]]
    metrics = measure(scores, torch.tensor([0, 0, 2, 2, 2, 1]))  # 0: 2/2, 1: 0/1, 2: 2/3, 3: none
    figure = plots.per_class_figure(metrics.per_class, ["a", "b", "c", "d"], 0.25, "Four")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "c", "b", "d"]
    segments = [segment.tolist() for segment in axes.collections[0].get_segments()]
    drawn = {int(start[1]): (start[0], end[0]) for start, end in segments}
    expected = [metrics.per_class[i] for i in (0, 2, 1)]
    assert drawn == {y: pytest.approx((i.low, i.high)) for y, i in enumerate(expected)}
    texts = _texts(figure)
    assert "chance 25.0 %" in texts
    assert "no clips" in texts
    assert "n = 6 clips, 1 to 3 a word; 1 of 4 words without clips" in texts
    assert any(list(line.get_xdata()) == [0.25, 0.25] for line in axes.lines)


def test_labels_may_be_long_and_hold_any_sign(tmp_path: Path) -> None:
    labels = ["open the door of the kitchen please", "a $5_{ lamp$", "/K EH T AH L/"]
    metrics = _metrics(3)
    for figure in (
        plots.confusion_matrix_figure(metrics.confusion, labels, "cost: $x_{ $ 50 %"),
        plots.per_class_figure(metrics.per_class, labels, 1 / 3, "cost: $x_{ $ 50 %"),
    ):
        plots.save_figure(figure, tmp_path / "figure.png")
        named = {tick.get_text() for tick in figure.axes[0].get_yticklabels()}
        assert named == {"open the door of the kitc…", "a $5_{ lamp$", "/K EH T AH L/"}


def test_the_distribution_shows_every_words_clips(tmp_path: Path) -> None:
    figure = plots.distribution_figure([7, 0, 1_200], ["yes", "no", "$x_{ up"], "Three")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [7, 0, 1_200]
    assert {"7", "no clips", "1,200", "n = 1,207 clips"} <= set(_texts(figure))
    plots.save_figure(figure, tmp_path / "figure.png")
    with pytest.raises(ValueError, match="zip"):
        plots.distribution_figure([1], ["a", "b"], "t")


def test_labels_do_not_run_into_each_other() -> None:
    for classes in (35, 290):
        metrics, labels = _metrics(classes), [f"Gy word {i}" for i in range(classes)]
        figure = plots.per_class_figure(metrics.per_class, labels, 1 / classes, "t")
        figure.savefig(io.BytesIO(), format="png")
        boxes = [tick.get_window_extent() for tick in figure.axes[0].get_yticklabels()]
        assert len(boxes) == classes
        assert not any(upper.overlaps(lower) for upper, lower in pairwise(boxes))


def test_more_words_than_can_be_named_still_give_a_figure(tmp_path: Path) -> None:
    classes = 400
    metrics, labels = _metrics(classes), [f"word {i}" for i in range(classes)]
    figure = plots.confusion_matrix_figure(metrics.confusion, labels, "t")
    plots.save_figure(figure, tmp_path / "figure.png")
    assert max(_png_size((tmp_path / "figure.png").read_bytes())) < 4200
    assert figure.axes[0].get_xlabel() == "predicted (400 words)"


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def fail(self: Figure, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.save_figure(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_sizes_that_do_not_fit_are_refused() -> None:
    metrics = _metrics(3)
    with pytest.raises(ValueError, match=r"confusion matrix of shape \(3, 3\) for 2 labels"):
        plots.confusion_matrix_figure(metrics.confusion, ["a", "b"], "t")
    with pytest.raises(ValueError, match="zip"):
        plots.per_class_figure(metrics.per_class, ["a", "b"], 0.5, "t")
