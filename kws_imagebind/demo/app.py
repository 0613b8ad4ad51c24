"""The demo on the screen. The one file that needs Gradio.

The page gets everything from this process. It fetches no font, script or figure from elsewhere and reports nothing to
anyone, so the demo works without a network.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.http_server import ServerFailedToStartError
from gradio.processing_utils import save_bytes_to_cache

from kws_imagebind.demo import DemoError, panels
from kws_imagebind.demo.answers import EXAMPLES, KEPT_MINUTES, MAX_BYTES, MAX_SECONDS, Answers, example
from kws_imagebind.demo.live import Live
from kws_imagebind.demo.routes import add_routes
from kws_imagebind.demo.verdict import Entry, as_csv, is_calibrated, remembered
from kws_imagebind.encoders import Encoder
from kws_imagebind.encoders.cards import card_of
from kws_imagebind.encoders.confidence import THRESHOLD
from kws_imagebind.reporting.page import marks_script
from kws_imagebind.text.tasks import COMMANDS, DIGITS, SPEECH_COMMANDS_WORDS

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TEMPLATES = Path(__file__).parent / "templates"
STYLE, LAYOUT = TEMPLATES / "demo.css", TEMPLATES / "layout.css"
SCRIPTS = (TEMPLATES / "words.js", TEMPLATES / "live.js")
FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
FIXED_FONTS = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")
LISTS = {
    "Commands": COMMANDS,
    "Digits": DIGITS,
    "All 35": SPEECH_COMMANDS_WORDS,
    "Kitchen": ("lamp", "kettle", "window", "fridge", "spoon", "open the door"),
}
VISITORS = 4  # whose recordings are ranked at the same time; others wait in a queue
SESSION = 3600  # s that a history stays without a new recording
FAULT = "This is a fault of the demo, not yours. The terminal that runs it shows the details."
# Okabe and Ito's blue, from the lightest to the darkest.
BLUE = gr.themes.Color(
    "#eef6fb", "#d6e9f5", "#aed4ec", "#7fbbe0", "#56b4e9", "#2a8bc4",
    "#0072b2", "#005f95", "#004c78", "#003a5c", "#002a44",
)  # fmt: skip

log = logging.getLogger(__name__)


def build(answers: Answers, listens: bool) -> gr.Blocks:
    """The page, not yet served.

    Args:
        answers: what it says.
        listens: whether it has a tab that listens.
    """
    with gr.Blocks(title="KWS-ImageBind demo", analytics_enabled=False, delete_cache=(60, 60 * KEPT_MINUTES)) as page:
        introduction = escape(_introduction(answers.encoder))
        gr.HTML(
            f"<div class='kws-head'><h1>Which word did you say?</h1><p>{introduction}</p></div>",
            padding=False,
        )
        with gr.Tab("Your voice"):
            voice = _voice(answers)
        lists = [voice.listed]
        if listens:
            with gr.Tab("Live"):
                lists.append(_live(answers))
        with gr.Tab("A random clip"):
            _random_clip(answers)
        with gr.Tab("Statistics"):
            _statistics(answers)
        _share_words(page, lists)  # before what answers, on which the page would wait
        _answer_voice(answers, voice)
    return page


def _introduction(encoder: Encoder) -> str:
    text = f"Record a word, or upload a recording. {encoder.name} ranks the words you list by how well they fit."
    if card_of(encoder).saw_speech_commands:
        return f"{text} It was trained on Speech Commands, so for the words of that corpus this is not zero-shot."
    return f"{text} List any words: it does not have to be trained on them. That is what zero-shot means."


@dataclass
class _WordList:
    """A list of words that a visitor types, with buttons that fill it in."""

    box: gr.Textbox
    buttons: list[tuple[gr.Button, Sequence[str]]]


def _word_list(answers: Answers, name: str) -> _WordList:
    box = gr.Textbox(
        ", ".join(answers.enrolled.labels if answers.enrolled else COMMANDS),
        label="Words to choose from" if name == "words" else "Words to listen for",
        info="Any English words or short phrases, separated by commas. To set a pronunciation: kettle=/K EH T AH L/",
        lines=2,
        max_lines=8,
        elem_id=name,
    )
    with gr.Row(elem_classes="lists"):
        return _WordList(box, [(gr.Button(each, size="sm", min_width=60), listed) for each, listed in LISTS.items()])


def _share_words(page: gr.Blocks, lists: Sequence[_WordList]) -> None:
    """All tabs have the same list, and so has the address."""
    boxes: list[Any] = [each.box for each in lists]
    quiet: dict[str, Any] = {"fn": None, "show_progress": "hidden", "api_visibility": "private"}

    def every(words: str) -> str:
        return f"[{', '.join([words] * len(boxes))}]" if len(boxes) > 1 else words

    page.load(**quiet, inputs=boxes[:1], outputs=boxes, js=f"(w) => {{ w = kwsWords.read(w); return {every('w')}; }}")
    for each in lists:
        others = [box for box in boxes if box is not each.box]
        js = f"(words) => kwsWords.typed('{each.box.elem_id}', words)"
        each.box.change(**quiet, inputs=[each.box], outputs=others or None, js=js)
        for button, listed in each.buttons:
            words = json.dumps(", ".join(listed))
            button.click(
                **quiet,
                inputs=None,
                outputs=boxes,
                js=f"() => {{ const w = kwsWords.keep({words}); return {every('w')}; }}",
            )


@dataclass
class _Voice:
    """The parts of "Your voice"."""

    recording: gr.Audio
    examples: dict[str, gr.Button]
    ranking: gr.HTML
    listed: _WordList
    spectrogram: gr.HTML
    past: gr.HTML
    download: gr.DownloadButton


def _voice(answers: Answers) -> _Voice:
    with gr.Row(elem_classes="voice"):
        with gr.Column(elem_classes="ask"):
            recording = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label=f"Your recording, at most {MAX_SECONDS:.0f} seconds",
                buttons=[],
                elem_id="recording",
            )
            with gr.Row(elem_classes="lists", elem_id="examples"):
                gr.HTML("<span class='kws-small'>Try</span>", padding=False)
                examples = {name: gr.Button(name, size="sm", min_width=60) for name in EXAMPLES}
        with gr.Column(elem_classes="answer"):
            ranking = gr.HTML(answers.spot(None, "").panel, elem_id="ranking", padding=False)
        with gr.Column(elem_classes="words"):
            listed = _word_list(answers, "words")
            gr.HTML(
                "<p class='kws-small'>Recordings are kept in a temporary folder on the computer that runs this demo, "
                f"and deleted after {KEPT_MINUTES} minutes.</p>",
                padding=False,
            )
        with gr.Column(elem_classes="more"):
            spectrogram = gr.HTML(elem_id="spectrogram", padding=False)
            past = gr.HTML(elem_id="history", padding=False)
            download = gr.DownloadButton(
                "Download this session (CSV)", size="sm", elem_id="download", visible=False, interactive=True
            )
    return _Voice(recording, examples, ranking, listed, spectrogram, past, download)


def _answer_voice(answers: Answers, voice: _Voice) -> None:
    history = gr.State([], time_to_live=SESSION)

    def answer(recording: str | None, words: str, history: list[Entry]) -> Any:
        found = answers.spot(recording, words)
        if found.entry is None:
            return found.panel, found.spectrogram, history, gr.skip(), gr.skip()
        history = remembered(history, found.entry)
        table = gr.DownloadButton(value=_file("heard.csv", as_csv(history), voice.download), visible=True)
        return found.panel, found.spectrogram, history, panels.history(history), table

    gr.on(
        [voice.recording.change, voice.listed.box.change],
        _guarded(answer),
        [voice.recording, voice.listed.box, history],
        [voice.ranking, voice.spectrogram, history, voice.past, voice.download],
        show_progress="hidden",
        concurrency_limit=VISITORS,
        concurrency_id="spot",
        trigger_mode="always_last",
        api_visibility="private",
    )
    for name, button in voice.examples.items():
        button.click(
            _guarded(lambda name=name: _file(*example(name), voice.recording)),
            None,
            voice.recording,
            show_progress="hidden",
            api_visibility="private",
        )


def _file(name: str, data: bytes, component: Any) -> str:
    """A file that a component can show, in the folder whose files Gradio deletes in time."""
    return save_bytes_to_cache(data, name, component.GRADIO_CACHE)


def _live(answers: Answers) -> _WordList:
    """The tab that `live.js` and `routes` bring to life."""
    first = panels.hint("Press Start and say one of the words. A hit comes about a second after it.")
    with gr.Row(elem_classes="voice"):
        with gr.Column(elem_classes="ask"):
            gr.HTML(panels.start_button(), padding=False)
        with gr.Column(elem_classes="answer"):
            gr.HTML(
                f"<div id='live-alert' role='alert'></div><div id='live-panel'>{first}</div>",
                elem_id="live",
                padding=False,
            )
        with gr.Column(elem_classes="words"):
            gr.Slider(
                0.05,
                0.95,
                THRESHOLD,
                step=0.05,
                label="Threshold",
                info="The least score of a hit. A higher one gives fewer false alarms and misses more words.",
                elem_id="threshold",
                buttons=[],
                interactive=True,  # Gradio would disable what no event of its own reads; `live.js` reads it
            )
            listed = _word_list(answers, "live-words")
            gr.HTML(
                "<p class='kws-small'>The sound goes to the computer that runs this demo. It keeps the last seconds in "
                "memory, and nothing when you leave the page.</p>",
                padding=False,
            )
    return listed


def _random_clip(answers: Answers) -> None:
    with gr.Row():
        with gr.Column(scale=5):
            draw = gr.Button("Draw a clip", variant="primary", elem_id="draw")
            clip = gr.Audio(label="The clip", interactive=False, buttons=[], elem_id="clip")
            spectrogram = gr.HTML(elem_id="clip-spectrogram", padding=False)
        with gr.Column(scale=6):
            kind = answers.dataset
            heard = gr.HTML(
                panels.hint(
                    f"Draws one of the {len(kind):,} clips of {kind.name} and shows its word and what was heard."
                ),
                elem_id="heard",
                padding=False,
            )
    draw.click(
        _guarded(answers.draw),
        None,
        [clip, heard, spectrogram],
        show_progress="hidden",
        concurrency_limit=VISITORS,
        api_visibility="private",
    )


def _statistics(answers: Answers) -> None:
    total = len(answers.dataset)
    with gr.Row(equal_height=True):
        clips = gr.Slider(
            1, total, min(64, total), step=1, label="Clips", info=f"a random choice of {total:,}", elem_id="clips"
        )
        seed = gr.Number(0, label="Seed", info="of the random choice", precision=0, elem_id="seed")
        with gr.Column(min_width=160):
            start = gr.Button("Measure", variant="primary", elem_id="measure")
            stop = gr.Button("Stop", elem_id="stop")
    result = gr.HTML(
        panels.hint("Measures how often the best word is the spoken one, with its interval and the chance level."),
        elem_id="result",
        padding=False,
    )
    run = start.click(
        _guarded_steps(answers.statistics),
        [clips, seed],
        result,
        show_progress="hidden",
        concurrency_limit=VISITORS,
        api_visibility="private",
    )
    stop.click(
        lambda: panels.hint("Stopped. The clips heard so far are kept; the next run continues from there."),
        None,
        result,
        cancels=[run],
        show_progress="hidden",
        api_visibility="private",
    )


def _guarded(answer: Callable[..., Any]) -> Callable[..., Any]:
    """An error of the demo itself: its traceback goes to the log, a sentence to the visitor."""

    @functools.wraps(answer)
    def guarded(*given: Any) -> Any:
        try:
            return answer(*given)
        except Exception as error:
            log.exception("the demo failed")
            raise gr.Error(FAULT, title="Sorry", print_exception=False) from error

    return guarded


def _guarded_steps(answer: Callable[..., Any]) -> Callable[..., Any]:
    """As `_guarded`, for an answer that comes in steps."""

    @functools.wraps(answer)
    def guarded(*given: Any) -> Any:
        try:
            yield from answer(*given)
        except Exception as error:
            log.exception("the demo failed")
            raise gr.Error(FAULT, title="Sorry", print_exception=False) from error

    return guarded


def theme() -> gr.themes.Base:
    """Quiet colours, and the fonts that the visitor's machine has."""
    return gr.themes.Base(
        primary_hue=BLUE, neutral_hue="slate", font=list(FONTS), font_mono=list(FIXED_FONTS), radius_size="lg"
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#0f1318",
        block_background_fill_dark="#181d24",
        block_border_color_dark="#2f3843",
        block_label_background_fill_dark="#181d24",
        input_background_fill_dark="#0f1318",
        # Gradio's own greys miss the 4.5 : 1 that small letters need.
        block_info_text_color="#55606e",
        block_info_text_color_dark="#a3aebb",
        block_label_text_color="#55606e",
        block_label_text_color_dark="#a3aebb",
        block_title_text_color="#14181f",
        block_title_text_color_dark="#e9edf2",
    )


def launch(
    answers: Answers, host: str = LOOPBACK[0], port: int | None = None, browser: bool = False
) -> tuple[gr.Blocks, str]:
    """Serves the page from a thread of its own; returns it, to be closed, and its address.

    Args:
        answers: what it says.
        host: the address to listen on; any but loopback opens the demo to everyone who can reach the machine.
        port: None takes a free one.
        browser: whether to open it.

    Raises:
        DemoError: the port is taken, or this machine does not have the address.
    """
    _check_address(host, port)
    # Gradio asks its own page whether it is up, which must not go through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK]))
    live = None
    if is_calibrated(answers.encoder):
        live = Live(answers.encoder, answers.enrolled, answers.templates, answers.average)
    page = build(answers, live is not None).queue(api_open=False)
    try:
        app, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=MAX_BYTES,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme(),
            css=_text(STYLE),
            head=f"<script>{''.join([marks_script(), *map(_text, SCRIPTS)])}</script><style>{_text(LAYOUT)}</style>",
        )
    except ServerFailedToStartError as error:  # Gradio waits for five seconds
        raise DemoError("the page did not start in time because the machine is busy; try again") from error
    if live is not None:
        add_routes(app, live)
    return page, address


def serve(answers: Answers, host: str, port: int | None, browser: bool) -> None:
    """Serves the page and prints its address, until it is interrupted; then deletes what visitors uploaded.

    Args:
        answers, host, port, browser: as for `launch`.

    Raises:
        DemoError: the port is taken, or this machine does not have the address.
    """
    with tempfile.TemporaryDirectory(prefix="kws-imagebind-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            _, address = launch(answers, host, port, browser)
            print(f"{address}  (Ctrl-C ends the demo)", flush=True)
            if host not in LOOPBACK:
                log.warning(
                    "anyone who can reach this machine can use the demo; browsers allow the microphone only over HTTPS"
                )
            threading.Event().wait()
        except KeyboardInterrupt:  # the server's thread ends with the process; waiting for it would take seconds
            print()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _check_address(host: str, port: int | None) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port or 0))
    except (OSError, OverflowError) as error:
        at, other = (f"{host}:{port}", "--port") if port else (host, "--host")
        raise DemoError(f"cannot listen on {at} ({error}); choose another {other}, or leave it out") from error


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
