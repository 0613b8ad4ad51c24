"""Pictures of words: boxes that hold the word, fonts kept apart, the same picture from the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kws_imagebind.datasets.base import DatasetError
from kws_imagebind.datasets.reading_aloud import FONTS, Box, WordPainter, bundled_fonts

pytest.importorskip("PIL", reason="pictures need Pillow")
pytest.importorskip("matplotlib", reason="the fonts are matplotlib's")


def test_fonts_are_there_and_no_font_has_two_uses() -> None:
    every = [path for use in FONTS for path in bundled_fonts(use)]
    assert all(path.is_file() for path in every) and len(set(every)) == len(every)


@pytest.mark.parametrize("use", list(FONTS))
def test_the_word_is_in_its_box_and_nowhere_else(use: str) -> None:
    """Two drawings that differ in the word alone differ only where a word is, and contrast there."""
    painter = WordPainter(bundled_fonts(use), (64, 96))
    for seed in range(20):
        picture, box = painter.word("seven", np.random.default_rng(seed))
        assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
        assert 0 <= box.left < box.right <= 96 and 0 <= box.top < box.bottom <= 64
        inside = np.zeros((64, 96), bool)
        inside[box.top : box.bottom, box.left : box.right] = True
        grey = picture.mean(2)
        assert np.ptp(grey[inside]) > 60


def test_pages_put_each_word_into_its_cell() -> None:
    painter = WordPainter(bundled_fonts("testing"), (96, 128))
    words = ["one", "two", "", "four", "five", "six"]
    picture, boxes = painter.page(words, (3, 2), np.random.default_rng(0))
    assert picture.shape == (96, 128, 3)
    for cell, box in enumerate(boxes):
        row, column = divmod(cell, 2)
        assert 64 * column <= box.left and box.right <= 64 * (column + 1)
        assert 32 * row <= box.top and box.bottom <= 32 * (row + 1)


def test_a_seed_decides_everything() -> None:
    painter = WordPainter(bundled_fonts("training"), (48, 48))
    one, other, third = (painter.word("go", np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (one == other).all() and (one != third).any()


def test_boxes() -> None:
    box = Box(2, 3, 5, 4)
    assert box.area == 3 and box.holds(2, 3.9) and not box.holds(5, 3) and not box.holds(2, 4)


def test_bad_fonts_and_pages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.ttf").write_text("no font")
    with pytest.raises(DatasetError, match="cannot be read as a font"):
        WordPainter([tmp_path / "no.ttf"])
    with pytest.raises(DatasetError, match="no font"):
        WordPainter([])
    painter = WordPainter(bundled_fonts("training"), (32, 32))
    with pytest.raises(DatasetError, match="2 words for 6 cells"):
        painter.page(["a", "b"], (3, 2), np.random.default_rng(0))
