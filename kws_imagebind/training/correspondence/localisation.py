"""Where in a picture a sound comes from: pages of six written words, one of which is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.reading_aloud import Box, WordPainter
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.models.avenet import AVOLNet, pixels
from kws_imagebind.training.correspondence.evaluate import mean_by_group
from kws_imagebind.training.correspondence.pairs import SpokenWords
from kws_imagebind.training.supervised.recipes import TrainingError

GRID = (3, 2)  # rows and columns of a page
BATCH = 32


@dataclass(frozen=True)
class Page:
    """A page with a sound.

    Attributes:
        picture: (H, W, 3) uint8.
        words: on it, row by row.
        boxes: where they are.
        spoken: which of them is.
        heat: (h, w) log-odds that the sound comes from there.
    """

    picture: NDArray[np.uint8]
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    spoken: int
    heat: NDArray[np.float32]

    @property
    def peak(self) -> tuple[float, float]:
        """x and y of the largest response, in pixels."""
        row, column = np.unravel_index(int(self.heat.argmax()), self.heat.shape)
        high, wide = self.picture.shape[:2]
        return (int(column) + 0.5) * wide / self.heat.shape[1], (int(row) + 0.5) * high / self.heat.shape[0]

    @property
    def hit(self) -> bool:
        """Whether the peak lies on the word that is spoken."""
        return self.boxes[self.spoken].holds(*self.peak)

    @property
    def chance(self) -> float:
        """How likely a peak anywhere lies on it: the share of the map's cells whose middles do."""
        high, wide = self.picture.shape[:2]
        rows, columns = self.heat.shape
        box = self.boxes[self.spoken]
        inside = [
            box.holds((column + 0.5) * wide / columns, (row + 0.5) * high / rows)
            for row in range(rows)
            for column in range(columns)
        ]
        return float(np.mean(inside))


@dataclass(frozen=True)
class LocalisationResult:
    """How often the peak lies on the word that is spoken.

    Attributes:
        hits: share of the pages, with limits by speaker.
        chance: of a peak anywhere.
        words: on a page; a peak on one of them at random would hit 1 in so many.
    """

    hits: Interval
    chance: float
    words: int

    def __str__(self) -> str:
        return (
            f"localisation: the peak lies on the spoken word of {self.words} in {self.hits}; chance "
            f"{100 * self.chance:.1f} % anywhere, {100 / self.words:.1f} % on a random word"
        )


@torch.no_grad()
def localise(
    network: AVOLNet,
    spoken: SpokenWords,
    front_end: FrontEnd,
    painter: WordPainter,
    seed: int,
    limit: int | None = None,
) -> list[Page]:
    """A page for each recording: its word and five others, in random cells.

    Args:
        network: ready to compute.
        spoken: the recordings.
        front_end: what the network hears.
        painter: of the pages.
        seed: of everything that is random.
        limit: recordings, from the first.

    Raises:
        TrainingError: there are fewer words than cells.
    """
    assert isinstance(network, nn.Module)
    vocabulary = sorted(set(spoken.written))
    cells = GRID[0] * GRID[1]
    if len(vocabulary) < cells:
        raise TrainingError(f"{len(vocabulary)} words for pages of {cells}; name more words")
    random, device, pages = np.random.default_rng(seed), next(network.parameters()).device, []
    count = min(len(spoken), limit or len(spoken))
    for start in range(0, count, BATCH):
        index = list(range(start, min(start + BATCH, count)))
        drawn = [_page(spoken.written[each], vocabulary, painter, random) for each in index]
        pictures = torch.from_numpy(np.stack([picture for picture, *_ in drawn]))
        heard = network.hear(front_end(spoken.waveforms(index).to(device)))
        seen = network.see(pixels(pictures).to(device))
        heat = torch.stack([network.maps(seen[i : i + 1], heard[i : i + 1])[0, 0] for i in range(len(index))])
        pages += [Page(*each, values) for each, values in zip(drawn, heat.cpu().numpy(), strict=True)]
    return pages


def _page(
    word: str, vocabulary: Sequence[str], painter: WordPainter, random: np.random.Generator
) -> tuple[NDArray[np.uint8], tuple[str, ...], tuple[Box, ...], int]:
    cells = GRID[0] * GRID[1]
    others = [each for each in vocabulary if each != word]
    words = [str(each) for each in random.choice(others, cells - 1, replace=False)]
    place = int(random.integers(cells))
    words.insert(place, word)
    picture, boxes = painter.page(words, GRID, random)
    return picture, tuple(words), tuple(boxes), place


def score(pages: Sequence[Page], groups: Sequence[str | None]) -> LocalisationResult:
    """How often the peak lies on the word, with limits by the speaker of each page's recording."""
    hits = np.array([float(page.hit) for page in pages])
    return LocalisationResult(
        mean_by_group(hits, groups), float(np.mean([page.chance for page in pages])), len(pages[0].words)
    )
