"""Milliseconds a window of an exported file: onnxruntime-web in Chromium beside onnxruntime in Python.

    python -m benchmarks.web        # after `make web`, which fetches onnxruntime-web

One window at a time, one thread, in turns of a few windows each, so that what else the machine does slows all alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.models.phonebind import SAMPLES
from kws_imagebind.spotting.export import export, session_of
from scripts.onnxruntime_web import VENDOR, VERSION
from tests.browser import launch, served

WORDS = ["computer", "hey kitchen", "cappuccino"]
EACH = 5  # windows a turn
LOAD = """async (names) => {
  const { load } = await import("./model.js");
  window.spotters = {};
  for (const name of names) window.spotters[name] = await load(await (await fetch(`${name}.onnx`)).arrayBuffer());
}"""
RUN = """async ([name, windows, samples]) => {
  const taken = [];
  for (let each = 0; each < windows; each++) {
    const window = Float32Array.from({ length: samples }, () => Math.random() - 0.5);
    const start = performance.now();
    await spotters[name].score(window);
    taken.push(performance.now() - start);
  }
  return taken;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    if not VENDOR.is_dir():
        raise SystemExit(f"{VENDOR} is missing; 'make web' fetches it")
    encoder = PhoneBindEncoder.from_weights(device="cpu")
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as address, sync_playwright() as playwright:
        folder = Path(name)
        for script in VENDOR.parent.glob("*.js"):
            copy(script, folder)
        (folder / "vendor").symlink_to(VENDOR)
        (folder / "index.html").write_text("<!doctype html><title>windows</title>")
        for kind in ("float32", "int8"):
            export(encoder, WORDS, folder / f"{kind}.onnx", int8=kind == "int8")
        browser = launch(playwright)
        page = browser.new_page()
        page.goto(address)
        taken = measured(page, {kind: session_of(folder / f"{kind}.onnx") for kind in ("float32", "int8")}, turns)
        print(
            f"{len(WORDS)} words; onnxruntime-web {VERSION} in Chromium {browser.version}; {turns * EACH} windows each"
        )
        browser.close()
    for (place, kind), each in taken.items():
        print(f"{place}, {kind}: {statistics.median(each):.1f} ms a window in the median, least {min(each):.1f}")


def measured(page: Page, sessions: dict[str, Any], turns: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each window, by place and kind of file; the first turn only warms up."""
    page.evaluate(LOAD, list(sessions))
    draw = np.random.default_rng(0)
    taken: dict[tuple[str, str], list[float]] = {}
    for turn in range(turns + 1):
        for kind, session in sessions.items():
            found = {"Chromium": page.evaluate(RUN, [kind, EACH, SAMPLES]), "Python": []}
            for window in draw.uniform(-0.5, 0.5, (EACH, 1, SAMPLES)).astype(np.float32):
                start = time.perf_counter()
                session.run(["scores"], {"waveforms": window})
                found["Python"].append(1000 * (time.perf_counter() - start))
            for place, each in found.items():
                taken.setdefault((place, kind), []).extend(each if turn else [])
    return taken


if __name__ == "__main__":
    main()
