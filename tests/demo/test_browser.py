"""The demo in a real Chromium without a screen: its microphone hears a clip of the sample.

With KWS_IMAGEBIND_SCREENSHOTS=DIR each step leaves a picture there.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from kws_imagebind.datasets.sample import sample_folder
from tests.browser import PATIENCE, WIDTHS, chromium, launch

if find_spec("gradio") is None:
    pytest.skip("gradio is not installed, the package of the extra 'demo'", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")

PROJECT = Path(__file__).parents[2]
SPOKEN = sample_folder() / "stop" / "04098292_nohash_0.wav"
sync_api.expect.set_options(timeout=PATIENCE)


@dataclass
class Demo:
    """A page that is open, and what it did."""

    page: sync_api.Page
    address: str
    uploads: Path
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab).click()

    def picture(self, name: str) -> None:
        if folder := os.environ.get("KWS_IMAGEBIND_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def watch(self, page: sync_api.Page) -> None:
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.on("requestfailed", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.strangers.append(url)


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears, again and again: a clip between silences."""
    path = tmp_path_factory.mktemp("microphone") / "hears.wav"
    samples, rate = soundfile.read(SPOKEN, dtype="int16")
    pause = np.zeros(rate // 2, np.int16)
    soundfile.write(path, np.concatenate([pause, samples, pause]), rate)
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Starts the command as a user does; gives its address and the folder that uploads go to."""
    chromium()
    folder = tmp_path_factory.mktemp("served")
    (folder / "temporary").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "TMPDIR": str(folder / "temporary"),
        "HTTP_PROXY": "http://127.0.0.1:9",  # to which nobody listens: the demo must not need it
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "kws_imagebind", "demo", "--no-browser"],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(" ")[0]
            assert address.startswith("http://127.0.0.1:"), (folder / "errors").read_text()
            yield address, folder / "temporary"
        finally:
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert not list((folder / "temporary").rglob("*.wav")), "an upload outlived the demo"
    assert "Traceback" not in (folder / "errors").read_text()
    assert {path.name for path in folder.iterdir()} == {"temporary", "errors", ".cache"}


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = launch(
            playwright,
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
        )
        yield browser
        browser.close()


@pytest.fixture
def demo(served: tuple[str, Path], browser: sync_api.Browser) -> Iterator[Demo]:
    address, uploads = served
    context = browser.new_context(permissions=["microphone"], viewport={"width": 1180, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    demo = Demo(page, address, uploads)
    demo.watch(page)
    page.goto(address)
    page.get_by_role("tab", name="Your voice").wait_for()
    yield demo
    context.close()
    assert not demo.complaints and not demo.strangers


def expect_best(demo: Demo, word: str) -> None:
    sync_api.expect(demo.page.locator("#ranking .best strong")).to_have_text(word)


def test_a_word_that_is_spoken_comes_first(demo: Demo) -> None:
    page = demo.page
    demo.picture("empty")
    page.get_by_role("button", name="Record", exact=True).click()
    # The recorder's own clock, so that the clip is heard whole however slow the machine is.
    page.locator("#recording").get_by_text(re.compile(r"^0:0[2-9]$")).first.wait_for()
    page.locator("#recording button.stop-button").click()
    # Longer than a window, so it is searched: the word is there once or more often.
    sync_api.expect(page.locator("#ranking .best strong")).to_have_text(re.compile("^stop(, stop)*$"))
    page.locator("#spectrogram image").wait_for()
    assert page.locator("#ranking .bars li").count() == 10
    assert page.locator("#ranking .timeline rect").count() == page.locator("#ranking tbody tr").count() >= 1
    demo.picture("recorded")
    # The answer follows the list while it is edited.
    page.get_by_label("Words to choose from").fill("kettle=/S T AA P/, lamp")
    sync_api.expect(page.locator("#ranking .best strong")).to_have_text(re.compile("^kettle(, kettle)*$"))
    page.get_by_role("button", name="Digits").click()
    sync_api.expect(page.locator("#ranking .bars li")).to_have_count(10)
    sync_api.expect(page.get_by_label("Words to choose from")).to_have_value(re.compile("^zero, one"))


def test_an_upload_is_ranked_and_bad_input_gets_a_sentence(demo: Demo, tmp_path: Path) -> None:
    page = demo.page
    page.get_by_role("button", name="Upload file").click()
    page.locator("#recording input[type=file]").set_input_files(SPOKEN)
    expect_best(demo, "stop")
    assert list(demo.uploads.rglob(SPOKEN.name)), "uploads are expected in the temporary folder"
    for words, sentence in (
        ("yes, !!!", "'!!!' cannot be pronounced: expected English letters"),
        ("", "The list of words is empty"),
        ("yes, yes", "listed twice"),
    ):
        page.get_by_label("Words to choose from").fill(words)
        sync_api.expect(page.locator("#ranking [role=alert]")).to_contain_text(sentence)
    demo.picture("sentence")
    page.get_by_label("Words to choose from").fill("${window} stop, {{go}}, <b>no</b>")
    sync_api.expect(page.locator("#ranking .bars")).to_contain_text("{{go}}")
    sync_api.expect(page.locator("#ranking .bars")).to_contain_text("<b>no</b>")
    page.get_by_role("button", name="Clear").click()
    sync_api.expect(page.locator("#ranking")).to_contain_text("Record or upload a word")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    page.locator("#recording input[type=file]").set_input_files(tmp_path / "silent.wav")
    sync_api.expect(page.locator("#ranking")).to_contain_text("only silence")
    assert "Traceback" not in page.content()


def test_examples_have_a_timeline_none_of_these_a_history_and_a_download(demo: Demo) -> None:
    page = demo.page
    page.set_viewport_size({"width": 390, "height": 844})
    best = page.locator("#ranking .best")
    for example, answer in (("One word", "stop"), ("Three words", "yes, left, stop"), ("Noise", "None of these")):
        page.get_by_role("button", name=example, exact=True).click()
        expect_best(demo, answer)
        page.locator("#spectrogram image").wait_for()
        demo.picture(f"phone-{example.split()[0]}")
        # The answer is in view on a telephone, and nobody has scrolled.
        box = best.bounding_box()
        assert box is not None and page.evaluate("document.scrollingElement.scrollTop") == 0
        assert box["y"] >= 0 and box["y"] + box["height"] <= 844, example
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
        if example == "Three words":
            assert page.locator("#ranking .timeline rect").count() == page.locator("#ranking tbody tr").count() == 3
    rows = page.locator("#history tbody tr")
    sync_api.expect(rows).to_have_count(3)
    assert [row.locator("td").nth(2).inner_text() for row in rows.all()] == ["none of these", "yes, left, stop", "stop"]
    with page.expect_download() as download:
        page.locator("#download").click()
    table = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["word"] for row in table] == ["stop", "yes", "left", "stop", "none of these"]
    assert download.value.suggested_filename == "heard.csv"


def test_the_address_keeps_the_words_for_all_tabs(demo: Demo) -> None:
    def opened(address: str) -> sync_api.Page:
        page = demo.page.context.new_page()  # and not a reload, of whose broken connections Gradio complains
        demo.watch(page)
        page.goto(address)
        return page

    page = opened(f"{demo.address}?words=lamp,tea%20pot&__theme=light")
    mine, live = page.locator("#words textarea"), page.locator("#live-words textarea")
    sync_api.expect(mine).to_have_value("lamp,tea pot")
    mine.fill("stop, kettle=/K EH T AH L/;<b>")
    page.wait_for_url(re.compile(r"[?&]words=stop,kettle"))
    page.get_by_role("tab", name="Live").click()
    sync_api.expect(live).to_have_value("stop, kettle=/K EH T AH L/;<b>")
    live.fill("window")
    page.wait_for_url(re.compile(r"__theme=light&words=window$"))
    page.get_by_role("button", name="Digits").locator("visible=true").click()
    page.wait_for_url(re.compile(r"words=zero,one"))
    again = opened(page.url)
    sync_api.expect(again.locator("#words textarea")).to_have_value(re.compile("^zero,one"))
    sync_api.expect(demo.page.locator("#words textarea")).to_have_value(re.compile("^yes, no"))


def test_live_hears_a_word_as_it_is_said(demo: Demo) -> None:
    page = demo.page
    demo.open("Live")
    page.locator("#live-words textarea").fill("stop, lamp, window")
    demo.picture("live-before")
    page.locator("#listen").click()
    panel = page.locator("#live-panel")
    first = panel.locator("tbody tr").last
    first.wait_for()
    assert [first.locator("td").nth(2).inner_text(), panel.locator(".best strong").inner_text()] == ["stop", "stop"]
    assert float(first.locator("td").nth(3).inner_text()) >= 0.5
    assert panel.locator(".bars li").count() == 3 and panel.locator(".meter").count() == 1
    demo.picture("live")
    page.locator("#threshold input[type=number]").fill("0.6")
    page.keyboard.press("Tab")
    sync_api.expect(panel.locator(".bars li").first).to_have_attribute("style", "--least: 0.6000")
    page.locator("#live-words textarea").fill("stop, !!!")
    sync_api.expect(page.locator("#live-alert")).to_contain_text("'!!!' cannot be pronounced")
    sync_api.expect(page.locator("#live-alert")).to_contain_text("Listening goes on")
    page.locator("#listen").click()
    sync_api.expect(page.locator("#listen")).to_have_text("Start")
    sync_api.expect(panel.locator(".state")).to_contain_text("Stopped")
    heard = panel.locator("tbody tr").count()
    with page.expect_download() as download:
        panel.get_by_role("link", name="Download the hits").click()
    table = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert {row["word"] for row in table} == {"stop"} and len(table) == heard >= 1
    page.set_viewport_size({"width": 390, "height": 844})
    demo.picture("live-phone")
    box = panel.locator(".best").bounding_box()
    assert box is not None and box["y"] + box["height"] <= 844
    # Once more, from the beginning.
    page.locator("#live-words textarea").fill("window")
    page.locator("#listen").click()
    sync_api.expect(panel).to_contain_text("nothing heard yet")
    page.locator("#listen").click()


def test_live_says_that_the_browser_does_not_allow_the_microphone(demo: Demo) -> None:
    page = demo.page
    refuse = "() => Promise.reject(new DOMException('', 'NotAllowedError'))"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refuse}; }}")
    demo.open("Live")
    page.locator("#listen").click()
    sync_api.expect(page.locator("#live-alert p")).to_contain_text("does not allow the microphone")
    assert page.locator("#listen").inner_text() == "Start"


def test_live_turns_the_microphone_off_where_it_does_not_start(demo: Demo) -> None:
    page = demo.page
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.asked = [];
          navigator.mediaDevices.getUserMedia = async (wanted) => {
            window.asked.push([wanted, await ask(wanted)]);
            return window.asked.at(-1)[1];
          };
          window.Working = window.AudioContext;
          window.AudioContext = function () { throw new Error("no sound card"); };
        }"""
    )
    demo.open("Live")
    page.locator("#listen").click()
    sync_api.expect(page.locator("#live-alert p")).to_have_text("The microphone does not start: no sound card.")
    assert page.evaluate("asked.map(([wanted, stream]) => stream.getTracks()[0].readyState)") == ["ended"]
    assert page.evaluate("asked[0][0].audio.autoGainControl") is False
    page.evaluate("() => { window.AudioContext = window.Working; }")
    page.locator("#listen").click()  # the button still answers
    sync_api.expect(page.locator("#listen")).to_have_text("Stop")
    sync_api.expect(page.locator("#live-alert p")).to_have_count(0)
    page.locator("#listen").click()
    sync_api.expect(page.locator("#live-panel .state")).to_contain_text("Stopped")


def test_live_keeps_its_hits_where_the_microphone_or_the_demo_goes(demo: Demo) -> None:
    page = demo.page
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          navigator.mediaDevices.getUserMedia = async (wanted) => (window.given = await ask(wanted));
        }"""
    )
    demo.open("Live")
    page.locator("#live-words textarea").fill("stop, lamp")
    alert, rows = page.locator("#live-alert p"), page.locator("#live-panel tbody tr")
    page.locator("#listen").click()
    rows.first.wait_for()
    page.evaluate("given.getTracks()[0].dispatchEvent(new Event('ended'))")
    sync_api.expect(alert).to_contain_text("The microphone is gone")
    sync_api.expect(page.locator("#live-panel .state")).to_contain_text("Stopped")
    sync_api.expect(alert).to_contain_text("The microphone is gone")
    assert rows.count() >= 1 and page.locator("#listen").inner_text() == "Start"
    page.locator("#listen").click()
    sync_api.expect(page.locator("#live-panel .state")).to_contain_text("Listening")
    rows.first.wait_for()
    page.evaluate(
        """() => {
          window.changes = 0;
          new MutationObserver(() => { window.changes += 1; }).observe(
            document.getElementById("live-alert"), { childList: true, subtree: true });
        }"""
    )
    # Every block gets the same problem; it is announced once.
    page.locator("#live-words textarea").fill("stop, !!!")
    sync_api.expect(alert).to_contain_text("'!!!' cannot be pronounced")
    page.wait_for_timeout(2000)
    assert page.evaluate("changes") == 1
    page.evaluate("() => { window.fetch = async () => new Response('', { status: 503 }); }")
    sync_api.expect(alert).to_have_text("Too many people are listening. Try again in a minute.")
    assert rows.count() >= 1 and page.locator("#listen").inner_text() == "Start"


def test_a_random_clip_shows_its_word_and_what_was_heard(demo: Demo) -> None:
    demo.open("A random clip")
    demo.page.get_by_role("button", name="Draw a clip").click()
    verdict = demo.page.locator("#heard .verdict")
    verdict.wait_for()
    key = demo.page.locator("#heard code").inner_text()
    assert (sample_folder() / key).is_file()
    assert verdict.locator("dd").first.inner_text() == key.split("/")[0]
    sync_api.expect(demo.page.locator("#clip button[aria-label=Play]")).to_be_visible()
    demo.page.locator("#clip-spectrogram image").wait_for()
    demo.picture("random")


def test_statistics_come_with_interval_n_chance_and_matrix(demo: Demo) -> None:
    page = demo.page
    demo.open("Statistics")
    page.get_by_role("button", name="Measure").click()
    result = page.locator("#result")
    result.locator(".protocol").wait_for()
    assert re.search(r"^\d+\.\d %$", result.locator(".best strong").inner_text())
    assert re.search(r"accuracy \[[\d.]+, [\d.]+\], n = 64 clips; chance 2.9 %", result.inner_text())
    assert "64 of 315 clips, drawn with seed 0" in result.inner_text()
    assert result.get_by_role("img", name="confusion matrix").is_visible()
    demo.picture("statistics")
    # The script that reads the figures came with the page: a tap on a cell says what it counts.
    cell = result.locator(".frame.sticky g").first
    said = cell.locator("title").text_content()
    cell.click()
    sync_api.expect(result.locator(".frame.sticky + output")).to_have_text(str(said))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        demo.picture(f"statistics-{width}")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width  # only the matrix scrolls sideways


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_stands_in_the_middle_and_shows_its_tabs(demo: Demo, width: int) -> None:
    page = demo.page
    page.set_viewport_size({"width": width, "height": 900})
    demo.picture(f"voice-{width}")
    for tab in ("Your voice", "Live", "A random clip", "Statistics"):
        sync_api.expect(page.get_by_role("tab", name=tab)).to_be_visible()
    box = page.locator("main").bounding_box()
    assert box is not None and abs(box["x"] - (width - box["x"] - box["width"])) <= 2
    assert box["width"] <= 1080 and box["x"] <= max(32, (width - 1080) / 2)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_two_visitors_at_once_get_their_own_answers(demo: Demo, browser: sync_api.Browser) -> None:
    pages = [demo.page, browser.new_context().new_page()]
    pages[1].set_default_timeout(PATIENCE)
    demo.watch(pages[1])
    pages[1].goto(demo.address)
    for page in pages:
        page.get_by_role("button", name="Upload file").click()
    for page, word in zip(pages, ("yes", "no"), strict=True):
        page.locator("#recording input[type=file]").set_input_files(next((sample_folder() / word).glob("*.wav")))
    for page, word in zip(pages, ("yes", "no"), strict=True):
        sync_api.expect(page.locator("#ranking .best strong")).to_have_text(word)
    pages[1].context.close()


def test_the_page_works_by_keyboard_and_in_the_dark(demo: Demo, browser: sync_api.Browser) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 1180, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    demo.watch(page)
    page.goto(demo.address)
    page.get_by_role("tab", name="Your voice").focus()
    draw = page.get_by_role("button", name="Draw a clip")
    for key in ("Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    draw.wait_for()
    for key in ("Tab", "Tab"):  # past the last tab
        page.keyboard.press(key)
    sync_api.expect(draw).to_be_focused()
    page.keyboard.press("Enter")
    page.locator("#heard .verdict").wait_for()
    light = demo.page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor")
    assert page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor") != light
    context.close()


def test_files_of_the_machine_are_not_served(demo: Demo) -> None:
    for path in (Path(__file__), PROJECT / "pyproject.toml", SPOKEN):
        answer = demo.page.request.get(f"{demo.address}gradio_api/file={path}")
        assert answer.status in (403, 404), path
