"""How the tests run commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from kws_imagebind.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """The exit code of a command, and what it wrote to stdout and stderr."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's own
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
