"""What a run's folder shows: top results with pictures and sounds, pages with their maps, classes and their sounds."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.metrics.retrieval import NDCG_AT
from kws_imagebind.registry import to_install
from kws_imagebind.reporting.pairs_page import PageItem, PageSection, write_pairs_page
from kws_imagebind.training.correspondence.evaluate import Encoded, directions, pictures
from kws_imagebind.training.correspondence.localisation import Page
from kws_imagebind.training.correspondence.pairs import Pairs

PAGE, MAPS, CLASSES, SPECTROGRAMS = "retrieval.html", "localisation.png", "classes.png", "spectrograms.png"
QUERIES, TOP = 5, 5  # of each direction
SHOWN = 6  # pages with maps

log = logging.getLogger(__name__)


def write_page(
    folder: Path,
    pairs: Pairs,
    encoded: Encoded,
    relevance: NDArray[np.float64],
    labels: Sequence[str],
    rate: int,
    seed: int,
) -> None:
    """Some queries of each direction with their five best; a query's own pair is left out."""
    seen = pictures(pairs, seed)
    chosen = np.linspace(0, len(labels) - 1, min(QUERIES, len(labels))).round().astype(int)

    def item(kind: str, index: int, score: float | None = None, relevant: bool = False) -> PageItem:
        if kind == "image":
            return PageItem(labels[index], png=_png(seen(index)), score=score, relevant=relevant)
        return PageItem(labels[index], wav=_wav(pairs, index, rate), score=score, relevant=relevant)

    sections = []
    for direction in directions(encoded, relevance, [None] * len(labels)):
        first, _, second = direction.name.partition(" to ")
        rows = []
        for query in chosen.tolist():
            scores = np.where(np.arange(len(labels)) == query, -np.inf, direction.scores[query])
            best = np.argsort(-scores, kind="stable")[: min(TOP, len(labels) - 1)]
            found = [item(second, int(i), float(scores[i]), bool(relevance[query, i] >= 1)) for i in best]
            rows.append([item(first, query), *found])
        sections.append(PageSection(direction.name, rows))
    about = (
        f"The five nearest of n = {len(labels):,} that were not trained on; a blue frame marks the query's own label, "
        f"which the network never saw. nDCG at {NDCG_AT} over all queries is in correspondence_results.json."
    )
    write_pairs_page(folder / PAGE, "What finds what", about, sections)


def _png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


def _wav(pairs: Pairs, index: int, rate: int) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, pairs.waveforms([index])[0].clamp(-1, 1).numpy(), rate, format="WAV", subtype="PCM_16")
    return data.getvalue()


def draw(folder: Path, figures: dict[str, Callable[[], object]]) -> None:
    """Draws figures by their file names, where matplotlib is installed."""
    try:
        from kws_imagebind.reporting.figures.style import save_figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        log.info("no figure was drawn: %s", to_install("matplotlib", "plots"))
        return
    for name, make in figures.items():
        save_figure(make(), folder / name)  # type: ignore[arg-type]


def draw_report(folder: Path, pairs: Pairs, labels: Sequence[str], pages: Sequence[Page], sound: FrontEnd) -> None:
    """The figures of what was reported."""

    def maps() -> object:
        from kws_imagebind.reporting.figures.localisation import PageView, localisation_figure

        spread = pages[:: max(1, len(pages) // SHOWN)][:SHOWN]
        shown = [PageView(page.picture, page.heat, page.words[page.spoken], page.hit) for page in spread]
        share, chance = np.mean([page.hit for page in pages]), np.mean([page.chance for page in pages])
        return localisation_figure(
            shown,
            f"Which of six words is spoken: the peak lies on it in {100 * float(share):.0f} % of n = {len(pages):,} "
            f"pages (chance {100 * float(chance):.0f} % anywhere)",
        )

    def classes() -> object:
        from kws_imagebind.reporting.figures.classes import class_figure

        return class_figure(Counter(labels), "What was reported, by label")

    def spectrograms() -> object:
        from kws_imagebind.reporting.figures.classes import mean_spectrogram_figure

        means = mean_spectrograms(pairs, labels, sound)
        return mean_spectrogram_figure(means, sound.seconds, "Mean log spectrogram by label")

    draw(folder, {**({MAPS: maps} if pages else {}), CLASSES: classes, SPECTROGRAMS: spectrograms})


def mean_spectrograms(pairs: Pairs, labels: Sequence[str], sound: FrontEnd) -> dict[str, NDArray[np.float32]]:
    """The mean (frequencies, frames) of each label's sounds, by label in alphabetical order."""
    found = {}
    for label in sorted(set(labels)):
        index = [i for i, each in enumerate(labels) if each == label]
        found[label] = sound(pairs.waveforms(index)).mean((0, 1)).numpy()
    return found
