"""Pictures of written words, drawn on the fly: many fonts, sizes, rotations, places, colours and backgrounds.

With a recording of the word they are a correspondence task that needs no video: reading aloud. The fonts are those that
come with matplotlib, so that the pictures are the same everywhere; families are kept apart by use, so that a network is
tested on letters of shapes that it never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.datasets.base import DatasetError
from kws_imagebind.registry import to_install

# Families of matplotlib's fonts by who sees them.
FONTS = {
    "training": (
        "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSerif",
        "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic", "cmr10", "cmb10", "cmtt10",
    ),
    "validation": ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "cmti10"),
    "testing": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmss10"),
}  # fmt: skip
TURN = 20.0  # degrees either way
LEAST_CONTRAST = 90.0  # between the luminance of letters and ground, of 255
DRAWN_AT = 32  # pixels of the type size that a word is drawn in before it is scaled

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """Where a word lies in a picture, in pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in it."""
        return self.left <= x < self.right and self.top <= y < self.bottom

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)


def bundled_fonts(use: str) -> tuple[Path, ...]:
    """The fonts of one use: "training", "validation" or "testing".

    Raises:
        DatasetError: matplotlib, which brings them, is not installed.
    """
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise DatasetError(
            f"pictures of words are drawn with the fonts of matplotlib; {to_install('matplotlib', 'plots')}"
        )
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    return tuple(folder / f"{name}.ttf" for name in FONTS[use])


class WordPainter:
    """Draws words.

    Args:
        fonts: files of TrueType or OpenType fonts; one is drawn for each word.
        size: height and width of a picture in pixels.

    Raises:
        DatasetError: Pillow is not installed, or a font cannot be read.
    """

    def __init__(self, fonts: Sequence[Path], size: tuple[int, int] = (224, 224)) -> None:
        if not fonts:
            raise DatasetError("there is no font to draw words with; name at least one")
        self.fonts, self.size = tuple(fonts), size
        for font in self.fonts:
            _font(font)

    def word(self, text: str, random: np.random.Generator) -> tuple[Picture, Box]:
        """A picture (H, W, 3) of one word, and where the word is."""
        picture, boxes = self.page([text], (1, 1), random)
        return picture, boxes[0]

    def page(
        self, texts: Sequence[str], grid: tuple[int, int], random: np.random.Generator
    ) -> tuple[Picture, list[Box]]:
        """A picture with a word in each cell of a grid, row by row; "" leaves a cell empty.

        Args:
            texts: one for each cell.
            grid: rows and columns.
            random: decides everything else.

        Raises:
            DatasetError: there is not one text for each cell.
        """
        from PIL import Image

        rows, columns = grid
        if len(texts) != rows * columns:
            raise DatasetError(f"{len(texts)} words for {rows * columns} cells; expected one for each")
        height, width = self.size
        ground = _ground(height, width, random)
        picture = Image.fromarray(ground)
        boxes = []
        for cell, text in enumerate(texts):
            row, column = divmod(cell, columns)
            place = Box(
                column * width // columns, row * height // rows,
                (column + 1) * width // columns, (row + 1) * height // rows,
            )  # fmt: skip
            boxes.append(self._put(picture, ground, text, place, random) if text else place)
        return np.asarray(picture), boxes

    def _put(self, picture, ground: Picture, text: str, place: Box, random: np.random.Generator) -> Box:  # type: ignore[no-untyped-def]
        """Draws a word somewhere in a part of the picture."""
        from PIL import Image

        wide, high = place.right - place.left, place.bottom - place.top
        mask = _mask(text, self.fonts[int(random.integers(len(self.fonts)))])
        mask = mask.rotate(float(random.uniform(-TURN, TURN)), Image.Resampling.BILINEAR, expand=True)
        mask = mask.crop(mask.getbbox())
        scale = min(wide / mask.width, high / mask.height) * float(random.uniform(0.65, 0.98))
        # No letter is drawn larger than half of the part's height, however short the word.
        scale = min(scale, 0.5 * high / DRAWN_AT * float(random.uniform(0.7, 1.0)) * 1.6)
        mask = mask.resize(
            (max(4, round(mask.width * scale)), max(4, round(mask.height * scale))), Image.Resampling.BILINEAR
        )
        left = place.left + int(random.integers(max(1, wide - mask.width + 1)))
        top = place.top + int(random.integers(max(1, high - mask.height + 1)))
        behind = float(ground[top : top + mask.height, left : left + mask.width].mean())
        picture.paste(_ink(behind, random), (left, top), mask)
        return Box(left, top, left + mask.width, top + mask.height)


def _ink(behind: float, random: np.random.Generator) -> tuple[int, int, int]:
    """A colour that stands out from the luminance behind it."""
    colour = random.uniform(0, 255, 3)
    darkest, lightest = (0.0, behind - LEAST_CONTRAST) if behind > 127 else (behind + LEAST_CONTRAST, 255.0)
    wanted = random.uniform(darkest, lightest)
    colour = np.clip(colour + wanted - colour.mean(), 0, 255)
    return int(colour[0]), int(colour[1]), int(colour[2])


def _ground(height: int, width: int, random: np.random.Generator) -> Picture:
    """Two colours that run into each other, with coarse and fine noise."""
    first, second = random.uniform(0, 255, 3), random.uniform(0, 255, 3)
    second = first + 0.4 * (second - first)
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None]
    along = (np.cos(angle) * columns + np.sin(angle) * rows + 0.7) / 1.4
    coarse = random.normal(0, 12, (6, 6)).repeat(-(-height // 6), 0)[:height].repeat(-(-width // 6), 1)[:, :width]
    fine = random.normal(0, 1, (height, width)) * random.uniform(0, 12)
    values = first + along[..., None] * (second - first) + (coarse + fine)[..., None]
    return np.clip(values, 0, 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _font(path: Path):  # type: ignore[no-untyped-def]
    try:
        from PIL import ImageFont
    except ModuleNotFoundError as error:
        raise DatasetError(f"pictures need Pillow; {to_install('pillow', 'vision')}") from error
    try:
        return ImageFont.truetype(str(path), DRAWN_AT)
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read as a font; expected a TrueType or OpenType file") from error


@lru_cache(maxsize=8192)
def _mask(text: str, font: Path):  # type: ignore[no-untyped-def]
    """A word in one font: white letters on black."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = _font(font).getbbox(text)
    mask = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), text, font=_font(font), fill=255)
    return mask
