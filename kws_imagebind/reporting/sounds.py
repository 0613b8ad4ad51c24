"""The clips behind a report: found on this machine, and put into the page so that a browser can play them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from pathlib import Path

LARGEST_CLIP = 1_000_000  # bytes
KINDS = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
}
# Where a corpus keeps its clips, below a folder that is named.
PLACES = ("", "SpeechCommands/speech_commands_v0.02", "SpeechCommands/speech_commands_v0.01", "speech_commands_v0.02")

Find = Callable[[str], Path | None]


def search(folders: Iterable[Path]) -> Find:
    """Finds clips by their path in folders, and in the places where a corpus keeps them.

    A path that leads out of them, whether absolute, by `..` or by a link, is not followed: a table from elsewhere must
    not put files of this machine into a page that is passed on. A folder itself may be a link.
    """
    roots = [root.resolve() for folder in folders for place in PLACES if (root := folder / place).is_dir()]

    def find(path: str) -> Path | None:
        return next((found for root in roots if (found := _inside(root, path))), None)

    return find


def data_uri(find: Find | None, path: str) -> str | None:
    """A clip as a data URI; None if it is not found, too large, or of a kind that browsers do not play."""
    kind = KINDS.get(Path(path).suffix.lower())
    try:
        found = find(path) if find and kind else None
        if found is None or not found.is_file() or found.stat().st_size > LARGEST_CLIP:
            return None
        return f"data:{kind};base64,{base64.b64encode(found.read_bytes()).decode()}"
    except OSError:  # a report without this sound is better than none
        return None


def _inside(root: Path, path: str) -> Path | None:
    """A file in a folder, if it is there and nowhere else."""
    try:
        found = (root / path).resolve()
        return found if found.is_relative_to(root) and found.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a NUL
        return None
