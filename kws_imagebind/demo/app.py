"""The demo on the screen. The one file that needs Gradio.

The page gets everything from this process. It fetches no font, script or figure from elsewhere and reports nothing to
anyone, so the demo works without a network.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.http_server import ServerFailedToStartError

from kws_imagebind.demo import DemoError, panels
from kws_imagebind.demo.answers import KEPT_MINUTES, MAX_BYTES, MAX_SECONDS, Answers
from kws_imagebind.encoders import Encoder
from kws_imagebind.encoders.cards import card_of
from kws_imagebind.reporting.page import marks_script
from kws_imagebind.text.tasks import COMMANDS, DIGITS, SPEECH_COMMANDS_WORDS

LOOPBACK = ("127.0.0.1", "localhost", "::1")
STYLE = Path(__file__).parent / "templates" / "demo.css"
FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
FIXED_FONTS = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")
LISTS = {
    "Commands": COMMANDS,
    "Digits": DIGITS,
    "All 35": SPEECH_COMMANDS_WORDS,
    "Kitchen": ("lamp", "kettle", "window", "fridge", "spoon", "open the door"),
}
# Gradio puts a prefix before the selectors of a style sheet that makes those within "@media" match nothing.
STILL = "@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }"
VISITORS = 4  # whose recordings are ranked at the same time; others wait in a queue
FAULT = "This is a fault of the demo, not yours. The terminal that runs it shows the details."
# Okabe and Ito's blue, from the lightest to the darkest.
BLUE = gr.themes.Color(
    "#eef6fb", "#d6e9f5", "#aed4ec", "#7fbbe0", "#56b4e9", "#2a8bc4",
    "#0072b2", "#005f95", "#004c78", "#003a5c", "#002a44",
)  # fmt: skip

log = logging.getLogger(__name__)


def build(answers: Answers) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="KWS-ImageBind demo", analytics_enabled=False, delete_cache=(60, 60 * KEPT_MINUTES)) as page:
        introduction = escape(_introduction(answers.encoder))
        gr.HTML(
            f"<div class='kws-head'><h1>Which word did you say?</h1><p>{introduction}</p></div>",
            padding=False,
        )
        with gr.Tab("Your voice"):
            _voice(answers)
        with gr.Tab("A random clip"):
            _random_clip(answers)
        with gr.Tab("Statistics"):
            _statistics(answers)
    return page


def _introduction(encoder: Encoder) -> str:
    text = f"Record a word, or upload a recording. {encoder.name} ranks the words you list by how well they fit."
    if card_of(encoder).saw_speech_commands:
        return f"{text} It was trained on Speech Commands, so for the words of that corpus this is not zero-shot."
    return f"{text} List any words: it does not have to be trained on them. That is what zero-shot means."


def _voice(answers: Answers) -> None:
    with gr.Row():
        with gr.Column(scale=5):
            recording = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label=f"Your recording, at most {MAX_SECONDS:.0f} seconds",
                buttons=[],
                elem_id="recording",
            )
            words = gr.Textbox(
                ", ".join(answers.enrolled.labels if answers.enrolled else COMMANDS),
                label="Words to choose from",
                info="Any English words or short phrases, separated by commas. To set a pronunciation: "
                "kettle=/K EH T AH L/",
                lines=3,
                max_lines=8,
                elem_id="words",
            )
            with gr.Row(elem_classes="lists"):
                buttons = [(gr.Button(name, size="sm", min_width=90), listed) for name, listed in LISTS.items()]
            gr.HTML(
                "<p class='kws-small'>Recordings are kept in a temporary folder on the computer that runs this demo, "
                f"and deleted after {KEPT_MINUTES} minutes.</p>",
                padding=False,
            )
        with gr.Column(scale=6):
            ranking = gr.HTML(answers.spot(None, "")[0], elem_id="ranking", padding=False)
            spectrogram = gr.HTML(elem_id="spectrogram", padding=False)
    shown: dict[str, Any] = {
        "fn": _guarded(answers.spot),
        "inputs": [recording, words],
        "outputs": [ranking, spectrogram],
        "show_progress": "hidden",
        "concurrency_limit": VISITORS,
        "concurrency_id": "spot",
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    gr.on([recording.change, words.change], **shown)
    for button, listed in buttons:
        button.click(
            functools.partial(", ".join, listed), None, words, api_visibility="private", show_progress="hidden"
        )


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
    page = build(answers).queue(api_open=False)
    try:
        _, address, _ = page.launch(
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
            css=STYLE.read_text(encoding="utf-8"),
            head=f"<script>{marks_script()}</script><style>{STILL}</style>",
        )
    except ServerFailedToStartError as error:  # Gradio waits for five seconds
        raise DemoError("the page did not start in time because the machine is busy; try again") from error
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
