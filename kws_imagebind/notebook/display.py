"""What a notebook shows: figures, players, tables and a progress bar. The one file that needs IPython.

Everything is plain HTML, Markdown or PNG, so that a page of a code host shows it as Jupyter and Colab do.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import soundfile
from IPython.display import HTML, DisplayHandle, Markdown, display

from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 700  # pixels of Colab's column
RATE = 16_000  # hertz of what is played


def show(figure: Figure, alt: str = "") -> None:
    """A figure at the width of the page.

    Args:
        figure: of `kws_imagebind.plots`.
        alt: what it shows, for those who cannot see it; by default its own title.
    """
    from kws_imagebind.reporting.figures.style import png

    data, width = png(figure, WIDTH)
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    title = max(texts, key=lambda text: (text.get_fontsize(), text.get_fontweight() == "bold"), default=None)
    told = alt or (title.get_text().replace("\n", " ") if title else "figure")
    content = {"image/png": base64.b64encode(data).decode(), "text/plain": told}
    display(content, metadata={"image/png": {"width": width, "alt": told}}, raw=True)


def listen(utterances: Sequence[Utterance]) -> None:
    """A player for each recording, with what it says."""
    cells = [
        f'<div style="display:inline-block;margin:4px 10px 4px 0"><b>{escape(each.label)}</b><br>'
        f'<audio controls preload="none" style="width:200px;height:36px" src="{_sound(each)}"></audio></div>'
        for each in utterances
    ]
    names = ", ".join(each.label for each in utterances)
    display({"text/html": "".join(cells), "text/plain": f"players of the recordings {names}"}, raw=True)


def one_each(dataset: Dataset, words: int, seed: int = 0) -> tuple[Utterance, ...]:
    """One recording of each of some words, drawn with a seed, in the order of the keywords.

    Args:
        dataset: the recordings.
        words: how many; fewer where fewer words have clips.
        seed: another one draws others.
    """
    first: dict[str, Utterance] = {}
    for utterance in dataset.shuffled(seed):
        first.setdefault(utterance.label, utterance)
    drawn = list(first)[:words]
    return tuple(first[label] for label in dataset.labels if label in drawn)


class Progress:
    """A bar in the page, for `embed(..., progress=Progress("hearing"))`.

    Args:
        doing: what is done.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self._handle: DisplayHandle | None = None

    def __call__(self, done: int, total: int) -> None:
        """Draws so many of all clips."""
        text = f"{self.doing}: {done:,} of {total:,} clips"
        bar = f'<progress value="{done}" max="{total}" style="width:320px"></progress> {escape(text)}'
        content = {"text/html": bar, "text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def summarise(result: Evaluation) -> None:
    """A result as a table: the accuracy with its interval and n, what a guess would get, and the protocol."""
    facts = result.as_dict()
    dataset, accuracy = result.audio.dataset, result.accuracy
    low, high = 100 * accuracy.low, 100 * accuracy.high
    split = f", {dataset.split} split" if dataset.split else ""
    rows = [
        ("**accuracy**", f"**{100 * accuracy.estimate:.1f} %**, 95 % interval [{low:.1f}, {high:.1f}]"),
        ("**clips**", f"n = {accuracy.n:,}"),
        ("**chance**", f"{100 * result.chance:.1f} % ({len(result.scores.labels)} words to choose from)"),
        ("mean over words", str(result.macro_accuracy)),
        (f"among the best {result.metrics.k}", str(result.top5_accuracy)),
        ("recordings", f"{dataset.name}{split}: {dataset.note}"),
        ("encoder", f"{result.audio.encoder}, zero-shot"),
        ("prompts", ", ".join(f"`{template}`" for template in result.scores.protocol.templates)),
        ("interval", str(facts["intervals"])),
    ]
    rows += [("note", warning) for warning in result.warnings]
    lines = ["| | |", "|---|---|", *(f"| {name} | {_plain(value)} |" for name, value in rows)]
    display(Markdown("\n".join(lines)))


def tell(sentence: object) -> None:
    """A sentence in the page, such as why a figure is missing."""
    display(HTML(f"<p>{escape(str(sentence))}</p>"))


def _sound(utterance: Utterance) -> str:
    """A recording for a page: as MP3, a tenth of its size, or where libsndfile cannot write that as WAV."""
    waveform = load_utterance(utterance, RATE).numpy()
    kind, format = ("mpeg", "MP3") if "MP3" in soundfile.available_formats() else ("wav", "WAV")
    sound = io.BytesIO()
    soundfile.write(sound, waveform, RATE, format=format)
    return f"data:audio/{kind};base64,{base64.b64encode(sound.getvalue()).decode()}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
