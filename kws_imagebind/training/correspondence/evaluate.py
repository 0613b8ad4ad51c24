"""What a correspondence network can do: tell pairs and retrieve in four directions. Labels are used only here."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.metrics.intervals import Interval, codes_of_clips
from kws_imagebind.metrics.retrieval import Retrieval, by_group
from kws_imagebind.models.avenet import CorrespondenceNet
from kws_imagebind.readouts.retrieval import Direction
from kws_imagebind.training.correspondence.pairs import Pairs, seen_and_heard

BATCH = 128
PAIRS_AT_ONCE = 64  # pictures that are compared with all sounds


@dataclass(frozen=True)
class Encoded:
    """Pairs through the towers.

    Attributes:
        seen, heard: what `correspond` takes.
        images, sounds: (n, dim) vectors of unit norm.
    """

    seen: Tensor
    heard: Tensor
    images: Tensor
    sounds: Tensor


@torch.no_grad()
def encode(network: CorrespondenceNet, pairs: Pairs, front_end: FrontEnd, seed: int) -> Encoded:
    """Every pair once; the seed decides the pictures, and the place in each video."""
    assert isinstance(network, nn.Module)
    device = next(network.parameters()).device
    was, random = network.training, np.random.default_rng(seed)
    network.eval()
    parts = []
    for start in range(0, len(pairs), BATCH):
        index = range(start, min(start + BATCH, len(pairs)))
        images, sounds = seen_and_heard(pairs, index, front_end, random, device=device)
        parts.append(
            (network.see(images), network.hear(sounds), network.image_vectors(images), network.sound_vectors(sounds))
        )
    network.train(was)
    return Encoded(*(torch.cat(each).float().cpu() for each in zip(*parts, strict=True)))


def pictures(pairs: Pairs, seed: int) -> Callable[[int], NDArray[np.uint8]]:
    """The picture (H, W, 3) of each pair that `encode` saw with the same seed."""
    random, states = np.random.default_rng(seed), []
    for start in range(0, len(pairs), BATCH):
        index = range(start, min(start + BATCH, len(pairs)))
        states.append(pairs.batch(index, random)[0].numpy())
        random.integers(2**62)  # which `seen_and_heard` takes for the sounds
    return lambda row: states[row // BATCH][row % BATCH]


@torch.no_grad()
def log_odds(network: CorrespondenceNet, encoded: Encoded) -> NDArray[np.float32]:
    """(n, n) of every picture with every sound."""
    assert isinstance(network, nn.Module)
    device = next(network.parameters()).device
    heard = encoded.heard.to(device)
    rows = [network.correspond(part.to(device), heard).cpu() for part in encoded.seen.split(PAIRS_AT_ONCE)]
    return torch.cat(rows).float().numpy()


def correspondence(odds: NDArray[np.float32], apart: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """How often each sound's pairs are told right: half for its own picture, half for all others; chance is 0.5.

    >>> correspondence(np.array([[1.0, -1.0], [1.0, 1.0]])).tolist()
    [0.5, 1.0]

    Args:
        odds: (n, n) log-odds, above 0 for together.
        apart: (n, n) which pairs do not belong together; by default all but the diagonal, as nobody knows better.
    """
    count = len(odds)
    others = ~np.eye(count, dtype=bool) if apart is None else apart
    right = np.where(others, odds < 0, 0).sum(0) / np.maximum(1, others.sum(0))
    return (np.diag(odds) > 0) / 2 + right / 2


def mean_by_group(values: NDArray[np.float64], groups: Sequence[Hashable | None]) -> Interval:
    """The mean of values from 0 to 1, with limits by group (speaker or video)."""
    column = values[:, None]
    found = Retrieval(("mean",), column, np.zeros_like(column), np.arange(len(values)), 0)
    codes, _ = codes_of_clips(list(groups), len(values))
    return by_group(found, codes.tolist())["mean"]


def directions(
    encoded: Encoded,
    relevance: NDArray[np.float64],
    groups: Sequence[str | None],
) -> list[Direction]:
    """The four directions. The query's own picture and sound are left out, so that no recording finds itself.

    Args:
        encoded: the pairs.
        relevance: (n, n) of each pair to each other, from 0.
        groups: the speaker or the video of each pair.
    """
    images, sounds = encoded.images.numpy(), encoded.sounds.numpy()
    others, who = ~np.eye(len(images), dtype=bool), tuple(groups)
    named = {"image": images, "audio": sounds}
    return [
        Direction(f"{first} to {second}", named[first] @ named[second].T, relevance, others, who, who)  # type: ignore[arg-type]
        for first in named
        for second in named
    ]


def same_label(labels: Sequence[str]) -> NDArray[np.float64]:
    """(n, n) 1 where two labels are equal.

    >>> same_label(["go", "up", "go"])[0].tolist()
    [1.0, 0.0, 1.0]
    """
    names = np.asarray(labels)
    return (names[:, None] == names).astype(np.float64)
