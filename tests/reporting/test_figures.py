"""Figures: that they say what they are given, hold for few and many words, and are written whole."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from kws_imagebind.metrics.classification import Metrics, measure
from kws_imagebind.metrics.intervals import wilson
from kws_imagebind.reporting.figures.accuracy import (
    confusion_matrix_figure,
    distribution_figure,
    per_class_figure,
    prompt_figure,
)
from kws_imagebind.reporting.figures.map import map_figure
from kws_imagebind.reporting.figures.published import published_figure
from kws_imagebind.reporting.figures.similarity import ranking_figure, score_figure, similarity_figure
from kws_imagebind.reporting.figures.spectrogram import mel_figure
from kws_imagebind.reporting.figures.style import SHARP, png, save_figure
from kws_imagebind.reporting.published import PHONEBIND, PUBLISHED


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
        ("matrix", confusion_matrix_figure(metrics.confusion, labels, "A title")),
        ("words", per_class_figure(metrics.per_class, labels, 1 / classes, "A title")),
    ):
        path = tmp_path / "made" / f"{name}.png"
        save_figure(figure, path)
        width, height = _png_size(path.read_bytes())
        assert 300 <= width <= 2600
        assert 150 <= height <= 2600
        assert [file.name for file in path.parent.iterdir() if file.suffix == ".part"] == []


def test_the_matrix_shows_its_counts_and_its_n() -> None:
    figure = confusion_matrix_figure(torch.tensor([[7, 2], [0, 5]]), ["yes", "no"], "Two words")
    texts = _texts(figure)
    assert sorted(text for text in texts if text.isdigit()) == ["2", "5", "7"]  # a zero is left blank
    assert "Two words" in texts
    assert "n = 14 clips, 12 of them on the diagonal" in texts
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["yes", "no"]
    shares = axes.images[0].get_array()
    assert shares[0].tolist() == pytest.approx([7 / 9, 2 / 9])  # rows are the spoken words


def test_a_word_without_clips_is_grey_and_not_zero() -> None:
    figure = confusion_matrix_figure(torch.tensor([[3, 1], [0, 0]]), ["yes", "no"], "t")
    assert figure.axes[0].images[0].get_array().mask.tolist() == [[False, False], [True, True]]


def test_words_are_listed_from_best_to_worst_with_their_intervals() -> None:
    scores = torch.eye(4)[[0, 0, 1, 2, 2, 0]]
    metrics = measure(scores, torch.tensor([0, 0, 2, 2, 2, 1]))  # 0: 2/2, 1: 0/1, 2: 2/3, 3: none
    figure = per_class_figure(metrics.per_class, ["a", "b", "c", "d"], 0.25, "Four")
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
        confusion_matrix_figure(metrics.confusion, labels, "cost: $x_{ $ 50 %"),
        per_class_figure(metrics.per_class, labels, 1 / 3, "cost: $x_{ $ 50 %"),
    ):
        save_figure(figure, tmp_path / "figure.png")
        named = {tick.get_text() for tick in figure.axes[0].get_yticklabels()}
        assert named == {"open the door of the kitc…", "a $5_{ lamp$", "/K EH T AH L/"}


def test_the_distribution_shows_every_words_clips(tmp_path: Path) -> None:
    figure = distribution_figure([7, 0, 1_200], ["yes", "no", "$x_{ up"], "Three")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [7, 0, 1_200]
    assert {"7", "no clips", "1,200", "n = 1,207 clips"} <= set(_texts(figure))
    save_figure(figure, tmp_path / "figure.png")
    with pytest.raises(ValueError, match="zip"):
        distribution_figure([1], ["a", "b"], "t")


def test_labels_do_not_run_into_each_other() -> None:
    for classes in (35, 290):
        metrics, labels = _metrics(classes), [f"Gy word {i}" for i in range(classes)]
        figure = per_class_figure(metrics.per_class, labels, 1 / classes, "t")
        figure.savefig(io.BytesIO(), format="png")
        boxes = [tick.get_window_extent() for tick in figure.axes[0].get_yticklabels()]
        assert len(boxes) == classes
        assert not any(upper.overlaps(lower) for upper, lower in pairwise(boxes))


def test_more_words_than_can_be_named_still_give_a_figure(tmp_path: Path) -> None:
    classes = 400
    metrics, labels = _metrics(classes), [f"word {i}" for i in range(classes)]
    figure = confusion_matrix_figure(metrics.confusion, labels, "t")
    save_figure(figure, tmp_path / "figure.png")
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
        save_figure(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_sizes_that_do_not_fit_are_refused() -> None:
    metrics = _metrics(3)
    with pytest.raises(ValueError, match=r"confusion matrix of shape \(3, 3\) for 2 labels"):
        confusion_matrix_figure(metrics.confusion, ["a", "b"], "t")
    with pytest.raises(ValueError, match="zip"):
        per_class_figure(metrics.per_class, ["a", "b"], 0.5, "t")


def test_a_confusion_matrix_can_be_read_at_the_width_of_a_page() -> None:
    metrics, labels = _metrics(35), [f"word {i}" for i in range(35)]
    figure = confusion_matrix_figure(metrics.confusion, labels, "t", side=5.4)
    assert figure.get_size_inches().tolist() == pytest.approx([5.4, 5.4])
    assert figure.axes[0].get_yticklabels()[0].get_fontsize() * 96 / 72 >= 9  # pixels
    numbers = [text for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert sum(int(text.get_text()) for text in numbers) == 35 * 12


def test_a_spectrogram_has_a_tone_at_its_frequency() -> None:
    time = torch.arange(16_000) / 16_000
    for hertz in (500, 2_000):
        figure = mel_figure([torch.sin(2 * torch.pi * hertz * time), time[:8_000]], ["tone", "ramp"])
        axes = figure.axes[0]
        ticks = dict(zip([t.get_text() for t in axes.get_yticklabels()], axes.get_yticks(), strict=True))
        brightest = int(axes.images[0].get_array().mean(axis=1).argmax())
        assert brightest == pytest.approx(ticks[f"{hertz:,}"], abs=1)
        assert axes.images[0].get_extent()[:2] == [0, 1.0]
        assert [each.get_title(loc="left") for each in figure.axes if each.get_visible()] == ["tone", "ramp"]
        assert [each.get_visible() for each in figure.axes] == [True, True, False]
    with pytest.raises(ValueError, match="no recording"):
        mel_figure([], [])
    with pytest.raises(ValueError, match="zip"):
        mel_figure([time], [])


def test_the_heat_map_frames_the_nearest_word() -> None:
    cosines = torch.tensor([[0.9, 0.1, -0.001], [0.7, 0.2, 0.3]])
    figure = similarity_figure(cosines, ["yes", "no"], ["yes", "no", "$_{"], "Space")
    frames = {(round(f.get_y() + 0.46), round(f.get_x() + 0.46)): f.get_edgecolor() for f in figure.axes[0].patches}
    assert set(frames) == {(0, 0), (1, 0)} and frames[0, 0] != frames[1, 0]  # right, and wrong
    texts = _texts(figure)
    assert "0.00" in texts and "-0.00" not in texts
    assert "framed: the nearest word of each recording; it is the spoken one for 1 of 2" in " ".join(texts).replace(
        "\n", " "
    )
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 2 clips and 2 words"):
        similarity_figure(cosines, ["yes", "no"], ["yes", "no"], "t")


def test_the_map_names_every_word_once_and_tells_mistakes_apart() -> None:
    rng = np.random.default_rng(0)
    spoken = [f"word{i % 12}" for i in range(120)]
    places = np.array([[i % 4, i % 12 // 8] for i in range(120)]) + 0.05 * rng.normal(size=(120, 2))  # heaps of three
    figure = map_figure(places, spoken, [i % 10 > 0 for i in range(120)], "Map")
    figure.savefig(io.BytesIO(), format="png")
    names = [text for text in figure.axes[0].texts if text.get_text().startswith("word")]
    assert sorted(text.get_text() for text in names) == sorted(set(spoken))
    boxes = [text.get_window_extent() for text in names]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    right, wrong = figure.axes[0].collections
    assert (len(right.get_offsets()), len(wrong.get_offsets())) == (108, 12)
    assert np.allclose(wrong.get_offsets(), places[::10])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "heard right (108)",
        "misheard (12)",
    ]
    with pytest.raises(ValueError, match="places of shape"):
        map_figure(places[:5], spoken, [True] * 120, "t")


def test_the_ranking_shows_every_words_cosine() -> None:
    figure = ranking_figure([("yes", 0.61), ("no", 0.2), ("up", -0.3)], "One")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.61, 0.2, -0.3]
    assert {"0.61", "0.20", "-0.30"} <= set(_texts(figure))
    assert axes.get_xlim()[0] < -0.3
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
    with pytest.raises(ValueError, match="no word"):
        ranking_figure([], "t")


def test_the_prompts_are_named_in_full_the_best_first() -> None:
    trials = {"{}": wilson(5, 10), "a recording in which {} is said by a person": wilson(9, 10)}
    figure = prompt_figure(trials, 0.1, "Prompts")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == ["“a recording in which {} is said by a person”", "“{}”"]
    assert "the same 10 clips for each; {} stands for the word" in _texts(figure)


def test_scores_are_counted_on_either_side_of_the_threshold() -> None:
    figure = score_figure({"keywords": np.array([0.4, 0.8, 0.9]), "noise": np.array([0.1, 0.2])}, 0.5, "Open")
    assert {"keywords: 1 of 3 turned away", "noise: 2 of 2 turned away"} <= set(_texts(figure))
    assert [sum(bar.get_height() for bar in axes.patches) for axes in figure.axes] == [3, 2]
    assert all(axes.lines[0].get_xdata()[0] == 0.5 for axes in figure.axes)


def test_published_results_stand_in_their_own_blocks_with_their_limits() -> None:
    chances = {"v2-10": 0.1, "v2-35": 1 / 35, "v2-37": 1 / 37, "v2-12": 1 / 12}
    rows = [*PHONEBIND, *PUBLISHED]
    figure = published_figure(rows, chances, "this project", "All")
    axes = figure.axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert sorted(names) == sorted(each.system for each in rows)  # in full
    assert names.index("jina-embeddings-v5-omni-small") < names.index("PhoneBind") < names.index("Wav2CLIP")
    texts = _texts(figure)
    assert "v2-35 (chance 2.9 %)" in texts and "2.76 %, n = 11,005" in texts and "97.45 %, n = 4,074" in texts
    heights = dict(zip(axes.get_yticks(), names, strict=True))
    drawn = {(heights[y], marker.get_marker()) for marker in axes.lines for y in marker.get_ydata() if y in heights}
    assert {("PhoneBind", "D"), ("AST", "s"), ("ImageBind", "o")} <= drawn
    limits = [
        segment for lines in axes.collections for segment in lines.get_segments() if len(lines.get_segments()) == 1
    ]
    assert any(np.allclose(sorted(segment[:, 0]), PHONEBIND[0].limits) for segment in limits)


def test_a_picture_for_a_page_is_sharp_small_and_no_broader_than_the_page() -> None:
    metrics, labels = _metrics(35), [f"word {i}" for i in range(35)]
    wide = confusion_matrix_figure(metrics.confusion, labels, "t")
    data, width = png(wide, 700)
    assert width == 700
    assert _png_size(data)[0] == pytest.approx(700 * SHARP, rel=0.02)
    assert len(data) < 100_000
    _, narrow = png(ranking_figure([("yes", 0.5)], "t"), 700)
    assert narrow < 700
