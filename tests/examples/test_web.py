"""The page of examples/web in a real Chromium: it gives onnxruntime's scores, `Listener`'s hits, and clear sentences.

With KWS_IMAGEBIND_SCREENSHOTS=DIR some steps leave a picture there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.audio.resample import resample
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.readouts.base import Scores
from kws_imagebind.spotting.judge import Judge
from kws_imagebind.spotting.windows import Ear, Fits
from scripts import onnxruntime_web
from tests.browser import PATIENCE, WIDTHS, launch, served
from tests.spotting.test_spotting import RATE, clip, joined

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
pytest.importorskip("onnx", reason="onnx is not installed, a package of the extra 'export'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, a package of the extra 'export'")
if not onnxruntime_web.VENDOR.is_dir():
    pytest.skip("examples/web/vendor is missing; 'make web' fetches it", allow_module_level=True)

PAGE = Path(__file__).parents[2] / "examples" / "web"
WORDS = ("left", "stop", "kettle", "seven")
LOADED = "4 words, float32"
LEAD = 4.0  # s before the word, in which a busy machine can open its microphone
FAKE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
# As Firefox, which takes no microphone into a context of another rate than its own.
OWN_RATE_ONLY = """
const connect = AudioContext.prototype.createMediaStreamSource;
AudioContext.prototype.createMediaStreamSource = function (stream) {
  if (this.sampleRate === 16000) throw new DOMException("different sample rates", "NotSupportedError");
  return connect.call(this, stream);
};
"""
# The most that each bar has shown.
HIGHEST = """
window.highest = {};
new MutationObserver((changes) => {
  for (const { target, oldValue } of changes) {
    window.highest[target.ariaLabel] = Math.max(window.highest[target.ariaLabel] ?? -100, Number(oldValue));
  }
}).observe(document, { subtree: true, attributeFilter: ["aria-valuenow"], attributeOldValue: true });
"""
sync_api.expect.set_options(timeout=PATIENCE)


@dataclass
class Opened:
    """A page, and what it did."""

    page: sync_api.Page
    address: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith((self.address, "data:", f"blob:{self.address}")):
            self.strangers.append(url)

    def expect(self, name: str, text: str) -> None:
        sync_api.expect(self.page.locator(f"#{name}")).to_contain_text(text)

    def picture(self, name: str) -> None:
        if folder := os.environ.get("KWS_IMAGEBIND_SCREENSHOTS"):
            for width in (390, 1280):
                self.page.set_viewport_size({"width": width, "height": 800})
                self.page.screenshot(path=Path(folder) / f"{name}-{width}.png")

    def hits(self) -> list[str]:
        return self.page.locator("#hits .word").all_inner_texts()


@pytest.fixture(scope="module")
def encoder() -> PhoneBindEncoder:
    return PhoneBindEncoder.from_weights(device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder: PhoneBindEncoder) -> Path:
    """The page, with a spotter of its own."""
    from kws_imagebind.spotting.export import export

    folder = tmp_path_factory.mktemp("web")
    for path in (*PAGE.glob("*.html"), *PAGE.glob("*.css"), *PAGE.glob("*.js")):
        shutil.copy(path, folder)
    (folder / "vendor").symlink_to(onnxruntime_web.VENDOR)
    export(encoder, list(WORDS), folder / "spotter.onnx", threshold={"seven": 0.6})
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears: a word in a quiet room, and then nothing at all."""
    path = tmp_path_factory.mktemp("microphone") / "hears.wav"
    sound = joined(LEAD, clip("left", 2), 2.0)[0]
    sound += np.random.default_rng(0).normal(size=len(sound)) * 1e-4
    soundfile.write(path, np.pad(sound, (0, RATE)), RATE, subtype="PCM_16")  # Chromium goes on with the file's end
    return path


@pytest.fixture(scope="module")
def playwright() -> Iterator[sync_api.Playwright]:
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: sync_api.Playwright, microphone: Path) -> Iterator[sync_api.Browser]:
    browser = launch(playwright, *FAKE, f"--use-file-for-fake-audio-capture={microphone}%noloop")
    yield browser
    browser.close()


@pytest.fixture
def web(browser: sync_api.Browser, address: str) -> Iterator[Opened]:
    context = browser.new_context(permissions=["microphone"])
    context.set_default_timeout(PATIENCE)
    web = Opened(context.new_page(), address)
    web.watch()
    yield web
    context.close()
    assert not web.strangers


@pytest.fixture(scope="module")
def modules(browser: sync_api.Browser, address: str, folder: Path) -> Iterator[sync_api.Page]:
    """An empty page that can import the page's modules."""
    (folder / "empty.html").write_text("<!doctype html><title>empty</title>")
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{address}empty.html")
    yield page
    context.close()


def opened(web: Opened) -> Opened:
    web.page.goto(web.address)
    web.expect("file", LOADED)
    return web


@pytest.mark.parametrize("rates", ["any rate", "its own rate only"])
def test_the_word_that_is_said_is_heard_and_no_other(web: Opened, rates: str) -> None:
    if rates == "its own rate only":
        web.page.add_init_script(OWN_RATE_ONLY)
    web.page.add_init_script(HIGHEST)
    opened(web)
    web.picture("before")
    toggle = web.page.locator("#toggle")
    toggle.click()
    sync_api.expect(toggle).to_have_text("Stop")
    web.expect("status", "Listening, 0:01")
    web.expect("source", "Fake")
    web.picture("listening")
    web.page.locator("#hits li").first.wait_for()
    web.picture("hit")
    web.expect("status", "The microphone gives no sound at all")
    toggle.click()
    web.expect("status", "Not listening.")
    assert web.hits() == ["left"]
    minutes, seconds = web.page.locator("#hits .at").inner_text().split(":")
    assert minutes == "0" and 0 < float(seconds) < LEAD + 1  # less by what passes before the page is given the sound
    score = float(web.page.locator("#hits .score").inner_text())
    assert 0.5 <= score <= 1
    shown = web.page.evaluate("highest")
    assert shown["score of left, threshold 0.5"] == pytest.approx(score, abs=0.01)
    assert shown["score of kettle, threshold 0.5"] < 0.5
    assert not web.complaints


def test_scores_are_onnxruntimes(modules: sync_api.Page, folder: Path) -> None:
    windows = torch.stack([torch.from_numpy(_fit(clip(word, 3))) for word in (*WORDS[:2], "happy", "tree")])
    noise = torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.001], [0.3]])
    windows = torch.cat([windows, noise]).numpy()
    session = onnxruntime.InferenceSession(folder / "spotter.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["scores"], {"waveforms": windows})[0]
    found = modules.evaluate(
        """async (windows) => {
          const { load } = await import("./model.js");
          const spotter = await load(await (await fetch("spotter.onnx")).arrayBuffer());
          const { words, thresholds, sampleRate, window, hop, smoothed, patience, faintest } = spotter;
          const scores = [];
          for (const window of windows) scores.push([...await spotter.score(Float32Array.from(window))]);
          return { scores, words, thresholds, numbers: [sampleRate, window, hop, smoothed, patience, faintest] };
        }""",
        windows.tolist(),
    )
    assert np.abs(np.array(found["scores"]) - expected).max() < 1e-3
    assert expected.max() > 0.5  # so that there is something to compare
    assert tuple(found["words"]) == WORDS and found["thresholds"] == [0.5, 0.5, 0.5, 0.6]
    assert found["numbers"] == [16_000, 1, 0.1, 5, 0.5, -80]


def _fit(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, (0, RATE))[:RATE].astype(np.float32)


class Table:
    """Scores of a window that depend on its loudness alone, as an encoder's vectors and as its read-out."""

    name, sample_rate, window, dim = "table", RATE, 1.0, 3
    fingerprint, default_template = "table", "{}"
    labels, protocol = ("one", "two"), None

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        scores = torch.stack([self.scores(waveform) for waveform in waveforms]) / 2
        return torch.cat([scores, (1 - scores.square().sum(1, keepdim=True)).sqrt()], 1)

    def scores(self, waveform: Tensor) -> Tensor:
        quarters = waveform[: RATE // 2].abs().mean(), waveform[RATE // 2 :].abs().mean()
        return torch.stack([(40 * each).frac() for each in quarters])

    def __call__(self, vectors: Tensor, /) -> Scores:
        return Scores(2 * vectors[:, :2], self.labels)

    def confidence(self) -> Any:
        raise NotImplementedError("a table's scores are taken as they are")


class TableJudge(Judge):
    """Takes a table's scores as they are."""

    def __init__(self, table: Table) -> None:
        self.encoder = self.readout = table  # type: ignore[assignment]
        self.labels, self.window, self.fillers, self.speller = table.labels, 1.0, torch.zeros(1, 3), None
        self.reset()

    def scores(self, fits: Fits) -> Tensor:  # type: ignore[override]
        return fits.keywords.double()

    def ear(self) -> Ear:
        return Ear(self.encoder, self.readout, self.fillers)


@pytest.mark.parametrize("seconds", [0.3, 0.5, 1.0, 30.0, 75.0])
def test_hits_follow_the_rules_of_the_listener(modules: sync_api.Page, seconds: float) -> None:
    """The same scores, made of a sound's loudness, go through both."""
    draw = np.random.default_rng(round(10 * seconds))
    loudness = np.repeat(10 ** draw.uniform(-5, 0, 1 + round(seconds / 0.15)), round(0.15 * RATE))
    sound = (draw.normal(size=len(loudness)) * loudness * 0.3)[: round(seconds * RATE)].astype(np.float32)
    sound[round(0.4 * len(sound)) : round(0.5 * len(sound))] = 0
    judge = TableJudge(Table())
    least = {"one": 0.5, "two": 0.55}
    listener = kws.Listener.of(judge, threshold=least)
    expected = [hit for block in np.array_split(sound, 7) for hit in listener.hear(block)] + listener.finish()
    found = modules.evaluate(
        """async ([bytes, sizes]) => {
          const { Listener } = await import("./listener.js");
          const sound = new Float32Array(Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0)).buffer);
          const mean = (part) => part.reduce((sum, each) => sum + Math.abs(each), 0) / part.length;
          const spotter = {
            words: ["one", "two"], thresholds: [0.5, 0.55], sampleRate: 16000, window: 1, hop: 0.1, smoothed: 5,
            patience: 0.5, faintest: -80,
            score: async (window) => [window.slice(0, 8000), window.slice(8000)].map((part) => (40 * mean(part)) % 1),
          };
          const runs = [];
          for (const size of sizes) {
            const listener = new Listener(spotter), hits = [];
            for (let at = 0; at < sound.length; at += size) {
              hits.push(...await listener.hear(sound.slice(at, at + size)));
            }
            runs.push([...hits, ...await listener.finish()]);
          }
          return runs;
        }""",
        [_base64(sound), [800, 777, 40_000]],
    )
    assert found[0] == found[1] == found[2]
    assert [hit["word"] for hit in found[0]] == [hit.word for hit in expected]
    for name in ("start", "end", "time", "score"):
        np.testing.assert_allclose([hit[name] for hit in found[0]], [getattr(hit, name) for hit in expected], atol=1e-4)
    assert len(expected) >= seconds / 5 - 1


def _base64(samples: np.ndarray) -> str:
    import base64

    return base64.b64encode(samples.astype("<f4").tobytes()).decode()


@pytest.mark.parametrize("rate", [48_000, 44_100, 8_000])
def test_the_page_converts_rates_as_torchaudio_does(modules: sync_api.Page, rate: int) -> None:
    sound = np.random.default_rng(0).normal(size=rate // 2).astype(np.float32)
    expected = resample(torch.from_numpy(sound), rate, RATE).numpy()
    found = modules.evaluate(
        """async ([sound, rate]) => {
          const { Resampler } = await import("./resampler.js");
          const resampler = new Resampler(rate, 16000), given = [];
          for (let at = 0; at < sound.length; at += 128) {
            given.push(...resampler.add(Float32Array.from(sound.slice(at, at + 128))));
          }
          return given;
        }""",
        [sound.tolist(), rate],
    )
    assert len(expected) - 40 < len(found) <= len(expected)  # what the filter reaches over waits for more
    np.testing.assert_allclose(found, expected[: len(found)], atol=2e-4)


def test_another_spotter_can_be_chosen_and_a_file_that_is_none_gets_a_sentence(
    web: Opened, tmp_path: Path, encoder: PhoneBindEncoder
) -> None:
    import onnx

    from kws_imagebind.spotting.export import export

    opened(web)
    port = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [port], [])
    graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1]))
    whole = (PAGE.parents[1] / "README.md").read_bytes()
    spotter = export(encoder, ["<b>lamp</b>=/L AE M P/"], tmp_path / "lamp.onnx", int8=True).path
    for name, content in (
        ("readme.onnx", whole),
        ("empty.onnx", b""),
        ("other.onnx", onnx.helper.make_model(graph).SerializeToString()),
        ("short.onnx", spotter.read_bytes()[:10_000]),
    ):
        (tmp_path / name).write_bytes(content)
        web.page.locator("#pick").set_input_files(tmp_path / name)
        web.expect("problem", f"'{name}' is not a spotter: expected a file that 'kws-imagebind export' wrote.")
        assert web.page.locator("#words .word").all_inner_texts() == list(WORDS)  # the one before stays
    web.picture("problem")
    drop = """(bytes) => {
      const file = new File([Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0))], "lamp.onnx");
      const data = new DataTransfer();
      data.items.add(file);
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    web.page.evaluate(drop, _base64_bytes(spotter.read_bytes()))
    web.expect("file", "lamp.onnx: 1 word, int8")
    assert web.page.locator("#words .word").all_inner_texts() == ["<b>lamp</b>"]
    sync_api.expect(web.page.locator("#problem")).to_be_hidden()
    assert not web.complaints


def _base64_bytes(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("without", "sentence"),
    [
        ("spotter.onnx", "There is no spotter.onnx beside this page: run 'make web'"),
        ("vendor/**", "onnxruntime-web is missing in the folder vendor/: run 'make web'"),
        ("vendor/*.wasm", "WebAssembly could not be started"),
        ("WebAssembly", "This browser has no WebAssembly"),
    ],
)
def test_what_is_missing_gets_a_sentence(web: Opened, without: str, sentence: str) -> None:
    if without == "WebAssembly":
        web.page.add_init_script("delete window.WebAssembly")
    else:
        web.page.route(f"**/{without}", lambda route: route.fulfill(status=404))
    web.page.goto(web.address)
    web.expect("problem", sentence)
    web.expect("status", "No spotter is loaded.")
    assert web.page.locator("#toggle").is_disabled()


def test_a_microphone_that_is_refused_gets_a_sentence(playwright: sync_api.Playwright, address: str) -> None:
    browser = launch(playwright, FAKE[1], "--deny-permission-prompts")
    try:
        web = opened(Opened(browser.new_page(), address))
        web.page.locator("#toggle").click()
        web.expect("problem", "The microphone was refused. Allow it for this page")
        web.expect("status", "Not listening.")
        web.picture("refused")
        sync_api.expect(web.page.locator("#toggle")).to_be_enabled()  # for another try
        assert not web.hits()
    finally:
        browser.close()


def test_a_microphone_that_cannot_be_opened_gets_a_sentence(web: Opened) -> None:
    opened(web)
    for name, sentence in (
        ("NotFoundError", "No microphone was found. Connect one"),
        ("NotReadableError", "The microphone cannot be read: another program may be using it."),
        ("AbortError", "The microphone cannot be used (it broke)."),
    ):
        web.page.evaluate(
            """(name) => {
              navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("it broke", name); };
            }""",
            name,
        )
        web.page.locator("#toggle").click()
        web.expect("problem", sentence)
        web.expect("status", "Not listening.")
    web.page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    web.page.locator("#toggle").click()
    web.expect("problem", "only to a page at https:// or at localhost")
    assert not web.complaints


def test_a_microphone_that_is_unplugged_is_said(web: Opened) -> None:
    web.page.add_init_script(
        """const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wish) => (window.stream = await ask(wish));"""
    )
    opened(web).page.locator("#toggle").click()
    web.expect("status", "Listening, 0:0")
    web.page.evaluate("stream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    web.expect("problem", "The microphone is gone")
    web.expect("status", "Not listening.")


def test_nothing_can_be_loaded_from_elsewhere(web: Opened, tmp_path: Path) -> None:
    opened(web)
    with served(tmp_path) as elsewhere:
        assert web.page.evaluate("(url) => fetch(url).then(() => 'loaded', () => 'refused')", elsewhere) == "refused"
    assert any("Content Security Policy" in said for said in web.complaints)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_screen(web: Opened, width: int) -> None:
    web.page.set_viewport_size({"width": width, "height": 800})
    opened(web)
    assert web.page.evaluate("document.scrollingElement.scrollWidth") <= width
    box = web.page.locator("#hits-title").bounding_box()
    assert box is not None and box["y"] < 800  # what was heard is in sight
