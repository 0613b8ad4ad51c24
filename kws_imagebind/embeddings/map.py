"""A map of the clips: their embeddings laid out on a plane by t-SNE, and the file that keeps it.

Only `draw_map` needs scikit-learn (the `map` extra); a map that is drawn already is read without it.

Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE, JMLR 9.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws_imagebind.registry import to_install

FILE = "map.csv"
COLUMNS = ["path", "x", "y"]
FEWEST, MOST = 5, 5_000  # clips; of more a random choice is drawn
SEED = 0
FARTHEST = 1e6  # t-SNE stays within hundreds


class MapError(ValueError):
    """A map that cannot be drawn or read; the message says why."""


@dataclass(frozen=True)
class EmbeddingMap:
    """Where each clip lies.

    Attributes:
        paths: of the n clips, relative to the data set's root.
        places: (n, 2) float64; only who is near whom means something, the axes do not.
    """

    paths: tuple[str, ...]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def csv(self) -> str:
        """The content of `map.csv`."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows((path, f"{x:.4f}", f"{y:.4f}") for path, (x, y) in zip(self.paths, self.places, strict=True))
        return text.getvalue()


def perplexity(clips: int) -> float:
    """How many neighbours a clip is placed by: 30, or fewer where there are not 91 clips.

    >>> perplexity(1000), perplexity(16)
    (30.0, 5.0)
    """
    return min(30.0, (clips - 1) / 3)


def check_map(clips: int) -> None:
    """Says before any work whether a map of so many clips can be drawn here.

    Raises:
        MapError: scikit-learn is not installed, or the clips are too few.
    """
    _tsne()
    if clips < FEWEST:
        raise MapError(f"a map of {clips} clips would show nothing; it needs at least {FEWEST}")


def draw_map(features: np.ndarray, paths: Sequence[str]) -> EmbeddingMap:
    """Lays clips out by the cosines between their embeddings; the same ones give the same map.

    Args:
        features: (n, dim), dim at least 2. Of more than `MOST` clips a seeded choice is drawn, in the same order.
        paths: of the n clips.

    Raises:
        MapError: scikit-learn is not installed, the clips are too few, or all their embeddings are the same.
    """
    check_map(len(features))
    if (features == features[0]).all():
        raise MapError(f"the embeddings of all {len(features):,} clips are the same, so there is no map of them")
    chosen = np.arange(len(features))
    if len(features) > MOST:
        chosen = np.sort(np.random.default_rng(SEED).choice(len(features), MOST, replace=False))
    layout = _tsne()(metric="cosine", init="pca", random_state=SEED, perplexity=perplexity(len(chosen)))
    places = layout.fit_transform(np.asarray(features, dtype=np.float32)[chosen]).astype(np.float64)
    return EmbeddingMap(tuple(paths[i] for i in chosen.tolist()), places)


def read_map(path: Path) -> EmbeddingMap:
    """A map from its file.

    Raises:
        MapError: the file cannot be read or is not a map.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row] or [[]]
        places = np.array([[float(x), float(y)] for _, x, y in rows]) if header == COLUMNS else np.empty((0, 2))
    except (OSError, ValueError, csv.Error) as error:
        raise MapError(f"{path.name} cannot be read ({error}); expected rows of {','.join(COLUMNS)}") from error
    paths = tuple(row[0] for row in rows)
    if not len(places):
        raise MapError(f"{path.name} has no rows under a header {','.join(COLUMNS)}")
    if not (np.abs(places) <= FARTHEST).all():
        raise MapError(f"{path.name} places a clip nowhere; expected finite numbers")
    if len(set(paths)) != len(paths):
        raise MapError(f"{path.name} places a clip twice; expected one row a clip")
    return EmbeddingMap(paths, places)


def _tsne() -> Any:
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError as error:
        raise MapError(f"a map of the embeddings needs scikit-learn; {to_install('scikit-learn', 'map')}") from error
    return TSNE
