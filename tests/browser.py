"""A Chromium without a screen, for the tests of pages; they skip where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

PATIENCE = 180_000  # milliseconds, for a machine that has much else to do
# What Chromium would ask the world on its own, before any page is opened.
QUIET = (
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
    "--disable-domain-reliability", "--disable-client-side-phishing-detection", "--metrics-recording-only",
    "--no-first-run", "--no-pings", "--disable-features=OptimizationHints,MediaRouter,Translate,DialMediaRouteProvider",
)  # fmt: skip
WIDTHS = (390, 768, 1280, 1920)  # a telephone, a tablet, a laptop, a large screen


def chromium() -> str:
    """The path of a Chromium; skips the test where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no Chromium on the path ({', '.join(names)}); install one to test pages in it")
    return found


def launch(playwright: Any, *arguments: str) -> Any:
    """The browser, running."""
    sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]  # root has none
    return playwright.chromium.launch(executable_path=chromium(), args=[*sandbox, *QUIET, *arguments])


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served to this machine alone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=os.fspath(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
