"""Pieces of the demo's page as HTML: what a visitor typed is escaped, and the page sets the colours."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.audio.mel import MelConfig, log_mel
from kws_imagebind.datasets import Utterance
from kws_imagebind.evaluation.evaluate import Evaluation
from kws_imagebind.reporting import svg
from kws_imagebind.reporting.figures.spectrogram import spectrogram_png
from kws_imagebind.reporting.matrix import matrix_figure, occurring
from kws_imagebind.reporting.protocol import described

TEMPLATE = Path(__file__).parent / "templates" / "demo.html.jinja"
HERTZ = (200, 500, 1000, 2000, 4000)  # named on a spectrogram's axis
MELS = 96  # rows of the picture

Ranked = Sequence[tuple[str, float]]  # (word, cosine), the best first


@cache
def _macros() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).module


def hint(text: str) -> str:
    """What to do, in the place where the result will be."""
    return str(_macros().hint(text))


def notice(text: str) -> str:
    """A sentence that says what went wrong."""
    return str(_macros().notice(text))


def ranking(ranked: Ranked, said: Mapping[str, str], shown: int) -> str:
    """The words of a list with their cosines as bars.

    Args:
        ranked: the words.
        said: how the encoder reads some of them, in ARPAbet.
        shown: how many rows are open; the others are folded.
    """
    return str(_macros().ranking(ranked, said, shown, None))


def drawn(utterance: Utterance, ranked: Ranked, said: Mapping[str, str], shown: int) -> str:
    """A clip whose word is known, and what was heard."""
    place = 1 + [word for word, _ in ranked].index(utterance.label)
    return str(_macros().drawn(utterance, ranked, said, shown, place))


def progress(done: int, clips: int) -> str:
    """How many clips have been heard."""
    return str(_macros().progress(done, clips))


def evaluation(found: Evaluation) -> str:
    """The accuracy with its interval, its protocol and its figures."""
    matrix = occurring(found.metrics.confusion.numpy(), found.scores.labels)
    figures = {
        "bar": Markup(svg.accuracy_bar(found.accuracy, found.chance)),
        "matrix": Markup(matrix_figure(matrix)),
        "words": Markup(svg.words_figure(found.metrics.per_class, found.scores.labels, found.chance)),
    }
    return str(_macros().evaluation(found, found.results, figures, matrix.notes, described(found.results)))


def spectrogram(waveform: Tensor, sample_rate: int) -> str:
    """The mel spectrogram of a waveform (samples,), with its axes."""
    config = MelConfig(sample_rate=sample_rate, mels=MELS, high=min(8000.0, sample_rate / 2))
    padded = F.pad(waveform, (0, max(0, config.window - len(waveform))))
    picture = base64.b64encode(spectrogram_png(log_mel(padded[None], config)[0])).decode("ascii")
    seconds = len(waveform) / sample_rate
    marks = [(f"{hertz / 1000:g} kHz", (config.band(hertz) + 0.5) / MELS) for hertz in HERTZ if hertz < config.high]
    return str(_macros().spectrogram(picture, seconds, _seconds(seconds), marks))


def _seconds(total: float, most: int = 6) -> list[tuple[str, float]]:
    """Marks of a time axis: text, and place from 0 to 1."""
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 60) if total / step <= most)
    return [(f"{index * step:g} s", index * step / total) for index in range(int(total / step) + 1)]
