"""What a correspondence network learns from: pictures and the sounds that belong to them. No labels go through here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.audio_visual import VideoShards
from kws_imagebind.datasets.reading_aloud import WordPainter
from kws_imagebind.models.avenet import pixels
from kws_imagebind.training.supervised.augmentation import augment, mask
from kws_imagebind.training.supervised.clips import Clips
from kws_imagebind.training.supervised.recipes import NOTHING, Augmentation

STANDARDISED_ON = 1_000  # sounds whose mean and deviation standardise all


class Pairs(Protocol):
    """Things to be seen and heard: recordings of words, or videos."""

    def __len__(self) -> int: ...

    def waveforms(self, index: Sequence[int]) -> Tensor:
        """(B, samples) one sound of each, the same each time."""
        ...

    def batch(self, index: Sequence[int], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (B, H, W, 3) uint8 and the waveforms (B, samples) that belong to them, drawn by `random`."""
        ...


@dataclass(frozen=True)
class SpokenWords:
    """Reading aloud: recordings, and pictures of what is said in them, drawn when they are needed.

    Attributes:
        clips: the recordings.
        written: (n,) what each picture shows: it is the content of the picture, and nothing else ever sees it.
        painter: draws the pictures.
        grid, others: of pages with several words, as in `CorrespondenceRecipe`.
    """

    clips: Clips
    written: tuple[str, ...]
    painter: WordPainter
    grid: tuple[int, int] = (1, 1)
    others: int = 0

    def __len__(self) -> int:
        return len(self.clips)

    def waveforms(self, index: Sequence[int]) -> Tensor:
        return self.clips.batch(list(index))[0]

    def batch(self, index: Sequence[int], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        pictures = np.stack([self.page(each, random) for each in index])
        return torch.from_numpy(pictures), self.waveforms(index)

    def page(self, index: int, random: np.random.Generator) -> np.ndarray:
        """The picture of one recording: its word, and perhaps those of recordings that are drawn at random."""
        cells = self.grid[0] * self.grid[1]
        texts = [""] * cells
        shown = [self.written[index]]
        if self.others:
            count = int(random.integers(self.others + 1))
            shown += [self.written[each] for each in random.integers(len(self.written), size=count)]
        for cell, text in zip(random.permutation(cells), shown, strict=False):
            texts[cell] = text
        return self.painter.page(texts, self.grid, random)[0]


def standardised(front_end: FrontEnd, pairs: Pairs) -> FrontEnd:
    """With the mean and deviation of sounds spread over the training set."""
    from dataclasses import replace

    rows = pairs.waveforms(list(range(0, len(pairs), max(1, len(pairs) // STANDARDISED_ON))))
    seen = torch.cat([front_end(part) for part in rows.split(256)])
    return replace(front_end, mean=round(float(seen.mean()), 4), deviation=round(max(1e-3, float(seen.std())), 4))


def seen_and_heard(
    pairs: Pairs,
    index: Sequence[int],
    front_end: FrontEnd,
    random: np.random.Generator,
    augmentation: Augmentation = NOTHING,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """What the towers take: pictures (B, 3, H, W) and spectrograms (B, 1, F, T)."""
    pictures, waveforms = pairs.batch(index, random)
    pictures, waveforms = pictures.to(device), waveforms.to(device)
    chance = torch.Generator().manual_seed(int(random.integers(2**62)))
    waveforms = augment(waveforms, augmentation, front_end.sample_rate, None, chance)
    with torch.autocast(waveforms.device.type, enabled=False):
        sounds = mask(front_end(waveforms), augmentation, chance)
    form = torch.channels_last
    return pixels(pictures).contiguous(memory_format=form), sounds.contiguous(memory_format=form)


@dataclass(frozen=True)
class VideoMoments:
    """Videos: a frame of each and the second of sound around it.

    A batch has one moment of each of its videos, so a picture's negatives are of other videos. It is drawn from the
    video's moments, which all lie on one grid of time.

    Attributes:
        shards: the moments.
        rows: the videos that these pairs are of.
    """

    shards: VideoShards
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def waveforms(self, index: Sequence[int]) -> Tensor:
        return self._sounds([int(self.shards.first[self.rows[each]]) for each in index])

    def batch(self, index: Sequence[int], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        first = self.shards.first
        places = [int(random.integers(first[self.rows[each]], first[self.rows[each] + 1])) for each in index]
        return torch.from_numpy(np.stack([self.shards.frames[place] for place in places])), self._sounds(places)

    def _sounds(self, places: Sequence[int]) -> Tensor:
        return torch.from_numpy(np.stack([self.shards.sounds[place] for place in places])).float() / 32_768
