"""Pieces of the demo's page as HTML: what a visitor typed is escaped, and the page sets the colours."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.audio.mel import MelConfig, log_mel
from kws_imagebind.datasets import Utterance
from kws_imagebind.demo.verdict import Entry, Verdict
from kws_imagebind.evaluation.evaluate import Evaluation
from kws_imagebind.reporting import svg
from kws_imagebind.reporting.figures.spectrogram import spectrogram_png
from kws_imagebind.reporting.matrix import matrix_figure, occurring
from kws_imagebind.reporting.protocol import described
from kws_imagebind.reporting.timeline import time_marks, timeline_figure
from kws_imagebind.spotting.hits import Hit

TEMPLATE = Path(__file__).parent / "templates" / "demo.html.jinja"
HERTZ = (200, 500, 1000, 2000, 4000)  # named on a spectrogram's axis
MELS = 96  # rows of the picture

SHOWN_LIVE = 12  # words with a bar while somebody speaks
QUIETEST = -60.0  # dB of full scale, where the level meter begins

Ranked = Sequence[tuple[str, float]]  # (word, cosine), the best first


@dataclass(frozen=True)
class LiveView:
    """What is shown while somebody speaks.

    Attributes:
        listening: whether the microphone is on.
        seconds: that were heard.
        level: dB of full scale, the peak of the last block.
        words: each word with its best score of the last second, from 0 to 1.
        thresholds: the least score of a hit of each word.
        hits: the last ones, the newest first.
        found: how many hits there were in all.
        lost: seconds of sound that were lost, 0 if it is not worth a word.
        muted: whether the microphone gave nothing but silence.
        problem: a sentence, "" if there is none.
        table: the hits as CSV in base64, when it is over.
    """

    listening: bool
    seconds: float
    level: float
    words: Ranked
    thresholds: Mapping[str, float]
    hits: Sequence[Hit]
    found: int
    lost: float
    muted: bool
    problem: str
    table: str = ""

    @property
    def loudness(self) -> float:
        """The level from 0 to 1."""
        return float(min(1.0, max(0.0, 1 - self.level / QUIETEST)))


@cache
def _macros() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clock"] = clock
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).module


def hint(text: str) -> str:
    """What to do, in the place where the result will be."""
    return str(_macros().hint(text))


def notice(text: str) -> str:
    """A sentence that says what went wrong."""
    return str(_macros().notice(text))


def ranking(verdict: Verdict, said: Mapping[str, str], shown: int) -> str:
    """What was said, or that it was none of the words: where in the recording, and the words' cosines as bars.

    Args:
        verdict: what was heard.
        said: how the encoder reads some of the words, in ARPAbet.
        shown: how many rows are open; the others are folded.
    """
    figure = Markup(timeline_figure(verdict.hits, verdict.seconds)) if verdict.hits else ""
    return str(_macros().ranking(verdict, said, shown, figure))


def history(entries: Sequence[Entry]) -> str:
    """What was heard in this session, the newest first."""
    return str(_macros().history(entries[::-1])) if entries else ""


def drawn(utterance: Utterance, ranked: Ranked, said: Mapping[str, str], shown: int) -> str:
    """A clip whose word is known, and what was heard."""
    place = 1 + [word for word, _ in ranked].index(utterance.label)
    return str(_macros().drawn(utterance, ranked, said, shown, place))


def live(view: LiveView) -> str:
    """What is heard while somebody speaks, and what was."""
    shown = sorted(view.words, key=lambda pair: -pair[1])[:SHOWN_LIVE] if len(view.words) > SHOWN_LIVE else view.words
    return str(_macros().live(view, shown))


def start_button() -> str:
    """What starts and stops the microphone."""
    return str(_macros().start_button())


def clock(seconds: float) -> str:
    """Seconds as a player shows them.

    >>> clock(7.25), clock(127.96)
    ('0:07.2', '2:08.0')
    """
    minutes, rest = divmod(round(10 * seconds), 600)
    return f"{minutes}:{rest / 10:04.1f}"


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
    return str(_macros().spectrogram(picture, seconds, time_marks(seconds), marks))
