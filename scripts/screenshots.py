"""Draws the README's pictures, of the report, the notebook and the demo, in a Chromium without a screen.

    python scripts/screenshots.py            # writes docs/images/*.png
    python scripts/screenshots.py demo       # only these

It needs the extras demo, notebook and test, and a Chromium on the path. Nothing is fetched from
anywhere: what a page asks of another machine is refused.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
NOTEBOOK = ROOT / "KWS-ImageBind.ipynb"
SHARPNESS = 1.5  # pixels of the picture for one of the page
COLOURS = 256  # of a palette, which these pictures of few colours do not miss
# Where the heading over the first figure stands, and how far it is from there to the figure's end.
SECTION = """() => {
  const bottom = document.querySelector(".jp-OutputArea img").getBoundingClientRect().bottom + scrollY;
  const tops = [...document.querySelectorAll("h2")].map((each) => each.getBoundingClientRect().top + scrollY);
  const top = Math.max(...tops.filter((each) => each < bottom));
  return [top, bottom - top];
}"""


def report(browser: Browser) -> Iterator[Page]:
    """The head of report.html, of the bundled encoder on the bundled sample."""
    with tempfile.TemporaryDirectory() as folder:
        run("evaluate", "--quiet", "--no-cache", "--output", folder)
        page = new_page(browser, 1100, 940)
        page.goto((Path(folder) / "report.html").as_uri())
        yield page


def notebook(browser: Browser) -> Iterator[Page]:
    """The notebook's first section with a figure."""
    if not NOTEBOOK.is_file():
        raise SystemExit(f"{NOTEBOOK.name} is not in {ROOT}")
    with tempfile.TemporaryDirectory() as folder:
        convert = [sys.executable, "-m", "scripts.notebook", str(NOTEBOOK), "--kept", "--html", folder]
        subprocess.run(convert, check=True, capture_output=True, cwd=ROOT)
        page = new_page(browser, 900, 760)
        page.goto((Path(folder) / NOTEBOOK.with_suffix(".html").name).as_uri())
        top, height = page.evaluate(SECTION)
        page.set_viewport_size({"width": 900, "height": round(height) + 26})
        page.evaluate(f"window.scrollTo(0, {top - 20})")
        yield page


def demo(browser: Browser) -> Iterator[Page]:
    """The demo after somebody said three words."""
    with served_demo() as address:
        page = new_page(browser, 1120, 940)
        page.goto(address)
        page.get_by_label("Words to choose from").fill("yes, no, left, right, stop, lamp, kettle")
        page.get_by_role("button", name="Three words").click()
        page.locator("#spectrogram image").wait_for()
        page.get_by_text("3 words found").wait_for()
        page.locator("h1").click()  # so that no field has the focus
        page.wait_for_timeout(500)  # until the waveform is drawn
        yield page


PICTURES: dict[str, Callable[[Browser], Iterator[Page]]] = {"report": report, "notebook": notebook, "demo": demo}


def new_page(browser: Browser, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=SHARPNESS)
    page.route("**/*", stay_here)
    return page


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "kws_imagebind", *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@contextmanager
def served_demo() -> Iterator[str]:
    command = [sys.executable, "-m", "kws_imagebind", "demo", "--no-browser"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" ")[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def stay_here(route: Route) -> None:
    """Lets a page have its own files and nothing else, as a reader without a network."""
    at_home = urlsplit(route.request.url).hostname in (None, "", "127.0.0.1")
    route.continue_() if at_home else route.abort()


def save(page: Page, path: Path) -> None:
    """A picture of what is in view, with a palette, so that it is small."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the README's pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; by default all")
    names = parser.parse_args().names or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("Chromium is not on the path; install it")
    sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]  # root has none
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--disable-background-networking", *sandbox]
        )
        for name in names:
            for page in PICTURES[name](browser):
                save(page, IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
