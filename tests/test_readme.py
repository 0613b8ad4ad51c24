"""The front page: its quick starts run as they stand, its pictures are there and small, its addresses agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def quick_start(user: str) -> str:
    found = re.search(rf"^\*\*{re.escape(user)}\*\*.*?```python\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    assert found, user
    return found[1]


@pytest.mark.parametrize(("user", "printed"), [("As a library", "('stop', 0."), ("With `data.py`", "")])
def test_a_quick_start_runs_as_it_stands(user: str, printed: str) -> None:
    code = quick_start(user)
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    if "data" in user:
        code += "\nassert text.shape == (1, 77) and audio.shape == (1, 3, 1, 128, 204) and len(words) == 37"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(printed)


def test_pictures_are_there_described_and_small() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\((docs/images/[\w.]+)\)", README)
    assert {path for _, path in pictures} == {f"docs/images/{name}.png" for name in ("demo", "report", "notebook")}
    assert all(len(text) > 20 for text, _ in pictures)
    assert sum((PROJECT / path).stat().st_size for _, path in pictures) < 500_000


def test_the_badge_opens_the_notebook_of_the_same_repository() -> None:
    badge = re.search(
        r"^\[colab\]: https://colab\.research\.google\.com/github/(.+)/blob/main/(.+)$", README, re.MULTILINE
    )
    assert badge is not None and README.count("[colab]") == 3
    notebook = PROJECT / badge[2]
    if not notebook.is_file():
        pytest.skip(f"{badge[2]} is not in this copy")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    assert f'REPOSITORY = "https://github.com/{badge[1]}"' in source
