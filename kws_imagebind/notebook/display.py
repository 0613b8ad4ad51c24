"""What a notebook shows: figures, players, tables and a progress bar. The one file that needs IPython.

Everything is plain HTML, Markdown or PNG, so that a page of a code host shows it as Jupyter and Colab do.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
from IPython.display import HTML, DisplayHandle, Markdown, display

from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kws_imagebind.notebook.microphone import Microphone

WIDTH = 700  # pixels of Colab's column
RATE = 16_000  # hertz of what is played


def show(figure: Figure, alt: str) -> None:
    """A figure at the width of the page.

    Args:
        figure: of `kws_imagebind.reporting.figures`.
        alt: what it shows, for those who cannot see it.
    """
    from kws_imagebind.reporting.figures.style import drawn_from, png

    data, width = png(figure, WIDTH)
    content = {"image/png": base64.b64encode(data).decode(), "text/plain": alt}
    # What it was drawn from goes with it, so that a kept figure can be held against today's numbers.
    metadata = {"image/png": {"width": width, "alt": alt, "drawn_from": drawn_from(figure)}}
    display(content, metadata=metadata, raw=True)


def show_saved(path: Path, alt: str) -> None:
    """A figure that a run saved, at the width of the page, in 256 colours, which take a third of the bytes.

    Args:
        path: a PNG file.
        alt: what it shows, for those who cannot see it.
    """
    from PIL import Image

    small = io.BytesIO()
    with Image.open(path) as picture:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        shown = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        shown.quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    content = {"image/png": base64.b64encode(small.getvalue()).decode(), "text/plain": alt}
    display(content, metadata={"image/png": {"width": WIDTH, "alt": alt}}, raw=True)


def show_report(path: Path, height: int = 620) -> None:
    """A page that `Evaluation.save` wrote, in a frame of its own."""
    page = escape(path.read_text(encoding="utf-8"))
    style = f"width:100%;max-width:{WIDTH}px;height:{height}px;border:1px solid #ccc"
    frame = f'<iframe title="the report" style="{style}" srcdoc="{page}"></iframe>'
    display({"text/html": frame, "text/plain": f"the report, {path.name}"}, raw=True)


def microphone(seconds: float = 1.5) -> Microphone | None:
    """A button that records in the browser; None, with a sentence in the page, where anywidget is not installed.

    Args:
        seconds: how long it records.
    """
    try:
        from kws_imagebind.notebook.microphone import Microphone
    except ModuleNotFoundError:
        tell("To record here, install anywidget (pip install anywidget) and run this cell again; a file works as well.")
        return None
    button = Microphone(seconds)
    display(button)
    return button


def listen(utterances: Sequence[Utterance]) -> None:
    """A player for each recording, with what it says."""
    cells = [
        f'<div style="display:inline-block;margin:4px 10px 4px 0"><b>{escape(each.label)}</b><br>'
        f'<audio controls preload="none" style="width:200px;height:36px" src="{_sound(each)}"></audio></div>'
        for each in utterances
    ]
    names = ", ".join(each.label for each in utterances)
    display({"text/html": "".join(cells), "text/plain": f"players of the recordings {names}"}, raw=True)


def look(pictures: Sequence[Path], captions: Sequence[str]) -> None:
    """Small pictures in a row, with what is to be said of each.

    Args:
        pictures: PNG files.
        captions: one for each.
    """
    cells = [
        f'<div style="display:inline-block;margin:4px 10px 4px 0"><img width="100" alt="{escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"><br>{escape(caption)}</div>'
        for path, caption in zip(pictures, captions, strict=True)
    ]
    display({"text/html": "".join(cells), "text/plain": f"pictures: {', '.join(captions)}"}, raw=True)


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


def tabulate(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table in the page."""
    lines = [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in (head, *rows)]
    display(Markdown("\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])))


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
