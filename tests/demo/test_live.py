"""Listening while somebody speaks, without a browser: blocks as a page sends them, and the panel that comes back."""

from __future__ import annotations

import re
import threading
from html import unescape
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import kws_imagebind as kws
from kws_imagebind.audio.resample import resample
from kws_imagebind.datasets.sample import sample_folder
from kws_imagebind.demo import DemoError
from kws_imagebind.demo import live as module
from kws_imagebind.demo.live import IDLE, LONGEST, VISITORS, Live
from kws_imagebind.encoders import Encoder
from kws_imagebind.spotting.stream import Listener

RATE = 16_000
ANNE, BOB = "a" * 32, "b" * 32


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return kws.load_encoder("phonebind")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(encoder: Encoder, clock: Clock) -> Live:
    return Live(encoder, clock=clock)


def said(*words: str) -> NDArray[np.int16]:
    """Words of the sample with a second of silence before, between and after."""
    parts = [np.zeros(RATE, np.int16)]
    for word in words:
        parts += [soundfile.read(sample_folder() / word / "04098292_nohash_0.wav", dtype="int16")[0], parts[0]]
    return np.concatenate(parts)


def text(panel: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", panel)).split())


@pytest.mark.parametrize(("rate", "block", "channels"), [(16_000, 0.5, 1), (48_000, 0.37, 2), (44_100, 3.0, 1)])
def test_a_browser_at_any_rate_hears_what_a_listener_hears(
    live: Live, encoder: Encoder, rate: int, block: float, channels: int
) -> None:
    sound = said("left", "stop")
    expected = list(Listener(["left", "stop", "lamp"], encoder=encoder).listen([sound], RATE))
    samples = resample(torch.from_numpy(sound / np.float32(32_768)), RATE, rate).clamp(-1, 1).numpy()
    samples = np.repeat((samples * 32_767).astype(np.int16)[:, None], channels, 1)
    size = round(block * rate)
    for start in range(0, len(samples), size):
        panel = live.hear(ANNE, samples[start : start + size], rate, "left, stop, lamp", 0.5)
    live.stop(ANNE)
    assert [hit.word for hit in expected] == ["left", "stop"] == [hit.word for hit in live.hits(ANNE)]
    for hit, other in zip(live.hits(ANNE), expected, strict=True):
        assert (hit.start, hit.score) == (pytest.approx(other.start, abs=0.05), pytest.approx(other.score, abs=0.05))
    assert "Listening" in text(panel) and "lamp" in text(panel)


def test_the_panel_says_what_is_heard_and_what_is_not(live: Live) -> None:
    sound = said("stop")
    panel = live.hear(ANNE, sound[:RATE], RATE, "stop, lamp", 0.5)
    assert "nothing heard yet" in text(panel) and "0:01.0" in text(panel) and "<table" not in panel
    panel = live.hear(ANNE, sound[RATE:], RATE, "stop, lamp", 0.5)
    panel += live.hear(ANNE, np.zeros(RATE, np.int16), RATE, "stop, lamp", 0.5)
    hit = live.hits(ANNE)[0]
    assert f"stop heard at 0:0{hit.start:.1f}, score {hit.score:.2f}" in text(panel)
    assert "1 hit, the newest first" in text(panel) and "data:text/csv" not in panel
    panel = live.stop(ANNE)
    assert "Stopped" in text(panel) and "data:text/csv" in panel and 'class="meter"' not in panel


def test_the_threshold_decides(live: Live) -> None:
    for visitor, threshold in ((ANNE, 0.5), (BOB, 0.999)):
        live.hear(visitor, said("stop"), RATE, "stop, lamp", threshold)
        live.stop(visitor)
    assert live.hits(ANNE) and not live.hits(BOB)
    assert "nothing was heard" in text(live.stop(BOB))


def test_other_words_in_the_middle_keep_the_hits_and_the_time(live: Live) -> None:
    live.hear(ANNE, said("left"), RATE, "left, lamp", 0.5)
    panel = live.hear(ANNE, said("stop"), RATE, "stop", 0.5)
    live.stop(ANNE)
    first, second = live.hits(ANNE)
    assert (first.word, second.word) == ("left", "stop")
    alone = next(iter(Listener(["stop"]).listen([said("stop")], RATE)))
    assert second.start == pytest.approx(len(said("left")) / RATE + alone.start, abs=0.02)
    assert "lamp" not in text(panel)


@pytest.mark.parametrize(
    ("words", "about"), [("", "list of words is empty"), ("stop, !!!", "cannot be pronounced"), ("yes, yes", "twice")]
)
def test_words_that_cannot_be_used_get_a_sentence_and_listening_goes_on(live: Live, words: str, about: str) -> None:
    assert about in text(live.hear(BOB, said(), RATE, words, 0.5))
    sound = said("stop")
    live.hear(ANNE, sound[:RATE], RATE, "stop", 0.5)
    panel = live.hear(ANNE, sound[RATE:], RATE, words, 0.5)
    assert about in text(panel) and "Listening goes on for the words before" in text(panel)
    live.stop(ANNE)
    assert [hit.word for hit in live.hits(ANNE)] == ["stop"]


def test_what_a_visitor_types_is_no_markup(live: Live) -> None:
    panel = live.hear(ANNE, said(), RATE, "<b>bed</b>, <i>7</i>", 0.5) + live.hear(
        ANNE, said(), RATE, "<b>bed</b>", 0.5
    )
    assert "<b>" not in panel and "<i>7" not in panel and "&lt;b&gt;bed&lt;/b&gt;" in panel


@pytest.mark.parametrize(("rate", "samples"), [(300, np.zeros(300, np.int16)), (10**6, np.zeros(10, np.int16))])
def test_a_rate_that_no_microphone_has_gets_a_sentence(live: Live, rate: int, samples: NDArray[np.int16]) -> None:
    assert f"gives {rate:,} samples a second; expected 8,000 to 192,000" in text(
        live.hear(ANNE, samples, rate, "stop", 0.5)
    )


def test_of_a_block_that_is_too_long_the_end_is_heard_and_the_loss_is_said(live: Live) -> None:
    late = np.concatenate([np.zeros(round(4 * RATE), np.int16), np.zeros(round(LONGEST * RATE), np.int16)])
    late[-len(said("stop")) :] = said("stop")
    panel = live.hear(ANNE, late, RATE, "stop", 0.5)
    live.stop(ANNE)
    assert "4 s of sound were lost" in text(panel) and [hit.word for hit in live.hits(ANNE)] == ["stop"]
    assert "0:10.0" in text(panel)
    assert "7 s of sound were lost" in text(live.hear(BOB, said("stop"), RATE, "stop", 0.5, lost=7.2))


def test_an_empty_block_changes_nothing(live: Live) -> None:
    assert "0:00.0" in text(live.hear(ANNE, np.zeros(0, np.int16), RATE, "stop", 0.5))


def test_a_microphone_that_gives_only_silence_is_named(live: Live) -> None:
    panel = live.hear(ANNE, np.zeros(4 * RATE, np.int16), RATE, "stop", 0.5)
    assert "Is it muted?" in text(panel)
    assert "Is it muted?" not in text(live.hear(ANNE, said("stop"), RATE, "stop", 0.5))


def test_only_the_last_hits_are_kept_and_all_are_counted(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    live.hear(ANNE, said("left", "stop", "left"), RATE, "left, stop", 0.5)
    panel = live.stop(ANNE)
    assert [hit.word for hit in live.hits(ANNE)] == ["stop", "left"] and "the last 2 of 3 hits" in text(panel)


def test_a_block_after_the_end_is_not_heard_and_a_new_start_begins_at_zero(live: Live) -> None:
    live.hear(ANNE, said("stop"), RATE, "stop", 0.5)
    live.stop(ANNE)
    assert "Stopped" in text(live.hear(ANNE, said("stop"), RATE, "stop", 0.5)) and len(live.hits(ANNE)) == 1
    live.start(ANNE)
    assert not live.hits(ANNE) and "0:01.0" in text(live.hear(ANNE, said(), RATE, "stop", 0.5))


def test_visitors_hear_their_own_and_are_forgotten(live: Live, clock: Clock) -> None:
    live.hear(ANNE, said("stop"), RATE, "stop", 0.5)
    live.hear(BOB, said("left"), RATE, "left", 0.5)
    live.stop(ANNE)
    live.stop(BOB)
    assert [live.hits(visitor)[0].word for visitor in (ANNE, BOB)] == ["stop", "left"]
    live.forget(ANNE)
    assert len(live) == 1 and not live.hits(ANNE)
    live.forget(ANNE)  # twice does no harm
    clock.now = IDLE + 1  # Bob has vanished without a word
    live.start(ANNE)
    assert len(live) == 1 and not live.hits(BOB)


def test_nobody_who_listens_is_forgotten_for_another(live: Live, clock: Clock) -> None:
    several = [f"{number:032x}" for number in range(VISITORS)]
    for visitor in several:
        live.start(visitor)
    for second in range(3):  # in turn, with one more who tries
        for visitor in several:
            clock.now += 0.01
            panel = live.hear(visitor, said()[: RATE // 2], RATE, "stop", 0.5)
            assert f"0:0{(second + 1) / 2:.1f}" in text(panel), "its stream began again"
        for attempt in (lambda: live.start(ANNE), lambda: live.hear(ANNE, said(), RATE, "stop", 0.5)):
            with pytest.raises(DemoError, match="too many people are listening; try again in a minute"):
                attempt()
    live.start(several[0])  # one of them may begin again
    for visitor in (several[7], several[3]):
        clock.now += 0.01
        live.stop(visitor)
    live.start(ANNE)
    assert len(live) == VISITORS and "Listening, 0:00.0" in text(live.hear(several[7], said()[:0], RATE, "stop", 0.5))


def test_hits_wait_for_the_block_that_is_being_heard(live: Live) -> None:
    live.hear(ANNE, said("stop"), RATE, "stop", 0.5)
    asked = threading.Thread(target=live.hits, args=(ANNE,), daemon=True)
    with live._sessions[ANNE].lock:
        asked.start()
        asked.join(0.2)
        assert asked.is_alive()
    asked.join(10)
    assert not asked.is_alive()


def test_enrolled_words_are_heard_with_their_examples(encoder: Encoder) -> None:
    enrolled = kws.enrol(encoder, {"stop": sorted((sample_folder() / "stop").glob("*.wav"))[1:4], "lamp": ()})
    scores = []
    for live in (Live(encoder, enrolled), Live(encoder)):
        live.hear(ANNE, said("stop"), RATE, "stop, lamp", 0.5)
        live.stop(ANNE)
        scores += [hit.score for hit in live.hits(ANNE)]
    (expected,) = Listener(enrolled, encoder=encoder).listen([said("stop")], RATE)
    assert scores[0] == pytest.approx(expected.score, abs=1e-6) and scores[1] != pytest.approx(scores[0], abs=1e-5)


def test_each_word_has_its_own_threshold_in_its_bar(encoder: Encoder) -> None:
    examples = sorted((sample_folder() / "stop").glob("*.wav"))[1:4]
    live = Live(encoder, kws.enrol(encoder, {"stop": examples, "lamp": ()}, {"stop": 0.9}))

    def least(threshold: float) -> dict[str, str]:
        panel = live.hear(ANNE, said("stop"), RATE, "stop, lamp", threshold)
        return {word: number for number, word in re.findall(r"<li.*?--least: ([\d.]+).*?class=\"word\">(\w+)<", panel)}

    assert least(0.5) == {"stop": "0.9000", "lamp": "0.5000"}
    assert least(0.6) == {"stop": "0.6000", "lamp": "0.6000"}  # the visitor's, for all


def test_a_page_sends_blocks_over_http(encoder: Encoder) -> None:
    fastapi = pytest.importorskip("fastapi", reason="fastapi, which comes with gradio, is not installed")
    from fastapi.testclient import TestClient

    from kws_imagebind.demo.routes import MOST_BYTES, add_routes

    live, app = Live(encoder), fastapi.FastAPI()
    add_routes(app, live)
    page = TestClient(app)

    def hear(sound: bytes, visitor: str = ANNE, **fields: object) -> tuple[int, str]:
        sent = {"rate": "16000", "words": "stop, lamp", "threshold": "0.5", "lost": "0", **fields}
        answer = page.post(f"/live/hear?visitor={visitor}", data=sent, files={"sound": ("block", sound)})
        return answer.status_code, answer.text

    assert page.post(f"/live/start?visitor={ANNE}").status_code == 200
    sound = said("stop").astype("<i2").tobytes()
    for start in range(0, len(sound), RATE):
        assert hear(sound[start : start + RATE])[0] == 200
    assert "1 hit" in text(page.post(f"/live/stop?visitor={ANNE}").text)
    assert page.post(f"/live/forget?visitor={ANNE}").status_code == 200 and len(live) == 0
    for wrong in ({"sound": b"odd"}, {"sound": b"", "visitor": "../x"}, {"sound": bytes(MOST_BYTES + 2)}):
        assert hear(**wrong)[0] == 422  # type: ignore[arg-type]
    for field, value in (("rate", "1"), ("rate", "fast"), ("threshold", "2"), ("words", "a" * 50_000), ("lost", "nan")):
        assert hear(bytes(2), **{field: value})[0] == 422
    assert page.get(f"/live/hear?visitor={ANNE}").status_code == 405 and len(live) == 0


def test_a_page_that_is_foreign_or_sends_too_much_is_refused(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    fastapi = pytest.importorskip("fastapi", reason="fastapi, which comes with gradio, is not installed")
    from fastapi.testclient import TestClient

    from kws_imagebind.demo.routes import MOST_BYTES, add_routes

    live, app = Live(encoder), fastapi.FastAPI()
    add_routes(app, live)
    page = TestClient(app)

    def status(what: str, visitor: str = ANNE, **sent: Any) -> int:
        return page.post(f"/live/{what}?visitor={visitor}", **sent).status_code

    large = {"data": {"rate": "16000"}, "files": {"sound": ("block", bytes(MOST_BYTES + 2**20))}}
    assert status("hear", **large) == 413
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert status("hear", content=iter([b"--x--"]), headers=form) == 413  # in chunks, without a length
    assert status("hear", content=b"", headers=form | {"content-length": "many"}) == 413
    for origin in ("http://elsewhere.example", "null", "http://testserver:81"):
        assert status("start", headers={"origin": origin}) == 403
    assert len(live) == 0
    assert status("start", headers={"origin": "http://testserver"}) == 200
    proxied = {"origin": "https://demo.example", "x-forwarded-host": "demo.example"}
    assert status("start", headers=proxied) == 200
    monkeypatch.setattr(module, "VISITORS", 1)
    assert [status(what, BOB) for what in ("start", "stop")] == [503, 503]
