"""The report in a real Chromium without a screen, on a telephone, a tablet, a laptop and a large screen.

With KWS_IMAGEBIND_SCREENSHOTS=DIR each page leaves a picture there.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from PIL import Image

from kws_imagebind.embeddings.map import EmbeddingMap
from kws_imagebind.metrics.intervals import wilson
from kws_imagebind.reporting.leaderboard import Leaderboard, Row
from kws_imagebind.reporting.predictions import Prediction
from kws_imagebind.reporting.report import Report, write_report
from kws_imagebind.reporting.results import Results, from_dict
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS
from tests.browser import PATIENCE, WIDTHS, launch
from tests.reporting.test_results import OLD, OPEN_SET

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")

# Cells and headers whose own width is less than that of their longest word: what breaks a word inside.
BROKEN = """() => [...document.querySelectorAll("td, th")].filter((cell) => {
  if (!cell.textContent.trim()) return false;
  const range = document.createRange();
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    for (const word of node.textContent.matchAll(/\\S+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (tops.size > 1 && !word[0].includes("-") && !word[0].includes("/")) return true;
    }
  return false;
}).map((cell) => cell.textContent)"""
# Figures that are wider than what shows them, where that does not scroll.
CUT = """() => [...document.querySelectorAll("svg")].filter((figure) => {
  const box = figure.getBoundingClientRect();
  if (!box.width) return false;  // folded
  const frame = figure.closest(".frame, .scroll");
  if (frame && getComputedStyle(frame).overflowX === "auto") return false;
  const room = figure.parentElement.getBoundingClientRect();
  return box.left < room.left - 1 || box.right > room.right + 1;
}).map((figure) => figure.getAttribute("aria-label"))"""
TILES = """() => {
  const all = document.querySelector(".tiles").getBoundingClientRect();
  const rows = Map.groupBy([...document.querySelectorAll(".tile")], (tile) => tile.getBoundingClientRect().top);
  return [...rows.values()].map((row) => [row.length, all.right - row.at(-1).getBoundingClientRect().right]);
}"""


def lines(words: tuple[str, ...], n: int = 700) -> tuple[Prediction, ...]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        said = words[i % min(35, len(words))]
        heard = said if rng.random() < 0.8 else words[int(rng.integers(len(words)))]
        found.append(Prediction(f"{said}/{i}.wav", said, heard, 0.5, float(rng.random()), f"s{i % 40}"))
    return tuple(found)


def results(words: tuple[str, ...]) -> Results:
    curve = [[0, 0], *([x / 50, (x / 50) ** 0.2] for x in range(1, 50)), [1, 1]]
    rules = [
        {**OPEN_SET, "rule": rule, "outsiders": kind, "inside": 11_005, "outside": 4_890, "outside_speakers": 74,
         "sources": "speakers and recordings", "curve": curve}
        for rule in ("best score", "margin") for kind in ("other words", "silence", "both")
    ]  # fmt: skip
    skipped = [{"path": f"a/very/long/path/of/a/recording/{i}_nohash_0.wav", "reason": "empty"} for i in range(3)]
    about = {"task": "v2-35", "dataset": "speech-commands", "split": "testing", "encoder": "phonebind"}
    return from_dict({**OLD, **about, "open_set": rules, "skipped": skipped, "per_class": dict.fromkeys(words)})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports: a usual one with all its figures, one from thousands of candidates, one from a table alone."""
    usual = SPEECH_COMMANDS_WORDS
    many = (*usual, *(f"candidate{i}" for i in range(4_965)))
    rows = lines(usual)
    places = np.random.default_rng(1).normal(size=(len(rows), 2))
    sure = tuple(replace(line, confidence=min(1.0, line.margin)) for line in rows)
    bare = tuple(replace(line, path=f"{'long' * 30}/{line.path}", margin=float("nan")) for line in lines(usual[:3], 40))
    reports = {
        "usual": Report(sure, usual, results(usual), "A run", EmbeddingMap(tuple(row.path for row in rows), places)),
        "many": Report(lines(many), many, results(many), "Many words"),
        "bare": Report(bare, usual[:3], title="a" * 200),
    }
    folder = tmp_path_factory.mktemp("pages")
    clip = folder / "clip.wav"
    soundfile.write(clip, np.zeros(1600), 16_000)
    for name, report in reports.items():
        write_report(report, folder / name, lambda path: clip)
    return {name: folder / name / "report.html" for name in reports}


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


def opened(browser: sync_api.Browser, path: Path, width: int, dark: bool = False) -> sync_api.Page:
    """The page; what it complains of fails the test."""
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", has_touch=width == WIDTHS[0]
    )
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda said: pytest.fail(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("name", ["usual", "many", "bare"])
def test_nothing_overflows_breaks_or_is_cut_off(browser: sync_api.Browser, pages: dict[str, Path], name: str) -> None:
    page = opened(browser, pages[name], WIDTHS[0])
    assert page.evaluate("document.scrollingElement.scrollHeight") < 14_000
    page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if folder := os.environ.get("KWS_IMAGEBIND_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"report-{name}-{width}.png", full_page=True)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        assert page.evaluate(BROKEN) == [], width
        assert page.evaluate(CUT) == [], width
        tiles = page.evaluate(TILES)
        assert all(gap <= 1 for _, gap in tiles), f"a row of tiles is not filled at {width}"
        assert width < WIDTHS[1] or max(tiles)[0] - min(tiles)[0] <= 1, f"a tile is left alone at {width}"
    page.close()


def test_a_cell_is_read_by_touch_by_pointer_and_by_keyboard(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["usual"], WIDTHS[0])
    frame = page.locator(".frame.sticky").first
    said = frame.locator("xpath=following-sibling::output")
    cells = frame.locator("g:has(> title)")
    titles = [text or "" for text in cells.locator("title").all_text_contents()]
    cells.nth(1).evaluate("cell => cell.scrollIntoView({block: 'center', inline: 'center'})")
    cells.nth(1).tap()
    assert said.text_content() == titles[1] and "clips" in titles[1]
    frame.focus()
    page.keyboard.press("Home")
    assert said.text_content() == titles[0]
    seen = {titles[0]}
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End"):
        page.keyboard.press(key)
        seen.add(said.text_content() or "")
    assert said.text_content() == titles[-1] and seen <= set(titles) and len(seen) >= 4
    chosen = frame.locator(".chosen").bounding_box()
    room = frame.bounding_box()
    assert chosen and room and room["x"] <= chosen["x"] and chosen["x"] + chosen["width"] <= room["x"] + room["width"]
    wide = opened(browser, pages["usual"], WIDTHS[2])
    over = wide.locator(".frame.sticky g:has(> title)").nth(2)
    over.hover()
    assert wide.locator(".frame.sticky + output").first.text_content() == titles[2]
    page.close(), wide.close()


def test_a_finger_beside_a_point_of_the_map_means_the_nearest(
    browser: sync_api.Browser, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["usual"], WIDTHS[0])
    frame = page.locator(".frame.map")
    frame.scroll_into_view_if_needed()
    room = frame.bounding_box()
    assert room is not None
    page.touchscreen.tap(room["x"] + room["width"] / 2, room["y"] + room["height"] / 2)
    text = frame.locator("xpath=following-sibling::output").text_content() or ""
    assert text in page.locator(".frame.map title").all_text_contents()
    # The map was wider than its frame, and the page began with its middle.
    assert page.evaluate("document.querySelector('.frame.map').scrollLeft") > 50
    page.close()


def test_names_of_the_spoken_words_stay_while_the_matrix_scrolls(
    browser: sync_api.Browser, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["usual"], WIDTHS[0])
    before = page.locator(".frame.sticky .names").first.bounding_box()
    page.evaluate("document.querySelector('.frame.sticky').scrollLeft = 400")
    assert page.evaluate("document.querySelector('.frame.sticky').scrollLeft") > 300
    assert page.locator(".frame.sticky .names").first.bounding_box() == before
    page.close()


def test_the_page_has_a_dark_side_that_can_be_read(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    colours = "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; }"
    shades = []
    for dark in (False, True):
        page = opened(browser, pages["usual"], WIDTHS[2], dark)
        shades.append([sum(map(int, each[4:-1].split(","))) for each in page.evaluate(colours)])
        if folder := os.environ.get("KWS_IMAGEBIND_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"report-{'dark' if dark else 'light'}.png", full_page=True)
        page.close()
    (ink, paper), (dark_ink, dark_paper) = shades
    assert paper - ink > 400 and dark_ink - dark_paper > 400


def test_scripts_of_a_table_do_not_run(browser: sync_api.Browser, tmp_path: Path) -> None:
    evil = '"><script>document.title = "taken"</script><img src=x onerror="document.title = \'taken\'">'
    rows = (Prediction(f"{evil}.wav", evil, "no"), Prediction("b.wav", "no", evil))
    write_report(Report(rows, (evil, "no"), title=evil), tmp_path)
    page = opened(browser, tmp_path / "report.html", WIDTHS[2])
    assert page.title() != "taken" and evil in page.locator("h1").inner_text()
    # Were it to slip through all the same, the page's policy would not run it.
    page.close()
    page = browser.new_page()
    text = (tmp_path / "report.html").read_text().replace("</main>", "<script>document.title = 'taken'</script></main>")
    (tmp_path / "report.html").write_text(text)
    page.goto((tmp_path / "report.html").as_uri())
    assert page.title() != "taken"
    page.close()


def board() -> Leaderboard:
    """Three encoders with all that a row can hold."""

    def row(name: str, right: int) -> Row:
        share = wilson(right, 100)
        return Row(
            encoder=name, kind="zero-shot", saw_words=False, accuracy=share, macro=share, pair_eer=share,
            pair_auc=share, auroc=share, outside=50, parameters=2_900_000, bytes=4_000_000, licence="MIT",
            trained_on=("LibriSpeech", "other speech"), templates=("{}",), precision="fp32", fingerprint="abc",
            seconds=0.01, cpu_seconds=0.01, load_seconds=1.0, memory=10**9,
            hits={str(clip): clip < right for clip in range(100)}, speakers={},
        )  # fmt: skip

    rows = (row("phonebind", 93), row("clap:laion/larger_clap_general", 40), row("imagebind", 24))
    return Leaderboard(rows, {"glap": "needs a checkpoint"}, "v2-35", "speech-commands", "", 100, 35, 0, 1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_leaderboard_on_a_telephone_shows_where_its_tables_go_on(
    browser: sync_api.Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    path = tmp_path / "leaderboard.html"
    path.write_text(board().page(), encoding="utf-8")
    page = browser.new_page(viewport={"width": WIDTHS[0], "height": 800}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[0]
    table = page.locator(".wide").first
    assert table.evaluate("box => box.scrollWidth > box.clientWidth + 100")

    def edges() -> tuple[float, float]:
        """How much darker or lighter the left and the right edge are than the page."""
        image = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("L")).astype(float)
        ground = float(np.median(image))
        return abs(float(np.median(image[:, :3])) - ground), abs(float(np.median(image[:, -3:])) - ground)

    left, right = edges()
    assert left < 8 and right > 30
    if "KWS_IMAGEBIND_SCREENSHOTS" in os.environ:
        page.screenshot(path=Path(os.environ["KWS_IMAGEBIND_SCREENSHOTS"]) / f"leaderboard-{scheme}-390.png")
    table.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    left, right = edges()
    assert left > 30 and right < 8
    page.close()
