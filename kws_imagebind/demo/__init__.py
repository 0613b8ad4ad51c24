"""A page to speak to: `answers` works out what it says, `panels` makes HTML of it, `app` shows it with Gradio.

`verdict` decides what was said, and keeps a session's history; `live` listens, to what `routes` takes from the page.
"""

from __future__ import annotations

from importlib.util import find_spec

from kws_imagebind.registry import to_install

NEEDED = ("gradio", "matplotlib")


class DemoError(RuntimeError):
    """A demo that cannot be started, or cannot take another visitor; the message says what to do."""


def check_installed() -> None:
    """Checks, before anything is loaded, that the demo can be shown.

    Raises:
        DemoError: a package of the extra `demo` is missing.
    """
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise DemoError(f"the demo needs {' and '.join(missing)}; {to_install(' and '.join(missing), 'demo')}")
