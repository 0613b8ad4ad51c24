"""The record button in headless Chromium, fed with a tone: what the kernel gets is a WAV file of it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("anywidget")
playwright = pytest.importorskip("playwright.sync_api")

from kws_imagebind.notebook.microphone import SCRIPT, Microphone  # noqa: E402

CHROMIUM = next((path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None)
PAGE = """
<div id="cell"></div>
<script type="module">
const source = atob("%s");
const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
const state = { seconds: 0.8 };
const model = { get: (name) => state[name], set: (name, value) => (state[name] = value), save_changes: () => {
  window.wav = btoa(String.fromCharCode(...new Uint8Array(state.wav.buffer)));
} };
module.default.render({ model, el: document.getElementById("cell") });
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_button_hands_over_what_was_spoken(tmp_path: Path) -> None:
    time = np.arange(3 * 48_000) / 48_000
    soundfile.write(tmp_path / "spoken.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 48_000)
    (tmp_path / "page.html").write_text(PAGE % base64.b64encode(SCRIPT.read_bytes()).decode())
    arguments = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                 f"--use-file-for-fake-audio-capture={tmp_path / 'spoken.wav'}"]  # fmt: skip
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        page = browser.new_page()
        page.set_default_timeout(180_000)
        page.goto((tmp_path / "page.html").as_uri())
        page.get_by_role("button", name="Record").click()
        page.get_by_text("recorded; run the next cell").wait_for(timeout=180_000)
        wav = base64.b64decode(page.evaluate("window.wav"))
        browser.close()
    samples, rate = soundfile.read(io.BytesIO(wav))
    assert 0.5 < len(samples) / rate < 1.6 and np.abs(samples).max() > 0.1
    loudest = np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)
    assert loudest == pytest.approx(440, abs=10)


def test_the_kernel_keeps_the_recording_as_a_file() -> None:
    button = Microphone(2.0)
    assert button.path is None and button.seconds == 2.0
    sound = io.BytesIO()
    soundfile.write(sound, np.full(1_600, 0.25), 16_000, format="WAV")
    button.wav = sound.getvalue()
    samples, rate = soundfile.read(button.path)
    assert rate == 16_000 and len(samples) == 1_600
